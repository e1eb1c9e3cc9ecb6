"""What every adapter of `ports.EventBus` keeps, tells, refuses and forgets. See `farthing.testing.events`."""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta

import pytest

from farthing.errors import InvalidRequest, Overloaded
from farthing.ports import EventBus
from farthing.testing.events import HEAR, EventRig, numbers, promised
from farthing.testing.stores import watched
from farthing.types import Delivery, Event, Subscription, new_id

_HOUR = timedelta(hours=1)


class EventStoreContract:
    """`ports.EventBus`: what is there, and for how long."""

    async def test_a_handler_hears_of_what_is_published_while_it_is_subscribed(self, rig: EventRig) -> None:
        await rig.bus.publish(rig.events(1))
        await rig.hears()
        await rig.bus.publish(rig.events(2))
        await rig.hears("page.*")
        await rig.bus.publish(rig.events(3))
        assert await rig.drain() == [[2], [3]]
        await rig.hears(handler="other")
        await rig.bus.publish(rig.events(4))
        assert [one.handler for one in await rig.bus.backlog()] == ["other"]
        await rig.hears()
        assert await rig.drain() == []

    async def test_events_are_stored_all_or_none(self, rig: EventRig) -> None:
        await rig.hears()
        with pytest.raises(InvalidRequest):
            await rig.bus.publish([rig.event(1), rig.event(2, data={"x": {object()}}), rig.event(3)])
        assert await rig.bus.publish([]) == []
        assert await rig.bus.tail(tenant=None, after=-1, limit=9) == []
        assert await rig.bus.publish(rig.events(1, 3)) == [True, True]

    async def test_the_tail_is_in_order_and_of_one_tenant_or_all(self, rig: EventRig) -> None:
        for number in range(6):
            await rig.bus.publish([rig.event(number, tenant="acme" if number % 2 else "rival")])
        everything = await rig.bus.tail(tenant=None, after=0, limit=99)
        assert [event.id for event in everything] == ["e0", "e1", "e2", "e3", "e4", "e5"]
        assert [event.id for event in await rig.bus.tail(tenant=None, after=-1, limit=2)] == ["e4", "e5"]
        assert [event.id for event in await rig.bus.tail(tenant="acme", after=-1, limit=2)] == ["e3", "e5"]
        after = everything[2].position
        assert [event.id for event in await rig.bus.tail(tenant="acme", after=after, limit=1)] == ["e3"]
        assert await rig.bus.tail(tenant="nobody", after=0, limit=9) == []

    async def test_what_is_behind_is_counted(self, rig: EventRig) -> None:
        promised(rig.counts_exactly, "counts_exactly")
        await rig.bus.subscribe([Subscription(handler=HEAR, types=("*",)), Subscription(handler="idle", types=("x",))])
        await rig.bus.publish(rig.events(1, 2, 3))
        await rig.bus.failed(await rig.one(), "bad", None)
        await rig.one()
        await rig.wait(2)
        hear, idle = sorted(await rig.bus.backlog(), key=lambda one: one.handler)
        assert (hear.waiting, hear.dead, idle.waiting, idle.dead, idle.lag_s) == (2, 1, 0, 0, 0)
        assert 2 <= hear.lag_s < 10

    async def test_events_are_refused_while_a_handler_is_too_far_behind(self, rig: EventRig) -> None:
        promised(rig.crowded, "crowded")
        assert rig.crowded is not None
        await rig.crowded.subscribe([Subscription(handler=HEAR, types=("*",), most=100)])
        assert await rig.crowded.publish(rig.events(*range(10))) == [True] * 10
        with pytest.raises(Overloaded) as refused:
            await rig.crowded.publish(rig.events(10))
        assert refused.value.retry_after_s is not None
        deliveries = await rig.crowded.take(HEAR, lanes=1, lease_s=rig.lease_s)
        assert await rig.crowded.done(deliveries) == 1
        assert await rig.crowded.publish(rig.events(10)) == [True]

    async def test_handlers_are_told_that_there_is_something_to_do(self, rig: EventRig) -> None:
        promised(rig.changes, "changes")
        assert rig.changes is not None
        await rig.hears("wanted")
        async with aclosing(watched(rig.changes)) as news:
            while await anext(news) != ("jobs", ""):
                pass
            await rig.bus.publish([rig.event(1, type="unwanted")])
            await rig.bus.publish([rig.event(2, type="wanted")])
            heard = await anext(news)
            while heard[0] != "events":
                heard = await anext(news)
            assert heard == ("events", HEAR)

    async def test_states_that_events_touch_have_a_new_version_once(self, rig: EventRig) -> None:
        promised(rig.versions, "versions")
        assert rig.versions is not None
        await rig.bus.publish([rig.event(1, touches=("a", "b", "a")), rig.event(1, touches=("c",)), rig.event(2, touches=("b",))])
        assert await rig.versions("acme", ["a", "b", "c"]) == {"a": 1, "b": 1, "c": 0}
        await rig.bus.publish([rig.event(1, touches=("a",)), rig.event(3, touches=("b",))])
        assert await rig.versions("acme", ["a", "b"]) == {"a": 1, "b": 2}
        assert await rig.versions("rival", ["a", "b"]) == {"a": 0, "b": 0}
        some = [
            rig.event(10 + number, touches=("a", "b")[:: 1 - 2 * (number % 2)], tenant="acme" if number % 3 else "b")
            for number in range(12)
        ]
        await asyncio.gather(*((rig.bus, rig.other)[number % 2].publish([event]) for number, event in enumerate(some)))
        assert await rig.versions("acme", ["a", "b"]) == {"a": 9, "b": 10}

    async def test_a_forgotten_users_events_go_and_others_stay(self, rig: EventRig) -> None:
        await rig.hears()
        bob = rig.event(4, user="bob")
        await rig.bus.publish([*rig.events(1, 2, 3), bob, rig.event(5, user=None), rig.event(6, tenant="rival")])
        await rig.bus.failed(next(one for one in await rig.take() if one.tenant == "acme"), "bad", None)
        under_way = await rig.one()
        assert numbers(under_way) == [2]
        assert await rig.bus.forget("acme", "ann") == 3
        assert await rig.bus.forget("acme", "") == 0
        assert await rig.bus.done([under_way]) == 0
        assert await rig.bus.dead(tenant="acme", handler=None, limit=9) == []
        assert [event.id for event in await rig.bus.tail(tenant="acme", after=0, limit=9)] == ["e4", "e5"]
        assert [event.id for event in await rig.bus.tail(tenant="rival", after=0, limit=9)] == ["e6"]
        assert await rig.drain() == [[4], [5]]

    async def test_events_that_are_on_their_way_when_their_user_is_forgotten_are_not_stored(self, rig: EventRig) -> None:
        promised(rig.forgets_on_the_way, "forgets_on_the_way")
        await rig.hears()
        on_their_way = [rig.event(1), rig.event(2, user="bob"), rig.event(3, tenant="rival")]
        await rig.wait(1)
        assert await rig.bus.forget("acme", "ann") == 0
        assert await rig.bus.publish(on_their_way) == [False, True, True]
        await rig.wait(1)
        assert await rig.bus.publish([rig.event(4)]) == [True]
        late = rig.event(5, user="carl")
        await rig.wait(1)
        assert await rig.bus.forget("acme", None) == 2
        assert await rig.bus.publish([late, rig.event(6, tenant="rival")]) == [False, True]
        assert sorted((event.tenant, event.id) for event in await rig.bus.tail(tenant=None, after=0, limit=9)) == [
            ("rival", "e3"),
            ("rival", "e6"),
        ]

    async def test_old_events_go_when_all_are_through_with_them(self, rig: EventRig) -> None:
        promised(rig.prunes_each, "prunes_each")
        await rig.bus.subscribe([Subscription(handler=HEAR, types=("*",)), Subscription(handler="slow", types=("slow",))])
        await rig.bus.publish([rig.event(1), rig.event(2, type="slow"), rig.event(3)])
        assert await rig.bus.prune(rig.now() + _HOUR, max_rows=99) == 0
        await rig.bus.done([await rig.one()])
        await rig.bus.done([await rig.one()])
        await rig.bus.failed(await rig.one(), "bad", None)
        assert await rig.bus.prune(rig.now() - _HOUR, max_rows=99) == 0
        assert await rig.bus.prune(rig.now() - _HOUR, max_rows=2) == 1
        assert [event.id for event in await rig.bus.tail(tenant=None, after=0, limit=9)] == ["e2", "e3"]
        assert await rig.bus.prune(rig.now() + _HOUR, max_rows=99) == 1
        assert await rig.bus.dead(tenant=None, handler=None, limit=9) == []
        assert [numbers(one) for one in await rig.take(handler="slow")] == [[2]]

    async def test_a_pruned_event_is_still_known(self, rig: EventRig) -> None:
        promised(rig.remembers_pruned, "remembers_pruned")
        await rig.bus.publish(rig.events(1, 2))
        assert await rig.bus.prune(rig.now() + _HOUR, max_rows=99) == 2
        assert await rig.bus.publish(rig.events(1, 3, 2)) == [False, True, False]
        assert await rig.bus.publish([rig.event(1, tenant="rival")]) == [True]

    async def test_an_unknown_letter_and_an_empty_list_are_nothing(self, rig: EventRig) -> None:
        await rig.hears()
        assert await rig.bus.replay([]) == 0
        assert await rig.bus.replay([new_id()]) == 0
        assert await rig.bus.done([]) == 0
        assert await rig.take() == []

    async def test_a_large_backlog_is_worked_off_in_order_and_in_pieces(self, rig: EventRig) -> None:
        most, lanes, subjects = 100, 20, 50
        await rig.hears(most=most)
        for start in range(0, rig.flood, 2000):
            some = range(start, min(start + 2000, rig.flood))
            await rig.bus.publish([rig.event(number, subject=f"s{number % subjects}", data=None) for number in some])
        last: dict[str, int] = {}
        handled = 0

        def work(deliveries: Sequence[Delivery]) -> int:
            for one in deliveries:
                assert len(one.events) <= most
                _follow(last, one.lane, one.events)
            return sum(len(one.events) for one in deliveries)

        async def taker(bus: EventBus) -> None:
            nonlocal handled
            while handled < rig.flood:
                deliveries = await bus.take(HEAR, lanes=lanes, lease_s=300)
                assert len(deliveries) <= lanes
                handled += work(deliveries)
                assert await bus.done(deliveries) == len(deliveries)

        async with asyncio.timeout(120):
            await asyncio.gather(taker(rig.bus), taker(rig.other))
        assert handled == rig.flood
        assert len(last) == subjects


def _follow(last: dict[str, int], lane: str, events: Sequence[Event]) -> None:
    """Each event of a lane is the next one of it."""
    for event in events:
        assert event.position > last.get(lane, 0)
        last[lane] = event.position
