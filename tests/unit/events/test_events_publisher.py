"""What comes at the same time is stored together; what is told is stored soon, or counted as lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from events_house import Bus, event, until

from farthing.errors import InvalidRequest, Overloaded, Unavailable
from farthing.events.publisher import EventPublisher
from farthing.events.roster import Roster
from farthing.types import Subscription


def publisher(bus: Bus, **how: Any) -> EventPublisher:
    roster = Roster(bus, [Subscription(handler="hear", types=("*",))])
    return EventPublisher(bus, roster, **{"max_batch": 100, "max_pending": 1000, **how})


@contextlib.asynccontextmanager
async def running(made: EventPublisher) -> AsyncIterator[None]:
    task = asyncio.create_task(made.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_those_who_publish_at_the_same_time_share_a_transaction_and_learn_of_their_own() -> None:
    bus = Bus()
    made = publisher(bus)
    results = await asyncio.gather(*(made.publish([event(number // 2), event(100 + number)]) for number in range(20)))
    assert results == [[number % 2 == 0, True] for number in range(20)]
    assert len(bus.published) < 5
    assert (made.stored, made.repeated) == (30, 10)
    assert bus.subscribed == 1


async def test_a_transaction_has_at_most_so_many_events_unless_one_call_has_more() -> None:
    bus = Bus()
    made = publisher(bus, max_batch=10)
    sizes = [4, 4, 4, 25, 1]
    calls = [[event(100 * call + number) for number in range(size)] for call, size in enumerate(sizes)]
    await asyncio.gather(*map(made.publish, calls))
    assert sum(bus.published) == sum(sizes)
    assert max(bus.published) == 25
    assert sorted(bus.published)[-2] <= 10


async def test_one_who_publishes_what_cannot_be_stored_does_not_take_the_others_with_him() -> None:
    made = publisher(Bus())
    results = await asyncio.gather(
        made.publish([event(1)]), made.publish([event(2), event(3, data={object()})]), made.publish([event(4)]), return_exceptions=True
    )
    assert results[0] == results[2] == [True]
    assert isinstance(results[1], InvalidRequest)
    assert await made.publish([event(2)]) == [True]


async def test_callers_learn_that_the_bus_is_away_and_that_too_many_wait() -> None:
    bus = Bus()
    bus.away = True
    made = publisher(bus, max_pending=10)
    with pytest.raises(Unavailable):
        await made.publish([event(1)])
    bus.away = False
    waiting = [asyncio.create_task(made.publish([event(10 * call + n) for n in range(5)])) for call in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await made.publish([event(99)])
    await asyncio.gather(*waiting)
    assert await made.publish([event(99)]) == [True]


async def test_what_events_touch_is_filled_in() -> None:
    bus = Bus()
    made = publisher(bus, touches=lambda one: ("orders", "cart") if one.type == "order" else ())
    await made.publish([event(1, type="order", touches=("cart", "own")), event(2)])
    assert bus.states.versions("acme", ["orders", "cart", "own"]) == {"orders": 1, "cart": 1, "own": 1}
    assert [one.touches for one in await bus.tail(tenant=None, after=0, limit=9)] == [("cart", "own", "orders"), ()]


async def test_what_is_told_is_stored_soon_and_together() -> None:
    bus = Bus()
    made = publisher(bus)
    async with running(made):
        for number in range(250):
            made.tell(event(number))
        assert made.pending == 250
        await until(lambda: made.stored == 250)
    assert bus.published == [100, 100, 50]
    assert (made.pending, made.lost) == (0, 0)


async def test_what_is_told_waits_for_the_bus_and_beyond_a_bound_is_lost() -> None:
    bus = Bus()
    bus.away = True
    made = publisher(bus, max_pending=3)
    for number in range(5):
        made.tell(event(number))
    with pytest.raises(Unavailable):
        await made.flush()
    assert (made.pending, made.lost) == (3, 2)
    bus.away = False
    await made.flush()
    assert [one.id for one in await bus.tail(tenant=None, after=0, limit=9)] == ["0", "1", "2"]


async def test_of_what_is_told_only_what_cannot_be_stored_is_lost() -> None:
    bus = Bus()
    made = publisher(bus)
    for one in (event(1), event(2, data={object()}), event(3)):
        made.tell(one)
    await made.flush()
    assert (made.stored, made.lost, made.pending) == (2, 1, 0)
