"""What every adapter of `ports.EventBus` must do. Subclass the suites and give them a fixture `rig`.

class TestMyBus(DeliveryContract): ...
class TestMyEvents(EventStoreContract): ...     # see `farthing.testing.events_kept`

@pytest.fixture
async def rig() -> AsyncIterator[EventRig]: ...    # an empty bus

What an adapter cannot promise is said in the rig, and its tests are skipped by that name.
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import msgspec
import pytest

from farthing.ports import Changes, EventBus
from farthing.types import Delivery, Event, Subscription

HEAR = "hear"
"""The handler of most tests."""


class EventRig(msgspec.Struct, frozen=True, kw_only=True):
    """The bus under test. `wait` lets seconds pass for it, `now` is its time.

    `other` is the same bus in another process. `crowded` is it too, but refuses events while a handler has ten deliveries or more to do.
    `changes` are its news. `versions` reads the versions of a tenant's states. `lease_s` is a short lease, `flood` a large backlog.
    The rest is what it promises beyond the port's least.
    """

    bus: EventBus
    other: EventBus
    crowded: EventBus | None
    changes: Changes | None
    versions: Callable[[str, Sequence[str]], Awaitable[dict[str, int]]] | None
    now: Callable[[], datetime]
    wait: Callable[[float], Awaitable[None]]
    lease_s: float = 30.0
    flood: int = 10_000
    remembers_pruned: bool = True
    """A late duplicate of a pruned event stays a duplicate."""
    lingers: bool = True
    """It waits for more of a lane."""
    same_batch_again: bool = True
    """What is tried again are the same events together."""
    forgets_on_the_way: bool = True
    """Events that arrived before their user was forgotten are not stored afterwards."""
    counts_exactly: bool = True
    """Its backlog is no estimate."""
    positions_of_many: bool = True
    """Events of a lane come by their positions also where several publish to it at the same time."""
    lanes_rotate: bool = True
    """A lane that goes on does so after those that wait already."""
    prunes_each: bool = True
    """An event goes when its own handlers are through with it, whatever else waits."""

    async def hears(self, *types: str, handler: str = HEAR, **how: Any) -> None:
        """One handler wants these types of events, `*` by default."""
        await self.bus.subscribe([Subscription(handler=handler, types=types or ("*",), **how)])

    def event(self, number: int, **facts: Any) -> Event:
        """An event that differs from those of other numbers; Ann did something to a page just now."""
        usual: dict[str, Any] = {"id": f"e{number}", "source": "/app", "type": "page.viewed", "tenant": "acme", "subject": "page"}
        return Event(**{**usual, "user": "ann", "time": self.now(), "received_at": self.now(), "data": {"n": number}, **facts})

    def events(self, *numbers: int, **facts: Any) -> list[Event]:
        """Some of them."""
        return [self.event(number, **facts) for number in numbers]

    async def take(self, lanes: int = 100, handler: str = HEAR) -> list[Delivery]:
        """What is due now."""
        return await self.bus.take(handler, lanes=lanes, lease_s=self.lease_s)

    async def one(self, handler: str = HEAR) -> Delivery:
        """The only delivery that is due."""
        deliveries = await self.take(handler=handler)
        assert len(deliveries) == 1
        return deliveries[0]

    async def drain(self, handler: str = HEAR) -> list[list[int]]:
        """Handle all that is due. Returns the numbers of the events, by delivery."""
        handled = []
        while deliveries := await self.take(handler=handler):
            handled += [numbers(one) for one in deliveries]
            assert await self.bus.done(deliveries) == len(deliveries)
        return handled


def numbers(delivery: Delivery) -> list[int]:
    """The numbers of a delivery's events."""
    return [int(event.id.removeprefix("e")) for event in delivery.events]


def promised(promise: object, name: str) -> None:
    """Skip the test of what the rig says cannot be had."""
    if not promise:
        pytest.skip(f"this bus does not promise `{name}`")


