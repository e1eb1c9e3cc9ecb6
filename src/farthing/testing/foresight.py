"""What every adapter of `ports.ForesightLog` must do. Subclass the suite and give it a fixture `logged`.

class TestMyLog(ForesightLogContract): ...

@pytest.fixture
async def logged() -> AsyncIterator[Logged]: ...    # an empty log, an edge store that has the same states, and the clock of both
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from farthing.ports import LATE_CLICKS, EdgeStore, ForesightLog
from farthing.testing.edge import begun_id
from farthing.testing.stores import Clock
from farthing.types import ActionCounts, Click, Foreseen

_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """The log under test, where its states change, and the clock that it tells the time by."""

    log: ForesightLog
    edge: EdgeStore
    clock: Clock


def foreseen(clock: Clock, number: int = 0, **facts: Any) -> Foreseen:
    """An answer of now to Ann's briefing, good for an hour."""
    usual: dict[str, Any] = {
        "request_id": begun_id(clock.now, number),
        "tenant": "acme",
        "user": "ann",
        "action": "briefing",
        "segment": "pro",
        "versions": {"deployments": 0},
        "made_at": clock.now,
        "expires_at": clock.now + _HOUR,
        "cost_microusd": 100,
        "tokens_in": 80,
        "tokens_out": 10,
    }
    return Foreseen(**{**usual, **facts})


def click(clock: Clock, request_id: UUID | None, **facts: Any) -> Click:
    """Ann asks for her briefing now."""
    usual: dict[str, Any] = {"tenant": "acme", "user": "ann", "action": "briefing", "saved_microusd": 100, "at": clock.now}
    return Click(request_id=request_id, **{**usual, **facts})


def monday_of(at: datetime) -> date:
    """The week's."""
    return at.date() - timedelta(days=at.weekday())


async def _counts(logged: Logged, tenant: str = "acme") -> dict[tuple[str, str], dict[str, float]]:
    learned = await logged.log.learned(tenant, ["briefing", "alerts"], half_life_days=14)
    return {(one.action, one.segment): _set(one) for one in learned}


def _set(one: ActionCounts) -> dict[str, float]:
    return {name: value for name, value in msgspec.structs.asdict(one).items() if value and name not in {"action", "segment"}}


