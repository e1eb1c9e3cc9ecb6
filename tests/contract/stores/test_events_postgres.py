"""What only the event bus in PostgreSQL can show: transactions of others, processes that die, tenants that are kept apart."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
import pytest

from farthing.errors import InvalidRequest, Unavailable
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.connection import cut
from farthing.postgres.events import PostgresEvents
from farthing.postgres.events_storing import append
from farthing.postgres.pool import Database
from farthing.postgres.states import bump
from farthing.testing.stores import watched
from farthing.types import Event, Subscription, utc_now

# ruff: noqa: S608  # all parts of the queries are ours

_TABLES = ("events", "event_names", "event_subscriptions", "event_deliveries", "event_lanes", "event_dead_letters", "state_versions")
_WAITS_S = 0.1


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute(("TRUNCATE " + ", ".join(f"farthing.{table}" for table in _TABLES)).encode())
    return url


@pytest.fixture
async def two(clean: str) -> AsyncIterator[Database]:
    database = Database(clean, wait_s=5.0)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def bus(two: Database) -> PostgresEvents:
    """By the database's own clock."""
    made = PostgresEvents(two)
    await made.subscribe([Subscription(handler="hear", types=("*",))])
    return made


def event(number: int, **facts: Any) -> Event:
    usual: dict[str, Any] = {"id": f"e{number}", "source": "/app", "type": "t", "tenant": "acme", "subject": "page", "user": "ann"}
    return Event(**{**usual, "time": utc_now(), "received_at": utc_now(), **facts})


async def numbers(bus: PostgresEvents, *, done: bool = True) -> list[int]:
    """Of the events that are due, in order."""
    heard = []
    while deliveries := await bus.take("hear", lanes=99, lease_s=30):
        heard += [int(one.id[1:]) for delivery in deliveries for one in delivery.events]
        if done:
            assert await bus.done(deliveries) == len(deliveries)
    return heard


async def _change_and_fail(database: Database) -> None:
    async with database.service() as connection:
        await append(connection, [event(1, touches=("a",))])
        raise ZeroDivisionError


async def _change_and_lose_the_connection(database: Database) -> None:
    async with database.service() as connection:
        await append(connection, [event(1)])
        cut(connection)


async def test_the_databases_clock_says_what_is_due_and_whose_lease_has_ended(bus: PostgresEvents) -> None:
    await bus.publish([event(1)])
    (dead,) = await bus.take("hear", lanes=1, lease_s=0.01)
    await asyncio.sleep(0.02)
    (again,) = await bus.take("hear", lanes=1, lease_s=30)
    assert (again.attempt, await bus.done([dead])) == (2, 0)
    kept = await bus.extend(again, 60)
    assert kept is not None
    assert 20 < (kept.until - again.until).total_seconds() < 40
    assert 0 < (await bus.backlog())[0].lag_s < 30
    await bus.failed(kept, "x", datetime(2020, 1, 1, tzinfo=UTC))
    assert await numbers(bus) == [1]


async def test_a_change_and_its_event_are_stored_together_or_not_at_all(bus: PostgresEvents, database: Database, clean: str) -> None:
    changes = PostgresChanges(clean)
    news = watched(changes)
    while await anext(news) != ("jobs", ""):
        pass
    with pytest.raises(ZeroDivisionError):
        await _change_and_fail(database)
    assert await numbers(bus) == []
    async with database.service() as connection:
        assert await bump(connection, "acme", ["b", "a", "b"]) == {"a": 1, "b": 1}
        assert await append(connection, [event(1, touches=("a",)), event(2)]) == [True, True]
    assert await numbers(bus) == [1, 2]
    heard = [await anext(news) for _ in range(3)]
    await news.aclose()
    assert ("events", "hear") in heard
    told = [msgspec.json.decode(payload) for channel, payload in heard if channel == "states"]
    assert told == [{"tenant": "acme", "versions": {"a": 1, "b": 1}}, {"tenant": "acme", "versions": {"a": 2}}]


async def test_who_publishes_waits_for_an_earlier_one_of_his_tenant_that_is_not_committed(bus: PostgresEvents, database: Database) -> None:
    async with database.service() as connection:
        await append(connection, [event(1)])
        later = asyncio.create_task(bus.publish([event(2)]))
        assert await bus.publish([event(3, tenant="rival")]) == [True]
        await asyncio.sleep(_WAITS_S)
        assert not later.done()
        assert await numbers(bus) == [3]
    assert await later == [True]
    assert await numbers(bus) == [1, 2]


async def test_a_lane_does_not_end_while_an_event_comes(bus: PostgresEvents, database: Database) -> None:
    await bus.publish([event(1)])
    last = await bus.take("hear", lanes=1, lease_s=30)
    async with database.service() as connection:
        await append(connection, [event(2)])
        ending = asyncio.create_task(bus.done(last))
        await asyncio.sleep(_WAITS_S)
    assert await ending == 1
    assert await numbers(bus) == [2]


async def test_who_forgets_waits_for_what_is_being_stored(bus: PostgresEvents, database: Database) -> None:
    async with database.service() as connection:
        await append(connection, [event(1)])
        forgetting = asyncio.create_task(bus.forget("acme", "ann"))
        await asyncio.sleep(_WAITS_S)
        assert not forgetting.done()
    assert await forgetting == 1
    assert await numbers(bus) == []
    assert await bus.tail(tenant=None, after=0, limit=9) == []


