"""What every adapter of `ports.SightingStore` and `ports.ReadingStore` must do. Subclass the suites and give them a fixture `noted`.

class TestMySightings(SightingStoreContract): ...

@pytest.fixture
async def noted() -> AsyncIterator[Noted]: ...    # empty stores, and their clock
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, literal expectations are its point

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec

from farthing.ports import ReadingStore, SightingStore
from farthing.testing.stores import Clock
from farthing.types import Allowance, Event, Sighting

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_PENNY = Allowance(user_microusd=100, tenant_microusd=250, user_calls=5)


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """The stores under test, and the clock that they tell the time by."""

    sightings: SightingStore
    readings: ReadingStore
    clock: Clock


def sighting(noted: Noted, number: int, at_s: float = 0.0, **facts: Any) -> Sighting:
    """An event that was seen so many seconds ago, and arrived just now."""
    at = noted.clock.now - timedelta(seconds=at_s)
    usual = {"tenant": "acme", "user": "ann", "rule": "errors", "group": bytes(32), "event": f"app#{number}", "at": at}
    return Sighting(**{**usual, "arrived": noted.clock.now, **facts})


def happened(noted: Noted, number: int, **facts: Any) -> Event:
    """An event that happens now."""
    usual = {"id": str(number), "source": "app", "type": "note", "tenant": "acme", "user": "ann"}
    return Event(**{**usual, "time": noted.clock.now, "received_at": noted.clock.now, **facts})


def _names(found: list[Sighting]) -> list[str]:
    return [one.event for one in found]


class SightingStoreContract:
    """`ports.SightingStore`."""

    async def test_what_was_seen_near_it_comes_oldest_first_with_it_among_them(self, noted: Noted) -> None:
        for number, ago in ((1, 30), (2, 5), (3, 10)):
            await noted.sightings.see(sighting(noted, number, ago), within_s=20, most=9)
        found = await noted.sightings.see(sighting(noted, 4, 12), within_s=20, most=9)
        assert _names(found) == ["app#1", "app#4", "app#3", "app#2"]
        assert found[1] == sighting(noted, 4, 12)
        assert _names(await noted.sightings.see(sighting(noted, 5, 60), within_s=29, most=9)) == ["app#5"]

    async def test_an_event_is_noted_once(self, noted: Noted) -> None:
        for _ in range(3):
            assert _names(await noted.sightings.see(sighting(noted, 1), within_s=60, most=9)) == ["app#1"]

    async def test_rules_groups_users_and_tenants_are_apart(self, noted: Noted) -> None:
        await noted.sightings.see(sighting(noted, 1), within_s=60, most=9)
        others: list[dict[str, Any]] = [{"rule": "other"}, {"group": b"\1" * 32}, {"user": "bob"}, {"tenant": "rival"}]
        for number, other in enumerate(others, 2):
            assert len(await noted.sightings.see(sighting(noted, number, **other), within_s=60, most=9)) == 1

    async def test_of_many_the_nearest_come_and_always_itself(self, noted: Noted) -> None:
        for number in range(10, 50):
            await noted.sightings.see(sighting(noted, number, 5), within_s=60, most=2)
        found = _names(await noted.sightings.see(sighting(noted, 30, 5), within_s=60, most=2))
        assert found == ["app#29", "app#30", "app#31", "app#32"]

    async def test_two_at_the_same_time_see_each_other(self, noted: Noted) -> None:
        both = await asyncio.gather(*(noted.sightings.see(sighting(noted, number), within_s=60, most=9) for number in (1, 2, 3, 4)))
        assert max(map(len, both)) == 4

    async def test_who_was_forgotten_leaves_nothing_and_what_is_on_its_way_is_not_stored(self, noted: Noted) -> None:
        early = sighting(noted, 1)
        await noted.sightings.see(early, within_s=60, most=9)
        await noted.sightings.see(sighting(noted, 2, user="bob"), within_s=60, most=9)
        assert await noted.sightings.forget("acme", "ann") == 1
        assert await noted.sightings.see(early, within_s=60, most=9) == []
        noted.clock.now += _SECOND
        assert _names(await noted.sightings.see(sighting(noted, 3), within_s=60, most=9)) == ["app#3"]
        assert await noted.sightings.see(early, within_s=60, most=9) == []
        assert await noted.sightings.forget("acme", "") == 0
        assert await noted.sightings.forget("acme", None) == 2
        assert await noted.sightings.forget("acme", None) == 0

    async def test_what_arrived_before_erasures_are_remembered_is_not_stored(self, noted: Noted) -> None:
        late = sighting(noted, 1, arrived=noted.clock.now - 7 * _DAY)
        assert await noted.sightings.see(late, within_s=60, most=9) == []

    async def test_old_ones_go_and_the_oldest_beyond_the_bound(self, noted: Noted) -> None:
        for number in range(6):
            await noted.sightings.see(sighting(noted, number, 10 * number), within_s=60, most=9)
        assert await noted.sightings.prune(noted.clock.now - 45 * _SECOND, max_rows=3) == 3
        assert _names(await noted.sightings.see(sighting(noted, 0), within_s=60, most=9)) == ["app#2", "app#1", "app#0"]


class ReadingStoreContract:
    """`ports.ReadingStore`."""

    async def test_what_was_read_is_not_unread_any_more(self, noted: Noted) -> None:
        events = [happened(noted, number) for number in (1, 2, 3)]
        assert await noted.readings.unread("acme", "ann", events) == events
        for _ in range(2):
            await noted.readings.read("acme", "ann", [events[1], events[1]])
        assert await noted.readings.unread("acme", "ann", events) == [events[0], events[2]]
        assert await noted.readings.unread("acme", "bob", events) == events
        assert await noted.readings.unread("rival", "ann", events) == events
        assert await noted.readings.unread("acme", "ann", []) == []

    async def test_source_and_id_do_not_run_together(self, noted: Noted) -> None:
        await noted.readings.read("acme", "ann", [happened(noted, 1, source="a#b", id="c")])
        other = happened(noted, 1, source="a", id="b#c")
        assert await noted.readings.unread("acme", "ann", [other]) == [other]

    async def test_money_is_kept_within_the_allowance_of_the_user(self, noted: Noted) -> None:
        day = noted.clock.now.date()
        assert await noted.readings.reserve("acme", "ann", day, 60, _PENNY)
        assert not await noted.readings.reserve("acme", "ann", day, 41, _PENNY)
        assert await noted.readings.reserve("acme", "ann", day, 40, _PENNY)
        assert not await noted.readings.reserve("acme", "ann", day, 1, _PENNY)
        assert await noted.readings.reserve("acme", "ann", day + _DAY, 100, _PENNY)
        assert not await noted.readings.reserve("acme", "bob", day, 101, _PENNY)
        assert not await noted.readings.reserve("acme", "", day, 1, _PENNY)

    async def test_and_of_the_tenant(self, noted: Noted) -> None:
        day = noted.clock.now.date()
        assert [await noted.readings.reserve("acme", user, day, 100, _PENNY) for user in ("ann", "bob", "cem")] == [True, True, False]
        assert await noted.readings.reserve("acme", "cem", day, 50, _PENNY)
        assert await noted.readings.reserve("rival", "cem", day, 100, _PENNY)

    async def test_what_is_refused_for_the_tenant_is_not_kept_of_the_user(self, noted: Noted) -> None:
        day = noted.clock.now.date()
        poor = Allowance(user_microusd=100, tenant_microusd=10, user_calls=1)
        assert not await noted.readings.reserve("acme", "ann", day, 50, poor)
        assert await noted.readings.reserve("acme", "ann", day, 10, poor)

    async def test_what_was_not_spent_comes_back(self, noted: Noted) -> None:
        day = noted.clock.now.date()
        await noted.readings.reserve("acme", "ann", day, 100, _PENNY)
        await noted.readings.settle("acme", "ann", day, reserved=100, spent=30)
        assert await noted.readings.reserve("acme", "ann", day, 70, _PENNY)
        await noted.readings.settle("acme", "ann", day, reserved=70, spent=90)
        assert not await noted.readings.reserve("acme", "ann", day, 0, _PENNY)

    async def test_calls_are_counted_where_nothing_is_billed(self, noted: Noted) -> None:
        day = noted.clock.now.date()
        assert [await noted.readings.reserve("acme", "ann", day, 0, _PENNY) for _ in range(6)] == [True] * 5 + [False]
        assert await noted.readings.reserve("acme", "bob", day, 0, _PENNY)

    async def test_of_many_at_once_no_more_are_let_through_than_there_is_money_for(self, noted: Noted) -> None:
        day = noted.clock.now.date()
        users = [f"u{number % 7}" for number in range(14)]
        kept = await asyncio.gather(*(noted.readings.reserve("acme", user, day, 25, _PENNY) for user in users))
        assert sum(kept) == 10

    async def test_who_was_forgotten_leaves_nothing(self, noted: Noted) -> None:
        day, event = noted.clock.now.date(), happened(noted, 1)
        await noted.readings.read("acme", "ann", [event])
        await noted.readings.reserve("acme", "ann", day, 100, _PENNY)
        assert await noted.readings.forget("acme", "ann") == 2
        await noted.readings.read("acme", "ann", [event])
        assert await noted.readings.unread("acme", "ann", [event]) == [event]
        assert await noted.readings.reserve("acme", "ann", day, 100, _PENNY)
        assert not await noted.readings.reserve("acme", "bob", day, 100, _PENNY)  # the tenant's sum stays
        assert await noted.readings.forget("acme", "") == 0
        assert await noted.readings.forget("acme", None) == 2

    async def test_what_is_old_goes(self, noted: Noted) -> None:
        event, day = happened(noted, 1), noted.clock.now.date()
        await noted.readings.read("acme", "ann", [event])
        await noted.readings.reserve("acme", "ann", day, 100, _PENNY)
        assert await noted.readings.prune(noted.clock.now - _DAY) == 0
        assert await noted.readings.prune(noted.clock.now + _DAY) == 3
        assert await noted.readings.unread("acme", "ann", [event]) == [event]