class ForesightLogContract:
    """`ports.ForesightLog`."""

    async def test_what_is_computed_and_read_is_counted_once(self, logged: Logged) -> None:
        log, clock = logged.log, logged.clock
        one = foreseen(clock)
        await log.add([one, one], [])
        await log.add([one], [click(clock, one.request_id), click(clock, one.request_id)])
        assert await _counts(logged) == {
            ("briefing", "pro"): {
                "computed": 1,
                "read": 1,
                "served": 2,
                "tokens_in": 80,
                "tokens_out": 10,
                "spent_microusd": 100,
                "saved_microusd": 200,
            }
        }

    async def test_a_click_that_the_model_answers_is_live_and_one_on_its_answer_is_served(self, logged: Logged) -> None:
        live = click(logged.clock, None, saved_microusd=0)
        await logged.log.add([], [live, click(logged.clock, begun_id(logged.clock.now, 9))])
        assert await _counts(logged) == {("briefing", ""): {"live": 1, "served": 1, "saved_microusd": 100}}

    async def test_unread_answers_are_counted_when_they_end_as_stale_or_expired(self, logged: Logged) -> None:
        log, clock = logged.log, logged.clock
        ones = [foreseen(clock, number, user=f"u{number}", versions={f"s{number}": 0}) for number in range(3)]
        await log.add(ones, [click(clock, ones[0].request_id, user="u0")])
        await logged.edge.bump("acme", ["s0", "s1"])
        clock.now += _HOUR
        assert await log.settle() == 0
        clock.now += LATE_CLICKS
        assert await log.settle() == 3
        assert await log.settle() == 0
        counts = (await _counts(logged))["briefing", "pro"]
        assert (counts["read"], counts["stale"], counts["expired"]) == (1, 1, 1)

    async def test_an_unread_answer_ends_when_another_takes_its_place(self, logged: Logged) -> None:
        log, clock = logged.log, logged.clock
        await log.add([foreseen(clock)], [])
        await logged.edge.bump("acme", ["deployments"])
        clock.now += _SECOND
        newer = foreseen(clock, versions={"deployments": 1})
        others = [foreseen(clock, 1, user="bob"), foreseen(clock, 2, action="alerts"), foreseen(clock, 3, tenant="other")]
        await log.add([newer, *others], [click(clock, newer.request_id)])
        clock.now += LATE_CLICKS
        assert await log.settle() == 1
        counts = (await _counts(logged))["briefing", "pro"]
        assert (counts["computed"], counts["read"], counts["stale"]) == (3, 1, 1)
        assert "expired" not in counts

    async def test_a_click_that_is_counted_late_is_counted_for_the_answer_that_was_replaced_meanwhile(self, logged: Logged) -> None:
        log, clock = logged.log, logged.clock
        one = foreseen(clock)
        await log.add([one], [])
        clicked = click(clock, one.request_id)
        clock.now += _SECOND
        await log.add([foreseen(clock, 1)], [])
        await log.add([], [clicked])
        clock.now += LATE_CLICKS
        assert await log.settle() == 1
        counts = (await _counts(logged))["briefing", "pro"]
        assert (counts["read"], counts["computed"]) == (1, 2)
        assert not counts.keys() & {"stale", "expired"}

    async def test_a_click_on_an_answer_that_has_ended_is_served_and_not_read(self, logged: Logged) -> None:
        log, clock = logged.log, logged.clock
        one = foreseen(clock)
        await log.add([one], [])
        clock.now += _HOUR + LATE_CLICKS
        assert await log.settle() == 1
        await log.add([], [click(clock, one.request_id)])
        counts = await _counts(logged)
        assert "read" not in counts["briefing", "pro"]
        assert counts["briefing", "pro"]["expired"] == 1
        assert counts["briefing", ""] == {"served": 1, "saved_microusd": 100}

    async def test_what_happened_long_ago_weighs_less(self, logged: Logged) -> None:
        log, clock = logged.log, logged.clock
        one = foreseen(clock)
        await log.add([one], [click(clock, one.request_id)])
        clock.now += 14 * _DAY
        two = foreseen(clock)
        await log.add([two], [click(clock, two.request_id)])
        [learned] = await log.learned("acme", ["briefing"], half_life_days=14)
        assert abs(learned.read - 1.5) < 1e-6
        assert await log.learned("acme", ["alerts"], half_life_days=14) == []
        assert await log.learned("other", ["briefing"], half_life_days=14) == []

    async def test_a_week_is_reported_as_it_stands_and_as_it_was_stored(self, logged: Logged) -> None:
        log, clock = logged.log, logged.clock
        monday = monday_of(clock.now)
        await log.add([foreseen(clock), foreseen(clock, 1, tenant="other", segment="free")], [])
        reports = await log.week(None, monday)
        assert [(one.tenant, one.week, one.rows[0].segment, one.rows[0].computed) for one in reports] == [
            ("acme", monday, "pro", 1),
            ("other", monday, "free", 1),
        ]
        assert await log.store_week(monday) == 2
        clock.now += _SECOND
        await log.add([foreseen(clock, 2, user="bob")], [])
        [stored] = await log.week("acme", monday)
        assert (stored.rows[0].computed, stored.made_at) == (1, clock.now - _SECOND)
        assert await log.store_week(monday) == 2
        assert (await log.week("acme", monday))[0].rows[0].computed == 2
        assert await log.week("acme", monday - 7 * _DAY) == []
        assert await log.store_week(monday - 7 * _DAY) == 0

    async def test_a_user_is_forgotten_and_what_is_on_its_way_is_left_out(self, logged: Logged) -> None:
        log, clock = logged.log, logged.clock
        await log.add([foreseen(clock), foreseen(clock, 1, user="bob")], [])
        begun = clock.now
        clock.now += _SECOND
        assert await log.forget("acme", "ann") == 1
        await log.add([foreseen(clock, request_id=begun_id(begun, 5))], [click(clock, None, at=begun)])
        assert (await _counts(logged))["briefing", "pro"]["computed"] == 2
        assert await log.forget("acme", "") == 0
        assert await log.forget("acme", None) >= 2
        assert await _counts(logged) == {}

    async def test_old_weeks_are_pruned(self, logged: Logged) -> None:
        log, clock = logged.log, logged.clock
        monday = monday_of(clock.now)
        await log.add([foreseen(clock)], [])
        await log.store_week(monday)
        assert await log.prune(monday) == 0
        assert await log.prune(monday + 7 * _DAY) == 2
        assert await log.week(None, monday) == []
