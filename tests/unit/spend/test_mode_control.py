"""What the policy does with a day's demand, in virtual time. A window is a quarter of an hour; usual demand takes half of a ceiling."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mode_world import START, Caller, World

from farthing.modes import pinned
from farthing.settings import ModesSettings, Settings
from farthing.spend.mode_control import ModeControl
from farthing.types import TOTAL, ModeState, SpendRow

WINDOW_S = 900
USD = 10.0
RATE = 10.0
COST = USD * 1e6 / 2 / WINDOW_S / RATE
COSTS = (COST, COST / 10, 0.0)
SPIKE = (1000.0, 1600.0)
ANYBODY = Caller(1)
MODES = {"ceiling_usd": USD, "window_s": WINDOW_S, "horizon_s": 225, "dwell_s": 30}


def spike(at: float) -> bool:
    return SPIKE[0] <= at < SPIKE[1]


def modes_of(world: World, scope: str) -> list[str]:
    """The modes that a scope went through."""
    found = ["DEEP"]
    for _, state in world.changes:
        mode = state.entries[scope].mode if scope in state.entries else "DEEP"
        if mode != found[-1]:
            found.append(mode)
    return found


@pytest.mark.parametrize(("factor", "base"), [(10, 1.0), (100, 1.0), (100, RATE), (250, 2.0)])
def test_a_spike_goes_down_once_and_up_once_and_keeps_the_ceiling(factor: float, base: float) -> None:
    costs = tuple(cost * RATE / base for cost in COSTS)
    world = World(MODES, costs, lambda at: {ANYBODY: base * (factor if spike(at) else 1)}, tick_s=0.5)
    world.run(2700)
    assert world.worst <= USD * 1e6 * 1.02
    assert len(world.changes) == 2
    assert SPIKE[0] < world.changes[0][0] < SPIKE[0] + 30
    assert world.state.entries == {}


def test_the_shallow_mode_is_enough_for_a_small_spike() -> None:
    world = World(MODES, COSTS, lambda at: {ANYBODY: RATE * (4 if spike(at) else 1)})
    world.run(2700)
    assert modes_of(world, TOTAL) == ["DEEP", "SHALLOW", "DEEP"]


def test_the_paying_tier_is_untouched_when_the_free_one_suffices() -> None:
    modes = {**MODES, "tiers": ["free", "pro"]}
    world = World(modes, COSTS, lambda at: {Caller(1): RATE / 2 * (100 if spike(at) else 1), Caller(2, tier="pro"): RATE / 2})
    world.run(2700)
    assert modes_of(world, "tier:free") == ["DEEP", "SUPER_SHALLOW", "DEEP"]
    assert modes_of(world, "tier:pro") == ["DEEP"]


def test_tiers_that_are_not_named_go_down_before_all() -> None:
    modes = {**MODES, "tiers": ["free", "pro"]}
    world = World(modes, COSTS, lambda at: {Caller(1): RATE / 2, Caller(2, tier="trial"): RATE / 2 * (100 if spike(at) else 1)})
    world.run(1300)
    assert world.mode_of(Caller(2, tier="trial")) == "SUPER_SHALLOW"
    assert world.mode_of(Caller(1)) == "DEEP"


def test_the_paying_tier_goes_down_too_when_its_own_demand_breaks_the_ceiling() -> None:
    modes = {**MODES, "tiers": ["free", "pro"]}
    world = World(modes, COSTS, lambda at: {Caller(1): RATE / 2, Caller(2, tier="pro"): RATE / 2 * (100 if spike(at) else 1)})
    world.run(2700)
    assert world.worst <= USD * 1e6 * 1.02
    assert modes_of(world, "tier:free") == ["DEEP", "SUPER_SHALLOW", "DEEP"]
    assert modes_of(world, "tier:pro")[-1] == "DEEP"
    assert "SHALLOW" in modes_of(world, "tier:pro")[1]


def test_a_slow_ramp_goes_through_the_shallow_mode() -> None:
    world = World(MODES, COSTS, lambda at: {ANYBODY: RATE * (1 + min(at, 3600) / 100) if at < 4500 else RATE})
    world.run(6500)
    assert modes_of(world, TOTAL) == ["DEEP", "SHALLOW", "SUPER_SHALLOW", "DEEP"]
    assert world.worst <= USD * 1e6


def test_a_demand_that_flaps_does_not_make_the_mode_flap() -> None:
    world = World(MODES, COSTS, lambda at: {ANYBODY: RATE * (4 if int(at / 10) % 2 else 0.1)})
    world.run(2700)
    assert len(world.changes) <= 2
    assert world.worst <= USD * 1e6


def test_demand_just_under_the_ceiling_changes_nothing() -> None:
    world = World(MODES, COSTS, lambda _: {ANYBODY: RATE * 1.8})
    world.run(2700)
    assert world.changes == []


def test_few_and_dear_requests_do_not_alarm() -> None:
    world = World(MODES, (COST * 500, COST * 50, 0.0), lambda _: {ANYBODY: RATE / 500 * 1.2})
    world.run(7200)
    assert world.changes == []
    assert world.worst <= USD * 1e6


def test_an_abusive_key_goes_down_alone() -> None:
    others = {Caller(key): RATE / 20 for key in range(1, 20)}
    thief = Caller(99)
    world = World(MODES, COSTS, lambda at: {**others, thief: RATE * 50 if spike(at) else RATE / 20})
    world.run(2700)
    assert modes_of(world, f"key:{UUID(int=99)}") == ["DEEP", "SUPER_SHALLOW", "DEEP"]
    assert modes_of(world, TOTAL) == ["DEEP"]
    assert world.worst <= USD * 1e6


def test_a_key_with_dear_requests_goes_down_alone_too() -> None:
    others = {Caller(key): RATE / 20 for key in range(1, 20)}
    world = World(MODES, COSTS, lambda at: {**others, Caller(99, dear=50): RATE if spike(at) else 0})
    world.run(2700)
    assert modes_of(world, f"key:{UUID(int=99)}")[:2] == ["DEEP", "SUPER_SHALLOW"]
    assert modes_of(world, TOTAL) == ["DEEP"]


def test_of_two_keys_none_is_abusive() -> None:
    world = World(MODES, COSTS, lambda at: {Caller(1): RATE / 2, Caller(2): RATE * (50 if spike(at) else 0.5)})
    world.run(1300)
    assert set(world.state.entries) == {TOTAL}


def test_a_tenant_has_a_ceiling_of_its_own() -> None:
    modes = {"tenants": {"acme": {"ceiling_usd": USD}}, "window_s": WINDOW_S, "horizon_s": 225, "dwell_s": 30}
    other = Caller(2, tenant="other")
    world = World(modes, COSTS, lambda at: {ANYBODY: RATE * (100 if spike(at) else 1), other: RATE * 100})
    world.run(2700)
    assert modes_of(world, "tenant:acme") == ["DEEP", "SUPER_SHALLOW", "DEEP"]
    assert world.mode_of(other) == "DEEP"
    assert {scope for _, state in world.changes for scope in state.entries} == {"tenant:acme"}


def test_every_key_has_a_ceiling_of_its_own() -> None:
    modes = {"keys": {"ceiling_usd": USD}, "window_s": WINDOW_S, "horizon_s": 225, "dwell_s": 30}
    world = World(modes, COSTS, lambda at: {ANYBODY: RATE * (100 if spike(at) else 1), Caller(2): RATE})
    world.run(2700)
    assert modes_of(world, f"key:{UUID(int=1)}") == ["DEEP", "SUPER_SHALLOW", "DEEP"]
    assert {scope for _, state in world.changes for scope in state.entries} == {f"key:{UUID(int=1)}"}


def test_free_requests_never_change_the_mode() -> None:
    world = World(MODES, (0.0, 0.0, 0.0), lambda _: {ANYBODY: 1000})
    world.run(300)
    assert world.changes == []


def test_a_ceiling_of_nothing_means_the_lowest_mode() -> None:
    world = World({**MODES, "ceiling_usd": 0}, COSTS, lambda _: {ANYBODY: 1})
    world.run(10)
    assert world.mode_of(ANYBODY) == "SUPER_SHALLOW"


def test_what_is_pinned_is_not_sent_down_and_others_make_up_for_it() -> None:
    modes = {**MODES, "tiers": ["free", "pro"]}
    world = World(modes, COSTS, lambda at: {Caller(1): RATE * 3, Caller(2, tier="pro"): RATE / 2 * (100 if spike(at) else 1)})
    world.state = pinned(ModeState(), "tier:free", "DEEP", by="operator:ann", now=datetime.fromtimestamp(START, UTC))
    world.run(900)
    assert world.mode_of(Caller(1)) == "DEEP"
    assert world.mode_of(Caller(2, tier="pro")) == "SUPER_SHALLOW"
    assert "tier:free" not in world.state.entries


def test_a_change_says_why() -> None:
    world = World(MODES, COSTS, lambda at: {ANYBODY: RATE * (100 if spike(at) else 1)})
    world.run(1300)
    entry = world.state.entries[TOTAL]
    assert entry.by == "policy"
    assert "at this rate the ceiling (10.000000 USD in 900 s) is reached in" in entry.reason


def test_up_waits_for_the_dwell() -> None:
    world = World({**MODES, "dwell_s": 400}, COSTS, lambda at: {ANYBODY: RATE * (20 if 1000 <= at < 1030 else 1)})
    world.run(2700)
    (down, _), (up, _) = world.changes
    assert up - down >= 400


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 70), st.integers(0, 2_000_000), st.integers(1, 30)), max_size=40),
    st.sampled_from([1.0, 5.0]),
)
def test_no_more_than_what_was_under_way_is_spent_beyond_the_ceiling(arrivals: list[tuple[float, int, int]], tick_s: float) -> None:
    """Whatever comes, when the lowest mode is free: between two decisions and at any price."""
    now = START
    given_ = Settings.model_validate({"modes": {"ceiling_usd": 1, "window_s": 60, "horizon_s": 20, "dwell_s": 5}})
    ladder = given_.ladder()
    control = ModeControl(given_.modes, ladder, lambda: now, (1000.0, 500.0, 0.0))
    state = ModeState()
    spent: list[tuple[float, int]] = []
    for wait, cost, requests in arrivals:
        for _ in range(1 + int(min(wait, 65) / tick_s)):
            now += tick_s
            state = control.decide(state) or state
        mode = state.entries[TOTAL].mode if TOTAL in state.entries else "DEEP"
        price = {"DEEP": cost, "SHALLOW": cost // 2, "SUPER_SHALLOW": 0}[mode]
        before = sum(bill for at, bill in spent if at > now - 60)
        under_way = price * requests
        for _ in range(requests):
            control.saw(SpendRow(at=now, tenant="a", tier="free", key_id="k", mode=mode, microusd=price, requests=1))
        spent.append((now, under_way))
        assert not price or before <= 1_000_000


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 50)), min_size=1, max_size=12), st.integers(0, 2**16))
def test_no_way_up_begins_within_the_dwell(demand: list[tuple[int, float]], seed: int) -> None:
    steps = [factor for seconds, factor in demand for _ in range(seconds)]
    modes = {"ceiling_usd": 1, "window_s": 60, "horizon_s": 20, "dwell_s": 10}
    cost = 1e6 / 2 / 60 / RATE
    world = World(modes, (cost, cost / 10, 0.0), lambda at: {ANYBODY: RATE * steps[int(at) % len(steps)]}, latency_s=0.5, seed=seed)
    world.run(200)
    ranks = {rung.name: rung.rank for rung in world.ladder}
    last, last_at = 0, -math.inf
    for at, state in world.changes:
        rank = ranks[state.entries[TOTAL].mode] if TOTAL in state.entries else 0
        assert rank > last or at - last_at >= 10
        last, last_at = rank, at


def test_a_clock_that_goes_back_frees_nothing_and_breaks_nothing() -> None:
    now = START
    control = ModeControl(ModesSettings.model_validate(MODES), Settings().ladder(), lambda: now, COSTS)
    state = ModeState()
    for at in range(100):
        now = START + (at if at % 3 else at - 5000)
        control.saw(SpendRow(at=now, tenant="a", tier="free", key_id=None, mode=None, microusd=99_000, requests=1))
        state = control.decide(state) or state
    assert control.demand.window.total.total == 9_900_000
    assert state.entries[TOTAL].mode == "SUPER_SHALLOW"
    now = START + 99 + timedelta(seconds=WINDOW_S * 1.01).total_seconds()
    state = control.decide(state) or state
    assert control.demand.window.total.total == 0