class DeliveryContract:
    """`ports.EventBus`: who gets what, when, how often and in which order."""

    async def test_an_event_comes_as_it_was_published(self, rig: EventRig) -> None:
        await rig.hears()
        data = {"a": [1, -2.5, True, None, {"ü": "\u0000 'quoted' \\ \n\t ☕"}], "": {}}
        extensions: dict[str, str | int | bool] = {"traceparent": "00-ab", "n": 7, "yes": True}
        sent = rig.event(1, data=data, extensions=extensions, touches=('a"b', "c\\d", "{e,f}"), time=rig.now() - timedelta(days=400))
        bare = Event(id="e2", source="/", type="t", tenant="acme", time=rig.now(), received_at=rig.now())
        assert await rig.bus.publish([sent, bare]) == [True, True]
        got = {event.id: event for one in await rig.take() for event in one.events}
        for event in (sent, bare):
            assert msgspec.structs.replace(got[event.id], position=0) == event
            assert got[event.id].position > 0

    async def test_each_handler_hears_of_the_types_that_it_wants(self, rig: EventRig) -> None:
        wanted = {"all": ("*",), "exact": ("page.viewed", "x"), "family": ("page.*",), "none": ("page", "viewed", "page.viewed.*")}
        await rig.bus.subscribe([Subscription(handler=name, types=types) for name, types in wanted.items()])
        await rig.bus.publish([rig.event(1), rig.event(2, type="page.left"), rig.event(3, type="pages.x"), rig.event(4, type="page.")])
        heard = {name: list(chain(*await rig.drain(name))) for name in wanted}
        assert heard == {"all": [1, 2, 3, 4], "exact": [1], "family": [1, 2, 4], "none": []}
        assert await rig.bus.take("unknown", lanes=1, lease_s=1) == []

    async def test_a_second_event_of_the_same_name_is_the_first(self, rig: EventRig) -> None:
        await rig.hears()
        assert await rig.bus.publish([rig.event(1), rig.event(1, data="other"), rig.event(2)]) == [True, False, True]
        assert await rig.other.publish([rig.event(2, subject="else"), rig.event(3), rig.event(1)]) == [False, True, False]
        assert (
            await rig.bus.publish([rig.event(1, tenant="rival"), rig.event(1, source="/app1"), rig.event(11, source="/app")]) == [True] * 3
        )
        heard = [event for one in await rig.take() for event in one.events]
        assert {(event.tenant, event.source, event.id) for event in heard} == {("acme", "/app", "e1"), ("rival", "/app", "e1")}
        assert next(event for event in heard if event.tenant == "acme").data == {"n": 1}

    async def test_many_publish_the_same_at_the_same_time_and_one_of_them_stores_it(self, rig: EventRig) -> None:
        await rig.hears()
        batch = rig.events(*range(20))
        published = await asyncio.gather(*(bus.publish(batch[::step]) for bus in (rig.bus, rig.other) for step in (1, 1, -1, -1)))
        assert sum(map(sum, published)) == 20
        assert sorted(chain(*await rig.drain())) == list(range(20))

    async def test_a_lane_comes_in_order_and_one_delivery_at_a_time(self, rig: EventRig) -> None:
        await rig.hears()
        await rig.bus.publish(rig.events(3, 1, 2))
        await rig.bus.publish(rig.events(4))
        for number in (3, 1, 2, 4):
            delivery = await rig.one()
            assert numbers(delivery) == [number]
            assert delivery.attempt == 1
            assert await rig.take() == []
            assert await rig.other.done([delivery]) == 1
        assert await rig.take() == []

    async def test_lanes_do_not_wait_for_each_other_and_take_turns(self, rig: EventRig) -> None:
        await rig.hears()
        await rig.bus.publish([rig.event(number, subject=f"s{number % 3}") for number in range(9)])
        first = await rig.take(lanes=2)
        rest = await rig.take()
        assert sorted(chain(*map(numbers, first + rest))) == [0, 1, 2]
        assert (len(first), len(rest)) == (2, 1)
        await rig.bus.done(rest)
        assert [one.lane for one in await rig.take()] == [rest[0].lane]

    async def test_a_lane_with_much_to_do_lets_others_go_first(self, rig: EventRig) -> None:
        promised(rig.lanes_rotate, "lanes_rotate")
        await rig.hears()
        await rig.bus.publish(rig.events(1, 2, 3, subject="busy"))
        (busy,) = await rig.take(lanes=1)
        await rig.wait(1)
        await rig.bus.publish([rig.event(4, subject="idle")])
        await rig.wait(1)
        await rig.bus.done([busy])
        assert [numbers(one) for one in await rig.take(lanes=1)] == [[4]]
        assert [numbers(one) for one in await rig.take(lanes=1)] == [[2]]

    async def test_lanes_are_subjects_else_users_else_sources_or_users_alone(self, rig: EventRig) -> None:
        both = [Subscription(handler="subjects", types=("*",)), Subscription(handler="users", types=("*",), per="user")]
        await rig.bus.subscribe(both)
        nobody = rig.event(4, subject=None, user=None)
        await rig.bus.publish([rig.event(1), rig.event(2, subject=None), rig.event(3, user="bob"), nobody, rig.event(5, user=None)])
        lanes = {name: sorted((one.lane, numbers(one)) for one in await rig.take(handler=name)) for name in ("subjects", "users")}
        assert lanes == {"subjects": [("/app", [4]), ("ann", [2]), ("page", [1])], "users": [("ann", [1]), ("bob", [3])]}

    async def test_order_holds_while_many_publish_and_many_take(self, rig: EventRig) -> None:
        await rig.hears(most=3)
        seen: dict[str, list[Event]] = {}
        under_way: set[str] = set()

        async def publish(bus: EventBus, writer: int) -> None:
            for start in range(0, 40, 4):
                some = range(1000 * writer + start, 1000 * writer + start + 4)
                await bus.publish([rig.event(number, subject=f"s{number % 3}") for number in some])

        async def take(bus: EventBus) -> None:
            while sum(map(len, seen.values())) < 160:
                deliveries = await bus.take(HEAR, lanes=2, lease_s=rig.lease_s)
                for one in deliveries:
                    assert one.lane not in under_way
                    under_way.add(one.lane)
                    seen.setdefault(one.lane, []).extend(one.events)
                await asyncio.sleep(0)
                under_way.difference_update(one.lane for one in deliveries)
                assert await bus.done(deliveries) == len(deliveries)

        buses = (rig.bus, rig.other)
        async with asyncio.timeout(60):
            await asyncio.gather(*(publish(buses[writer % 2], writer) for writer in range(4)), *(take(bus) for bus in buses * 2))
        for events in seen.values():
            positions = [event.position for event in events]
            assert len(set(positions)) == len(positions)
            assert not rig.positions_of_many or positions == sorted(positions)
            for writer in range(4):
                own = [int(event.id[1:]) for event in events if int(event.id[1:]) // 1000 == writer]
                assert own == sorted(own)

    async def test_a_delivery_whose_taker_died_comes_again_and_he_is_fenced_off(self, rig: EventRig) -> None:
        await rig.hears()
        await rig.bus.publish(rig.events(1, 2))
        dead = await rig.one()
        await rig.wait(rig.lease_s + 0.01)
        again = await rig.one()
        assert (numbers(again), again.attempt) == ([1], 2)
        assert await rig.other.extend(dead, rig.lease_s) is None
        assert await rig.bus.done([dead]) == 0
        await rig.bus.failed(dead, "late", None)
        await rig.bus.failed(dead, "late", rig.now())
        assert await rig.take() == []
        assert await rig.bus.done([dead, again]) == 1
        assert await rig.bus.done([again]) == 0
        assert await rig.drain() == [[2]]
        assert await rig.bus.dead(tenant=None, handler=None, limit=9) == []

    async def test_a_lease_can_be_kept(self, rig: EventRig) -> None:
        await rig.hears()
        await rig.bus.publish(rig.events(1))
        delivery = await rig.one()
        for _ in range(3):
            await rig.wait(rig.lease_s * 0.6)
            kept = await rig.bus.extend(delivery, rig.lease_s)
            assert kept is not None
            assert kept.until > delivery.until
            delivery = kept
            assert await rig.take() == []
        assert await rig.bus.done([delivery]) == 1

    async def test_what_failed_comes_again_at_its_time_and_the_rest_of_its_lane_after_it(self, rig: EventRig) -> None:
        await rig.hears()
        await rig.bus.publish([*rig.events(1, 2), rig.event(3, subject="other")])
        failing, other = sorted(await rig.take(), key=numbers)
        await rig.bus.failed(failing, "not now", rig.now() + timedelta(seconds=2))
        assert await rig.bus.done([failing]) == 0
        assert await rig.bus.done([other]) == 1
        assert await rig.take() == []
        await rig.wait(2.01)
        again = await rig.one()
        assert (numbers(again), again.attempt) == ([1], 2)
        assert await rig.bus.done([again]) == 1
        assert await rig.drain() == [[2]]

    async def test_a_poison_event_dies_alone_and_its_lane_goes_on(self, rig: EventRig) -> None:
        await rig.hears()
        await rig.bus.publish(rig.events(1, 2, 3))
        for attempt in (1, 2, 3):
            delivery = await rig.one()
            assert (numbers(delivery), delivery.attempt) == ([1], attempt)
            await rig.bus.failed(delivery, f"bad\n☠ {attempt}", None if attempt == 3 else rig.now())
        assert await rig.drain() == [[2], [3]]
        (letter,) = await rig.bus.dead(tenant="acme", handler=HEAR, limit=9)
        assert (letter.handler, letter.event.id, letter.attempts, letter.error) == (HEAR, "e1", 3, "bad\n☠ 3")
        assert letter.event.data == {"n": 1}

    async def test_events_of_a_lane_come_together(self, rig: EventRig) -> None:
        await rig.hears(most=3)
        await rig.bus.publish([*rig.events(*range(7)), rig.event(7, subject="other")])
        assert sorted(await rig.drain()) == [[0, 1, 2], [3, 4, 5], [6], [7]]

    async def test_more_of_a_lane_is_waited_for(self, rig: EventRig) -> None:
        promised(rig.lingers, "lingers")
        await rig.hears(most=10, linger_s=2.0)
        await rig.bus.publish(rig.events(1))
        await rig.wait(1)
        await rig.bus.publish(rig.events(2, 3))
        assert await rig.take() == []
        await rig.wait(1.01)
        delivery = await rig.one()
        assert numbers(delivery) == [1, 2, 3]
        await rig.bus.publish(rig.events(4))
        await rig.bus.done([delivery])
        assert await rig.take() == []
        await rig.wait(2.01)
        assert await rig.drain() == [[4]]

    async def test_what_is_tried_again_together_is_the_same(self, rig: EventRig) -> None:
        promised(rig.same_batch_again, "same_batch_again")
        await rig.hears(most=10)
        await rig.bus.publish(rig.events(1, 2))
        delivery = await rig.one()
        await rig.bus.publish(rig.events(3))
        await rig.bus.failed(delivery, "x", rig.now())
        again = await rig.one()
        assert (numbers(again), again.attempt) == ([1, 2], 2)
        await rig.bus.done([again])
        assert await rig.drain() == [[3]]

    async def test_of_several_that_cannot_be_handled_only_the_bad_one_dies(self, rig: EventRig) -> None:
        await rig.hears(most=10)
        await rig.bus.publish(rig.events(1, 2, 3))
        delivery = await rig.one()
        await rig.bus.publish(rig.events(4, 5))
        await rig.bus.failed(delivery, "x", None)
        assert await rig.bus.dead(tenant=None, handler=None, limit=9) == []
        for number in (1, 2, 3):
            delivery = await rig.one()
            assert (numbers(delivery), delivery.attempt) == ([number], 2)
            if number == 2:
                await rig.bus.failed(delivery, "bad", None)
            else:
                assert await rig.bus.done([delivery]) == 1
        assert await rig.drain() == [[4, 5]]
        assert [letter.event.id for letter in await rig.bus.dead(tenant=None, handler=None, limit=9)] == ["e2"]

    async def test_dead_letters_are_delivered_again_once(self, rig: EventRig) -> None:
        await rig.hears()
        await rig.bus.publish([*rig.events(1, 2), rig.event(3, tenant="rival")])
        for _ in range(2):
            for delivery in await rig.take():
                await rig.bus.failed(delivery, "bad", None)
        letters = await rig.bus.dead(tenant=None, handler=None, limit=9)
        assert len(letters) == 3
        assert len(await rig.bus.dead(tenant=None, handler=None, limit=2)) == 2
        assert await rig.bus.dead(tenant=None, handler="other", limit=9) == []
        assert [letter.event.id for letter in await rig.bus.dead(tenant="rival", handler=None, limit=9)] == ["e3"]
        ids = [letter.id for letter in letters if letter.event.tenant == "acme"]
        assert await rig.bus.replay([*ids, ids[0]]) == 2
        assert await rig.bus.replay(ids) == 0
        first = await rig.one()
        assert first.attempt == 1
        assert await rig.bus.done([first]) == 1
        assert sorted([numbers(first), *await rig.drain()]) == [[1], [2]]
        assert [letter.event.id for letter in await rig.bus.dead(tenant=None, handler=None, limit=9)] == ["e3"]