async def test_nothing_of_a_forgotten_user_is_left_in_any_table(bus: PostgresEvents, clean: str) -> None:
    canary = "canary-4711"
    some = [event(number, user=canary, subject=canary, data={"x": canary}, extensions={"x": canary}) for number in range(4)]
    await bus.publish([*some, event(9)])
    (delivery,) = [one for one in await bus.take("hear", lanes=9, lease_s=30) if one.lane == canary]
    await bus.failed(delivery, f"{canary} is bad", None)
    await bus.forget("acme", canary)
    with psycopg.connect(clean) as connection:
        for table in _TABLES:
            rows = connection.execute(f"SELECT t::text FROM farthing.{table} AS t WHERE t::text LIKE '%{canary}%'".encode()).fetchall()
            assert rows == [], table
    assert [one.id for one in await bus.tail(tenant="acme", after=0, limit=9)] == ["e9"]


async def test_a_publisher_that_is_cut_off_leaves_nothing(bus: PostgresEvents, database: Database) -> None:
    with pytest.raises(Unavailable):
        await _change_and_lose_the_connection(database)
    assert await bus.publish([event(2)]) == [True]
    assert await numbers(bus) == [2]


@pytest.mark.parametrize("facts", [{"type": "a\x00b"}, {"user": "\ud800"}, {"id": "\x00"}, {"data": object()}])
async def test_what_the_database_cannot_hold_is_refused_and_nothing_of_it_stored(bus: PostgresEvents, facts: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        await bus.publish([event(1), event(2, **facts)])
    assert await numbers(bus) == []


async def test_long_names_and_large_data_are_held(bus: PostgresEvents) -> None:
    data = {"text": "ü" * 300_000, "deep": [[[[[]]]]]}
    large = event(1, source="/" + "s" * 20_000, id="e" + "1" * 20_000, subject="x" * 1000, data=data)
    assert await bus.publish([large, large]) == [True, False]
    (delivery,) = await bus.take("hear", lanes=1, lease_s=30)
    assert delivery.events[0].data == data


async def test_no_tenant_sees_anothers_events(bus: PostgresEvents, database: Database) -> None:
    await bus.publish([event(1, touches=("a",)), event(2)])
    (delivery,) = await bus.take("hear", lanes=1, lease_s=30)
    await bus.failed(delivery, "bad", None)
    await bus.forget("acme", "nobody")
    for tenant, seen in (("acme", [2, 0, 1, 1, 1, 1]), ("rival", [0] * 6)):
        async with database.tenant(tenant) as connection:
            for table, wanted in zip([name for name in _TABLES if name != "event_subscriptions"], seen, strict=True):
                row = await (await connection.execute(f"SELECT count(*) FROM farthing.{table}".encode())).fetchone()
                assert row == (wanted,), table
        with pytest.raises(Unavailable):
            async with database.tenant(tenant) as connection:
                await connection.execute(b"SELECT 1 FROM farthing.event_subscriptions")


_EFFECT = b"""
INSERT INTO farthing.state_versions AS s (tenant, state, version, at) VALUES ('acme', %s, 1, now()) ON CONFLICT (tenant, state) DO NOTHING
"""
_WORKER = f"""
import asyncio, sys
from farthing.postgres.events import PostgresEvents
from farthing.postgres.pool import Database

async def main():
    database = Database(sys.argv[1])
    await database.open()
    while not (deliveries := await PostgresEvents(database).take("hear", lanes=1, lease_s=0.3)):
        await asyncio.sleep(0.01)
    async with database.service() as connection:
        await connection.execute({_EFFECT!r}, [deliveries[0].events[0].id])
    print(deliveries[0].events[0].id, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_processes_that_are_killed_between_effect_and_acknowledgement_lose_and_double_nothing(
    bus: PostgresEvents, database: Database, clean: str
) -> None:
    await bus.publish([event(number, subject=f"s{number % 2}") for number in range(4)])
    for _ in range(2):
        worker = await asyncio.create_subprocess_exec(sys.executable, "-c", _WORKER, clean, stdout=asyncio.subprocess.PIPE)
        assert worker.stdout is not None
        line = await asyncio.wait_for(worker.stdout.readline(), 30)
        worker.send_signal(signal.SIGKILL)
        await worker.wait()
        assert line.strip() in {b"e0", b"e1"}
    heard: list[int] = []
    async with asyncio.timeout(30):
        while (await bus.backlog())[0].waiting:
            for delivery in await bus.take("hear", lanes=9, lease_s=30):
                async with database.service() as connection:
                    await connection.execute(_EFFECT, [delivery.events[0].id])
                heard.append(int(delivery.events[0].id[1:]))
                assert await bus.done([delivery]) == 1
            await asyncio.sleep(0.02)
    assert sorted(heard) == [0, 1, 2, 3], "also what had been done, but not said to be"
    with psycopg.connect(clean) as connection:
        assert connection.execute("SELECT count(*), max(version) FROM farthing.state_versions").fetchone() == (4, 1)
