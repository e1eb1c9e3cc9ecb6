"""The event bus in process and in PostgreSQL, and what only the database can show."""

import random
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
from farthing.testing.events import HEAR, DeliveryContract, EventRig, numbers
from farthing.testing.events_kept import EventStoreContract
from farthing.testing.stores import Clock
from farthing.types import Delivery

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


class World:
    """What has happened to a bus at random, and what must then be true of what it hands out."""

    def __init__(self, rig: EventRig, dice: random.Random) -> None:
        self._rig = rig
        self._dice = dice
        self._number = 0
        self.waiting: dict[str, list[int]] = {}
        self._live: dict[str, tuple[Delivery, float]] = {}
        self._stale: list[Delivery] = []
        self._time = 0.0
        self.dead: list[int] = []

    async def step(self) -> None:
        """Something happens."""
        await self._dice.choice((self._publish, self._publish, self._take, self._take, self._take, self._end, self._end, self._pass))()

    async def _publish(self) -> None:
        some = []
        for _ in range(self._dice.randint(1, 4)):
            lane = f"s{self._dice.randrange(3)}"
            some.append(self._rig.event(self._number, subject=lane))
            self.waiting.setdefault(lane, []).append(self._number)
            self._number += 1
        await self._dice.choice((self._rig.bus, self._rig.other)).publish(some)

    async def _take(self) -> None:
        bus = self._dice.choice((self._rig.bus, self._rig.other))
        for one in await bus.take(HEAR, lanes=self._dice.randint(1, 3), lease_s=10):
            if one.lane in self._live:
                before, until = self._live[one.lane]
                assert until <= self._time, "two deliveries of a lane at the same time"
                self._stale.append(before)
            assert numbers(one) == self.waiting[one.lane][: len(one.events)], "not what is next in its lane"
            self._live[one.lane] = (one, self._time + 10)

    async def _end(self) -> None:
        if self._stale:
            late = self._stale.pop()
            assert await self._rig.bus.done([late]) == 0
            await self._rig.bus.failed(late, "late", None)
        if not self._live:
            return
        lane = self._dice.choice(sorted(self._live))
        one, _ = self._live.pop(lane)
        how = self._dice.choice(("done", "done", "again", "dead"))
        if how == "done":
            assert await self._rig.other.done([one]) == 1
            del self.waiting[lane][: len(one.events)]
        elif how == "again":
            await self._rig.bus.failed(one, "again", self._rig.now())
        else:
            await self._rig.bus.failed(one, "bad", None)
            if len(one.events) == 1:
                self.dead.append(self.waiting[lane].pop(0))

    async def _pass(self) -> None:
        """Time; leases end."""
        await self._rig.wait(6)
        self._time += 6

    async def end(self) -> None:
        """All is handled, or dead."""
        await self._rig.wait(11)
        self._live.clear()
        for one in await self._rig.drain():
            lane = next(lane for lane, left in self.waiting.items() if left[: len(one)] == one)
            del self.waiting[lane][: len(one)]
        assert not any(self.waiting.values())
        letters = await self._rig.bus.dead(tenant=None, handler=None, limit=1000)
        assert sorted(int(letter.event.id[1:]) for letter in letters) == sorted(self.dead)
        assert [one.waiting for one in await self._rig.bus.backlog()] == [0]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_each_event_is_handled_in_its_turn_or_dead(rig: EventRig, seed: int) -> None:
    await rig.hears(most=3)
    world = World(rig, random.Random(seed))  # noqa: S311 - nothing secret
    for _ in range(80):
        await world.step()
    await world.end()
