"""Both adapters of the retention store, what only the database can show, and the other stores that a deletion must reach."""

import asyncio
from datetime import timedelta

import psycopg
import pytest

from farthing.errors import InvalidRequest, Unavailable
from farthing.inprocess.responses import InProcessResponses
from farthing.inprocess.retention import InProcessRetention
from farthing.inprocess.stores import InProcessChanges
from farthing.ports import CHANNELS, ResponseStore
from farthing.postgres.answers import PostgresAnswers
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.pool import Database
from farthing.postgres.requests import PostgresRequests
from farthing.postgres.responses import PostgresResponses
from farthing.postgres.retention import PostgresRetention
from farthing.testing.responses import turn
from farthing.testing.retention import Kept, RetentionStoreContract, policy, request_id, transcript
from farthing.testing.stores import Clock, Stores, stored_answer
from farthing.types import new_id, uuid7_at


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.retention, farthing.transcripts, farthing.erasures, farthing.responses")
    return url


@pytest.fixture(params=["inprocess", "postgres"])
def kept(request: pytest.FixtureRequest) -> Kept:
    clock = Clock()
    if request.param == "inprocess":
        return Kept(store=InProcessRetention(InProcessChanges(), clock=clock), clock=clock)
    request.getfixturevalue("clean")
    return Kept(store=PostgresRetention(request.getfixturevalue("database"), clock=clock), clock=clock)


class TestRetention(RetentionStoreContract):
    pass


async def test_a_writer_that_waits_for_a_deletion_to_be_written_sees_it(database: Database, clean: str) -> None:
    """The batch has begun, by the database's own time, before the deletion commits."""
    store = PostgresRetention(database)
    await store.set_policy(policy(ttl_s=3600))
    with psycopg.connect(clean, autocommit=True) as deleting:
        deleting.execute("BEGIN")
        deleting.execute("SELECT pg_advisory_xact_lock(hashtextextended('farthing.erasures', 0))")
        writing = asyncio.create_task(store.put([transcript(1, user_id="ann"), transcript(2, user_id="bob")]))
        with psycopg.connect(clean, autocommit=True) as looking:
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while looking.execute(waits).fetchone() != (1,):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        deleting.execute("INSERT INTO farthing.erasures VALUES ('acme', 'transcripts', 'ann', clock_timestamp())")
        deleting.execute("COMMIT")
    assert await writing == 1
    assert await store.get(request_id(1)) is None


@pytest.mark.usefixtures("clean")
async def test_time_is_the_databases(database: Database) -> None:
    """Whatever the clock of the host says: what arrived a second ago is older than a deletion now, what arrives then is not."""
    store = PostgresRetention(database)
    await store.set_policy(policy())
    before = transcript(1, user_id="ann")
    await store.forget("acme", "ann")
    assert await store.put([before]) == 0
    await asyncio.sleep(0.1)
    assert await store.put([transcript(2, user_id="ann")]) == 1


@pytest.mark.usefixtures("clean")
async def test_no_tenant_sees_anothers_texts(database: Database) -> None:
    store = PostgresRetention(database)
    await store.set_policy(policy())
    await store.put([transcript(1)])
    for tenant, seen in (("acme", 1), ("rival", 0)):
        async with database.tenant(tenant) as connection:
            for table in (b"farthing.transcripts", b"farthing.retention"):
                row = await (await connection.execute(b"SELECT count(*) FROM " + table)).fetchone()
                assert row == (seen,)


async def test_policies_and_flushes_are_told_to_other_workers(database: Database, clean: str) -> None:
    store = PostgresRetention(database)
    news = PostgresChanges(clean).watch()
    try:
        async with asyncio.timeout(10):
            assert {(await anext(news))[0] for _ in CHANNELS} >= {"answers", "retention"}
            await store.set_policy(policy())
            assert await anext(news) == ("retention", "")
            await store.forget("acme", "ann")
            assert await anext(news) == ("retention", "")
    finally:
        await news.aclose()


async def test_a_store_that_is_away_is_unavailable(tmp_path: object) -> None:
    database = Database(f"postgresql:///x?host={tmp_path}", wait_s=0.2)
    await database.open()
    store = PostgresRetention(database)
    try:
        for call in (store.put([transcript(1)]), store.get(request_id(1)), store.enabled(1), store.forget("acme", None)):
            with pytest.raises(Unavailable):
                await call
    finally:
        await database.close()


@pytest.mark.usefixtures("clean")
async def test_a_text_that_cannot_be_stored_fails_its_batch_whole(database: Database) -> None:
    store = PostgresRetention(database)
    await store.set_policy(policy())
    with pytest.raises(InvalidRequest):
        await store.put([transcript(1), transcript(2, user_id="a\0b")])
    assert await store.get(request_id(1)) is None


@pytest.fixture(params=["inprocess", "postgres"])
def turns(request: pytest.FixtureRequest) -> tuple[ResponseStore, Clock]:
    clock = Clock()
    if request.param == "inprocess":
        return InProcessResponses(clock=clock), clock
    request.getfixturevalue("clean")
    return PostgresResponses(request.getfixturevalue("database"), clock=clock), clock


async def test_a_turn_that_was_on_its_way_is_not_stored_after_its_user_was_forgotten(turns: tuple[ResponseStore, Clock]) -> None:
    store, clock = turns
    now_ms = int(clock.now.timestamp() * 1000)
    before, after = uuid7_at(now_ms - 5, bytes(10)), uuid7_at(now_ms + 5, bytes(10))
    await store.put([turn(1, user_id="ann"), turn(2, user_id="bob")])
    assert await store.forget("acme", "ann") == 1
    await store.put([turn(3, id=before, user_id="ann"), turn(4, id=after, user_id="ann"), turn(5, user_id="bob")])
    found = [bool(await store.chain("acme", one, most=1, most_bytes=99)) for one in (before, after, turn(2).id, turn(5).id)]
    assert found == [False, True, True, True]
    assert await store.forget("acme", None) == 3


async def test_flushed_answers_go_and_none_from_before_comes_back(stores: Stores) -> None:
    await stores.answers.put([stored_answer("a"), stored_answer("b", tenant="rival")])
    assert await stores.answers.forget("acme") == 1
    late = stored_answer("c", created_at=stores.clock.now - timedelta(seconds=1))
    fresh = stored_answer("d", created_at=stores.clock.now + timedelta(seconds=1))
    await stores.answers.put([late, fresh, stored_answer("e", tenant="rival")])
    assert await stores.answers.get("acme", late.key) is None
    assert await stores.answers.get("acme", fresh.key) == fresh
    for seed in ("b", "e"):
        assert await stores.answers.get("rival", stored_answer(seed).key) is not None


@pytest.mark.usefixtures("clean")
async def test_a_flush_is_seen_by_those_who_ask(database: Database) -> None:
    store = PostgresRetention(database)
    await store.forget("acme", None)
    assert (await store.enabled(1))[1] is None, "texts were deleted, and no answers"
    await PostgresAnswers(database).forget("acme")
    first = (await store.enabled(1))[1]
    assert first is not None
    await PostgresAnswers(database).forget("rival")
    again = (await store.enabled(1))[1]
    assert again is not None
    assert again > first


async def test_a_request_that_nobody_knows_has_no_attempts(database: Database) -> None:
    assert await PostgresRequests(database).attempts(new_id()) == []
