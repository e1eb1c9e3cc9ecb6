"""The event bus in process and in PostgreSQL, and what only the database can show."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta

import psycopg
import pytest

from farthing.inprocess.events import InProcessEvents
from farthing.inprocess.states import InProcessStates
from farthing.inprocess.stores import InProcessChanges
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.events import PostgresEvents
from farthing.postgres.pool import Database
from farthing.testing.events import DeliveryContract, EventRig
from farthing.testing.events_kept import EventStoreContract
from farthing.testing.stores import Clock

_TABLES = ("events", "event_names", "event_subscriptions", "event_deliveries", "event_lanes", "event_dead_letters", "state_versions")


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute(("TRUNCATE " + ", ".join(f"farthing.{table}" for table in _TABLES)).encode())
    return url


def _rig_in_process(clock: Clock) -> EventRig:
    changes = InProcessChanges()
    states = InProcessStates(changes)
    bus = InProcessEvents(changes, states, clock=clock)

    async def versions(tenant: str, names: Sequence[str]) -> dict[str, int]:
        return states.versions(tenant, names)

    return EventRig(
        bus=bus,
        other=bus,
        crowded=InProcessEvents(changes, states, max_backlog=10, clock=clock),
        changes=changes,
        versions=versions,
        now=clock,
        wait=_waiting(clock),
        flood=100_000,
    )


def _waiting(clock: Clock) -> Callable[[float], Awaitable[None]]:
    async def wait(seconds: float) -> None:
        clock.now += timedelta(seconds=seconds)

    return wait


@pytest.fixture
async def two(url: str) -> AsyncIterator[Database]:
    """Another process's connections."""
    database = Database(url, wait_s=5.0)
    await database.open()
    yield database
    await database.close()


@pytest.fixture(params=["inprocess", "postgres"])
def rig(request: pytest.FixtureRequest) -> EventRig:
    clock = Clock()
    if request.param == "inprocess":
        return _rig_in_process(clock)
    url, database = request.getfixturevalue("clean"), request.getfixturevalue("database")

    async def versions(tenant: str, names: Sequence[str]) -> dict[str, int]:
        async with database.tenant(tenant) as connection:
            rows = await (await connection.execute(b"SELECT state, version FROM farthing.state_versions")).fetchall()
        return {**dict.fromkeys(names, 0), **{state: version for state, version in rows if state in names}}

    return EventRig(
        bus=PostgresEvents(database, clock=clock),
        other=PostgresEvents(request.getfixturevalue("two"), clock=clock),
        crowded=PostgresEvents(database, max_backlog=10, look_s=0, clock=clock),
        changes=PostgresChanges(url),
        versions=versions,
        now=clock,
        wait=_waiting(clock),
        flood=100_000,
    )


class TestDelivery(DeliveryContract):
    pass


class TestKept(EventStoreContract):
    pass
