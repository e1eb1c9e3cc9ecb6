"""Both adapters of the response store, and what only the database can show."""

import psycopg
import pytest

from farthing.errors import InvalidRequest, Unavailable
from farthing.inprocess.responses import InProcessResponses
from farthing.postgres.pool import Database
from farthing.postgres.responses import PostgresResponses
from farthing.testing.responses import Kept, ResponseStoreContract, turn, turn_id
from farthing.testing.stores import Clock


@pytest.fixture(params=["inprocess", "postgres"])
def kept(request: pytest.FixtureRequest) -> Kept:
    clock = Clock()
    if request.param == "inprocess":
        return Kept(store=InProcessResponses(clock=clock), clock=clock)
    with psycopg.connect(request.getfixturevalue("url")) as connection:
        connection.execute("TRUNCATE farthing.responses")
    return Kept(store=PostgresResponses(request.getfixturevalue("database"), clock=clock), clock=clock)


class TestResponses(ResponseStoreContract):
    pass


async def test_a_store_that_is_away_is_unavailable(tmp_path: object) -> None:
    database = Database(f"postgresql:///x?host={tmp_path}", wait_s=0.2)
    await database.open()
    store = PostgresResponses(database)
    try:
        with pytest.raises(Unavailable):
            await store.put([turn(1)])
        with pytest.raises(Unavailable):
            await store.chain("acme", turn_id(1), most=1, most_bytes=1)
        with pytest.raises(Unavailable):
            await store.delete("acme", turn_id(1))
    finally:
        await database.close()


async def test_a_turn_that_cannot_be_stored_fails_its_batch_whole(database: Database) -> None:
    clock = Clock()
    store = PostgresResponses(database, clock=clock)
    with pytest.raises(InvalidRequest):
        await store.put([turn(100), turn(101, user_id="a\0b")])
    assert await store.chain("acme", turn_id(100), most=1, most_bytes=99) == []


async def test_in_process_the_oldest_go_when_there_is_no_room() -> None:
    store = InProcessResponses(max_bytes=250, clock=Clock())
    await store.put([turn(number, payload=b"x" * 100) for number in range(4)])
    assert [bool(await store.chain("acme", turn_id(number), most=1, most_bytes=1)) for number in range(4)] == [False, False, True, True]
