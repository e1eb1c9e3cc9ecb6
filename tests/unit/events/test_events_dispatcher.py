"""Deliveries are handled, some at a time; again when they fail; and given back when the process ends."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

from events_house import Bus, event, hearing, until

from farthing.events.dispatcher import Dispatcher
from farthing.events.handler import Handle
from farthing.events.roster import Roster
from farthing.settings import EventSettings
from farthing.types import Event, Subscription


class Ear:
    """A handler that notes what it hears. It fails, or takes its time, as it is told to by event id."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []
        self.fails: dict[str, int] = {}
        self.stuck: set[str] = set()
        self.let_go = asyncio.Event()
        self.under_way = self.most = self.cancelled = 0

    async def __call__(self, events: Sequence[Event]) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        ids = [one.id for one in events]
        try:
            self.heard.append(ids)
            await asyncio.sleep(0)
            if self.stuck.intersection(ids):
                await self.let_go.wait()
            for one in ids:
                if self.fails.get(one, 0) > 0:
                    self.fails[one] -= 1
                    raise ValueError(f"no {one}")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1

    @property
    def all(self) -> list[str]:
        return [one for ids in self.heard for one in ids]


@contextlib.asynccontextmanager
async def dispatching(bus: Bus, handle: Handle, how: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Dispatcher]:
    handler = hearing(handle, **(how or {}))
    chosen = EventSettings(**{"poll_s": 0.05, "backoff_s": 0.001, "attempts": 3, "drain_s": 5, **settings})
    roster = Roster(bus, [handler.subscription])
    made = Dispatcher(bus, roster, [handler], chosen, rng=random.Random(1))  # noqa: S311 - nothing secret
    await roster.make_known()
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.drain()


async def test_events_are_handled_in_order_by_lane_and_many_lanes_at_a_time() -> None:
    bus, ear = Bus(), Ear()
    async with dispatching(bus, ear, concurrency=3) as made:
        await bus.publish([event(number, subject=f"s{number % 7}") for number in range(70)])
        await until(lambda: made.works["hear"].handled == 70)
    assert sorted(ear.all, key=int) == [str(number) for number in range(70)]
    for lane in range(7):
        own = [int(one) for one in ear.all if int(one) % 7 == lane]
        assert own == sorted(own)
    assert 1 < ear.most <= 3
    assert (await bus.backlog())[0].waiting == 0


async def test_news_wake_it_before_its_poll() -> None:
    bus, ear = Bus(), Ear()
    async with dispatching(bus, ear, poll_s=60) as made:
        for number, payload in enumerate(("hear", "other,hear", "")):
            await asyncio.sleep(0.03)
            await bus.publish([event(number)])
            made.heard("other")
            made.heard(payload)
            await until(lambda seen=number: len(ear.heard) == seen + 1)  # type: ignore[misc]


async def test_a_lane_goes_on_without_waiting_for_news() -> None:
    bus, ear = Bus(), Ear()
    await bus.subscribe([Subscription(handler="hear", types=("*",))])
    await bus.publish([event(number, subject="one") for number in range(30)])
    async with dispatching(bus, ear, poll_s=60) as made:
        await until(lambda: made.works["hear"].handled == 30)
    assert ear.all == [str(number) for number in range(30)]


async def test_what_fails_is_tried_again_and_then_dies_and_the_lane_goes_on() -> None:
    bus, ear = Bus(), Ear()
    ear.fails = {"1": 2, "2": 99}
    async with dispatching(bus, ear) as made:
        await bus.publish([event(number, subject="one") for number in range(4)])
        await until(lambda: made.works["hear"].handled == 3)
        work = made.works["hear"]
        assert (work.failed, work.died) == (5, 1)
    assert ear.all == ["0", "1", "1", "1", "2", "2", "2", "3"]
    (letter,) = await bus.dead(tenant=None, handler=None, limit=9)
    assert (letter.event.id, letter.attempts, letter.error) == ("2", 3, "ValueError: no 2")


async def test_of_a_batch_only_the_bad_event_dies() -> None:
    bus, ear = Bus(), Ear()
    ear.fails = {"2": 99}
    await bus.subscribe([Subscription(handler="hear", types=("*",), most=10)])
    await bus.publish([event(number, subject="one") for number in range(4)])
    async with dispatching(bus, ear, {"most": 10}, attempts=2) as made:
        await until(lambda: made.works["hear"].handled == 3)
        assert made.works["hear"].died == 1
    assert ear.heard == [["0", "1", "2", "3"]] * 2 + [["0"], ["1"], ["2"], ["3"]]


