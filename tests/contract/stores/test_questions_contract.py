"""Both adapters of the questions' store, and what only the database can show."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
import psycopg
import pytest

from farthing.errors import Unavailable
from farthing.inprocess.cache_records import InProcessCacheRecords
from farthing.inprocess.questions import InProcessQuestions
from farthing.inprocess.stores import InProcessChanges
from farthing.ports import CHANNELS, QuestionStore
from farthing.postgres.cache_records import PostgresCacheRecords
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.pool import Database
from farthing.postgres.questions import _SEARCH, _TUNE, PostgresQuestions, _text
from farthing.testing.cache_records import CacheRecordsContract, Recorded, served_hit, verdict
from farthing.testing.questions import Asked, QuestionStoreContract, partition, question, vector
from farthing.testing.stores import Clock, watched
from farthing.types import CacheScope, QuestionsGone


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.questions, farthing.cache_hits, farthing.cache_verdicts")
    return url


@pytest.fixture(params=["inprocess", "postgres"])
def asked(request: pytest.FixtureRequest) -> Asked[QuestionStore]:
    clock = Clock()
    if request.param == "postgres":
        request.getfixturevalue("clean")
        return Asked(index=PostgresQuestions(request.getfixturevalue("database"), clock=clock), clock=clock)
    return Asked(index=InProcessQuestions(clock=clock), clock=clock)


class TestQuestions(QuestionStoreContract):
    pass


@pytest.fixture(params=["inprocess", "postgres"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    clock = Clock()
    if request.param == "postgres":
        url, database = request.getfixturevalue("clean"), request.getfixturevalue("database")
        return Recorded(
            records=PostgresCacheRecords(database, clock=clock),
            questions=PostgresQuestions(database, clock=clock),
            changes=PostgresChanges(url),
            clock=clock,
        )
    changes = InProcessChanges()
    questions = InProcessQuestions(changes, clock=clock)
    return Recorded(records=InProcessCacheRecords(questions, changes, clock=clock), questions=questions, changes=changes, clock=clock)


class TestRecords(CacheRecordsContract):
    pass


async def test_workers_hear_what_is_put_and_what_goes(recorded: Recorded) -> None:
    """And can tell which of their own copies are meant."""
    questions = [question(f"q{n}", recorded.clock, user_id="ann" if n else None) for n in range(400)]
    heard: set[str] = set()
    async with aclosing(watched(recorded.changes)) as news:
        while (await anext(news))[0] != CHANNELS[-1]:
            pass
        await recorded.questions.put(questions)
        while len(heard) < 400:
            channel, payload = await anext(news)
            assert channel == "questions"
            heard |= set(payload.split(","))
        assert heard == {one.id.hex for one in questions}
        await recorded.questions.remove("acme", [questions[0].id, question("nobody", recorded.clock).id])
        assert await _gone(news) == QuestionsGone(tenant="acme", ids=(questions[0].id,), at=recorded.clock.now)
        scope = CacheScope(user_id="ann", tag="\u00e9")
        await recorded.questions.forget("acme", scope)
        assert await _gone(news) == QuestionsGone(tenant="acme", scope=scope, at=recorded.clock.now)


@pytest.mark.usefixtures("clean")
async def test_a_scope_that_is_too_long_to_be_told_is_told_as_all_of_the_tenant(database: Database, url: str) -> None:
    store = PostgresQuestions(database)
    async with aclosing(watched(PostgresChanges(url))) as news:
        while (await anext(news))[0] != CHANNELS[-1]:
            pass
        await store.forget("acme", CacheScope(tag="x" * 2000, namespace="\u00e9" * 4000))
        note = await _gone(news)
    assert (note.tenant, note.ids, note.scope) == ("acme", None, CacheScope())


async def _gone(news: AsyncIterator[tuple[str, str]]) -> QuestionsGone:
    async for channel, payload in news:
        if channel == "questions":
            return msgspec.json.decode(payload, type=QuestionsGone)
    raise AssertionError


@pytest.mark.usefixtures("clean")
async def test_no_tenant_sees_anothers_questions(database: Database) -> None:
    clock = Clock()
    store, records = PostgresQuestions(database, clock=clock), PostgresCacheRecords(database, clock=clock)
    await store.put([question("q", clock)])
    await records.served([served_hit("a", clock)])
    await records.add_verdicts([verdict("a", clock)])
    for tenant, seen in (("acme", 1), ("rival", 0)):
        async with database.tenant(tenant) as connection:
            for table in (b"farthing.questions", b"farthing.cache_hits", b"farthing.cache_verdicts"):
                row = await (await connection.execute(b"SELECT count(*) FROM " + table)).fetchone()
                assert row == (seen,)


async def test_a_database_that_is_away_is_unavailable(tmp_path: object) -> None:
    database, clock = Database(f"postgresql:///x?host={tmp_path}", wait_s=0.2), Clock()
    await database.open()
    store, records = PostgresQuestions(database), PostgresCacheRecords(database)
    try:
        for call in (
            store.search("acme", partition(), vector("q"), most=1),
            store.put([question("q", clock)]),
            store.forget("acme", CacheScope()),
            store.latest(1),
            records.served([served_hit("a", clock)]),
            records.add_verdicts([verdict("a", clock)]),
        ):
            with pytest.raises(Unavailable):
                await call
    finally:
        await database.close()


@pytest.mark.usefixtures("clean")
async def test_a_large_partition_is_searched_by_the_graph_and_a_small_one_by_its_index(database: Database) -> None:
    """Whatever the planner believes of the table: reading and sorting all of a large partition would take seconds."""
    clock = Clock()
    store = PostgresQuestions(database, clock=clock)
    for start in range(0, 1500, 500):
        await store.put([question(f"q{n}", clock, vector=vector(f"q{n % 50}")) for n in range(start, start + 500)])
    await store.put([question("alone", clock, partition=partition("small"))])
    values = {"tenant": "acme", "vector": _text(vector("q1")), "now": clock.now, "most": 5}
    plans = []
    for name in ("main", "small"):
        async with database.tenant("acme") as connection:
            await connection.execute(_TUNE.encode())
            rows = await connection.execute(b"EXPLAIN ANALYZE " + _SEARCH.encode(), {**values, "partition": partition(name)})
            plans.append([line for (line,) in await rows.fetchall() if "questions_vector" in line])
    assert "never executed" not in plans[0][0]
    assert "never executed" in plans[1][0]
