import asyncio
import random
from collections.abc import AsyncIterator

import psycopg
import pytest

from farthing.errors import Unavailable
from farthing.inprocess.edge import InProcessEdge
from farthing.inprocess.foresight_log import InProcessForesightLog
from farthing.inprocess.states import InProcessStates
from farthing.inprocess.stores import InProcessChanges
from farthing.postgres.edge import PostgresEdge
from farthing.postgres.foresight_log import PostgresForesightLog
from farthing.postgres.pool import Database
from farthing.testing.edge import Edge, EdgeStoreContract, begun_id, edge_answer
from farthing.testing.foresight import ForesightLogContract, Logged
from farthing.testing.stores import Clock

_TABLES = "farthing.edge_answers, farthing.state_versions, farthing.foreseen, farthing.foresight_counts, farthing.foresight_reports"


@pytest.fixture
def emptied(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute(f"TRUNCATE {_TABLES}")
    return url


@pytest.fixture
async def postgres_edge(emptied: str, database: Database) -> AsyncIterator[Edge]:
    clock = Clock()
    store = PostgresEdge(database, emptied, clock=clock)
    yield Edge(store=store, clock=clock)
    await store.close()


class TestPostgresEdge(EdgeStoreContract):
    schedules = 12

    @pytest.fixture
    def edge(self, postgres_edge: Edge) -> Edge:
        return postgres_edge


@pytest.fixture(params=["inprocess", "postgres"])
def logged(request: pytest.FixtureRequest) -> Logged:
    clock = Clock()
    if request.param == "inprocess":
        states = InProcessStates(InProcessChanges())
        return Logged(log=InProcessForesightLog(states, clock=clock), edge=InProcessEdge(states, clock=clock), clock=clock)
    url, database = request.getfixturevalue("emptied"), request.getfixturevalue("database")
    return Logged(log=PostgresForesightLog(database, clock=clock), edge=PostgresEdge(database, url, clock=clock), clock=clock)


class TestForesightLog(ForesightLogContract):
    pass


async def test_a_read_that_begins_after_a_change_sees_it_whichever_worker_made_it(emptied: str, database: Database) -> None:
    """Two stores are two workers: one changes states and stores answers while the other reads without pause."""
    writer, reader = PostgresEdge(database, emptied, clock=Clock()), PostgresEdge(database, emptied, clock=Clock())
    clock, rng, committed, done = Clock(), random.Random(7), 0, False  # noqa: S311 - nothing secret
    reads = 0

    async def change() -> None:
        nonlocal committed, done
        for number in range(1, 150):
            committed = (await writer.bump("acme", ["deployments"]))["deployments"]
            answer = edge_answer(clock, versions={"deployments": committed}, request_id=begun_id(clock.now, number))
            assert await writer.put(answer)
            if rng.random() < 0.3:
                await asyncio.sleep(0.001)
        done = True

    async def read() -> None:
        nonlocal reads
        while not done:
            least = committed
            found = await reader.get("acme", "ann", "briefing")
            assert found is None or found.versions["deployments"] >= least
            reads += found is not None

    await asyncio.gather(change(), *(read() for _ in range(8)))
    assert reads > 50
    assert reader.reader.statements < reads  # they share statements
    await writer.close()
    await reader.close()


async def test_a_reader_whose_connection_was_cut_comes_back(emptied: str, database: Database) -> None:
    store = PostgresEdge(database, emptied, clock=Clock())
    assert await store.put(edge_answer(Clock()))
    assert await store.get("acme", "ann", "briefing") is not None
    with psycopg.connect(emptied, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%edge_answers%' AND pid <> pg_backend_pid()"
        )
    with pytest.raises(Unavailable):
        await store.get("acme", "ann", "briefing")
    assert await store.get("acme", "ann", "briefing") is not None
    await store.close()
    assert await store.get("acme", "ann", "briefing") is not None
    await store.close()


async def test_what_a_store_cannot_hold_is_nobodys(emptied: str, database: Database) -> None:
    store = PostgresEdge(database, emptied, clock=Clock())
    assert await store.get("acme", "an\0n", "briefing") is None
    await store.close()


async def test_who_waits_while_it_is_closed_is_told(emptied: str, database: Database) -> None:
    store = PostgresEdge(database, emptied, clock=Clock())
    waiting = [asyncio.create_task(store.get("acme", "ann", "briefing")) for _ in range(3)]
    await asyncio.sleep(0)  # they are in line, and the connection is being made
    await store.close()
    for told in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(told, Unavailable)
    assert await store.get("acme", "ann", "briefing") is None
    await store.close()
