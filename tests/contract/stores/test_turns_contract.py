"""Both adapters of the turns' store, and what only the database can show."""

import psycopg
import pytest

from farthing.inprocess.turns import InProcessTurns
from farthing.postgres.pool import Database
from farthing.postgres.turns import PostgresTurns
from farthing.testing.stores import Clock
from farthing.testing.turns import Talking, TurnStoreContract, said


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.turns, farthing.erasures")
    return url


@pytest.fixture(params=["inprocess", "postgres"])
def talking(request: pytest.FixtureRequest) -> Talking:
    clock = Clock()
    if request.param == "inprocess":
        return Talking(store=InProcessTurns(clock=clock), clock=clock)
    request.getfixturevalue("clean")
    return Talking(store=PostgresTurns(request.getfixturevalue("database"), clock=clock), clock=clock)


class TestTurns(TurnStoreContract):
    pass


@pytest.mark.usefixtures("clean")
async def test_no_tenant_sees_anothers_turns(database: Database) -> None:
    clock = Clock()
    await PostgresTurns(database, clock=clock).add([said(1, clock)])
    for tenant, seen in (("acme", 1), ("rival", 0)):
        async with database.tenant(tenant) as connection:
            assert await (await connection.execute(b"SELECT count(*) FROM farthing.turns")).fetchone() == (seen,)


async def test_in_process_the_oldest_go_beyond_the_bound() -> None:
    clock = Clock()
    store = InProcessTurns(max_turns=2, clock=clock)
    await store.add([said(number, clock) for number in (1, 2, 3)])
    assert [turn.id.int for turn in await store.of_user("acme", "ann", limit=10)] == [2, 3]