async def test_a_handler_that_takes_too_long_is_stopped_and_the_event_tried_again() -> None:
    bus, ear = Bus(), Ear()
    ear.stuck = {"1"}
    async with dispatching(bus, ear, deadline_s=0.02, attempts=2) as made:
        await bus.publish([event(1), event(2)])
        await until(lambda: made.works["hear"].died == 1)
    assert ear.cancelled == 2
    (letter,) = await bus.dead(tenant=None, handler=None, limit=9)
    assert letter.error == "it was not handled within 0.02 s"


async def test_a_lease_is_kept_while_a_handler_works() -> None:
    bus, ear = Bus(), Ear()
    ear.stuck = {"1"}
    async with dispatching(bus, ear, lease_s=1) as made:
        await bus.publish([event(1)])
        await until(lambda: bus.extended >= 2)
        ear.let_go.set()
        await until(lambda: made.works["hear"].handled == 1)
    assert ear.all == ["1"]


async def test_a_handler_whose_lease_is_lost_is_stopped() -> None:
    bus, ear = Bus(), Ear()
    ear.stuck = {"1"}
    async with dispatching(bus, ear, lease_s=1) as made:
        await bus.publish([event(1, user="ann")])
        await until(lambda: ear.under_way == 1)
        await bus.forget("acme", "ann")
        await until(lambda: made.works["hear"].lost == 1)
    assert ear.cancelled == 1
    assert await bus.dead(tenant=None, handler=None, limit=9) == []


async def test_an_event_that_kills_its_process_each_time_dies_unhandled() -> None:
    bus, ear = Bus(), Ear()
    await bus.subscribe([Subscription(handler="hear", types=("*",))])
    await bus.publish([event(1, subject="one"), event(2, subject="one")])
    for _ in range(4):
        assert len(await bus.take("hear", lanes=1, lease_s=0.001)) == 1
        await asyncio.sleep(0.002)
    async with dispatching(bus, ear, attempts=3) as made:
        await until(lambda: made.works["hear"].handled == 1)
    assert ear.all == ["2"]
    (letter,) = await bus.dead(tenant=None, handler=None, limit=9)
    assert "not finished in 4 attempts" in letter.error


async def test_at_the_end_what_is_under_way_may_finish_and_the_rest_is_given_back() -> None:
    bus, ear = Bus(), Ear()
    ear.stuck = {"1"}
    async with dispatching(bus, ear, drain_s=10):
        await bus.publish([event(1)])
        await until(lambda: ear.under_way == 1)
        asyncio.get_running_loop().call_later(0.02, ear.let_go.set)
    assert (await bus.backlog())[0].waiting == 0
    ear.let_go.clear()
    ear.stuck = {"2"}
    async with dispatching(bus, ear, drain_s=0.02, lease_s=3600):
        await bus.publish([event(2)])
        await until(lambda: ear.under_way == 1)
    (delivery,) = await bus.take("hear", lanes=9, lease_s=1)
    assert (delivery.events[0].id, delivery.attempt) == ("2", 2)


async def test_it_waits_while_the_bus_is_away() -> None:
    bus, ear = Bus(), Ear()
    async with dispatching(bus, ear) as made:
        await bus.publish([event(1)])
        await until(lambda: made.works["hear"].handled == 1)
        bus.away = True
        await asyncio.sleep(0.1)
        bus.away = False
        await bus.publish([event(2)])
        await until(lambda: made.works["hear"].handled == 2)


async def test_what_is_done_is_said_together() -> None:
    bus, ear = Bus(), Ear()
    async with dispatching(bus, ear, concurrency=50) as made:
        await bus.publish([event(number) for number in range(100)])
        await until(lambda: made.works["hear"].handled == 100)
    assert sum(bus.done_with) == 100
    assert len(bus.done_with) < 50


async def test_without_handlers_there_is_nothing_to_do() -> None:
    bus = Bus()
    made = Dispatcher(bus, Roster(bus, []), [], EventSettings(), rng=random.Random(1))  # noqa: S311 - nothing secret
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await made.drain()
