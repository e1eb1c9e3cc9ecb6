"""Rolling windows of spending, and when a rate breaks a limit in one."""

from __future__ import annotations

import math
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from farthing.spend.demand import Demand
from farthing.spend.window import MOST_MICROUSD, SPANS, Series, Window, breaks_in_s
from farthing.types import Mode, SpendRow

_SPENT = st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 10**6)), max_size=60)


@given(_SPENT, st.floats(1000, 2000))
def test_a_window_never_has_less_than_what_was_spent_in_it_and_hardly_more(spent: list[tuple[float, int]], now: float) -> None:
    window = Window(600.0)
    for at, microusd in spent:  # in any order
        window.add(at, "t", "k", microusd)
    window.advance(now)
    assert window.total.total >= sum(microusd for at, microusd in spent if at > now - 600)
    assert window.total.total <= sum(microusd for at, microusd in spent if at >= now - 600 - 2 * window.step_s)
    assert window.total.total == sum(microusd for _, microusd in window.total)
    assert len(list(window.total)) <= SPANS + 2
    assert [span for span, _ in window.total] == sorted({span for span, _ in window.total})


@given(
    st.lists(st.tuples(st.floats(0.5, 100), st.integers(0, 1000)), max_size=20).map(sorted),
    st.integers(0, 1000),
    st.floats(0, 50),
    st.floats(1, 3000),
    st.floats(1, 150),
)
def test_the_time_of_a_break_is_that_of_a_simulation(
    ends: list[tuple[float, int]], more: int, rate: float, limit: float, within_s: float
) -> None:
    spent = more + sum(microusd for _, microusd in ends)

    def held(at: float) -> float:
        return spent - sum(microusd for end, microusd in ends if end < at) + rate * at

    found = breaks_in_s(ends, spent, rate, limit, within_s)
    steps = [within_s * step / 500 for step in range(501)]
    broken = [at for at in steps if held(at) > limit + 1e-6]
    if math.isinf(found):
        assert not broken
    else:
        assert found <= within_s + 1e-6
        assert held(found) >= limit - 1e-6
        assert not [at for at in broken if at < found - 1e-6]


def test_a_tenant_that_is_not_followed_and_a_key_that_is_none_count_in_the_total_only() -> None:
    window = Window(60.0, ["acme"])
    window.add(1.0, "acme", None, 5)
    window.add(1.0, "other", "k", 7)
    assert (window.total.total, window.tenants["acme"].total, window.keys["k"].total) == (12, 5, 7)


def test_keys_are_bounded_and_the_heaviest_stay() -> None:
    window = Window(60.0, most=100)
    for key in range(1000):
        window.add(1.0, "t", str(key), key)
    window.advance(2.0)
    assert len(window.keys) == 90
    assert "999" in window.keys
    assert window.total.total == sum(range(1000))


@given(st.lists(st.sampled_from([-1, 10**18, float("nan"), float("inf"), -(10**20), 1]), max_size=30))
def test_absurd_numbers_are_ignored_and_counted(amounts: list[int]) -> None:
    demand = Demand([Mode(name="DEEP")], [1.0], lambda: 1000.0, window_s=60)
    for amount in amounts:
        demand.saw("t", "free", UUID(int=1), None, amount, 1)
        demand.heard([SpendRow(at=float("nan"), tenant="t", tier=None, key_id=None, mode=None, microusd=amount, requests=1)])
        demand.heard([SpendRow(at=1e18, tenant="t", tier=None, key_id=None, mode="?", microusd=amount, requests=1)])
    demand.fold()
    good = sum(amount == 1 for amount in amounts)
    assert demand.window.total.total == 2 * good
    assert demand.ignored == 3 * len(amounts) - 2 * good
    assert demand.window.total.total <= MOST_MICROUSD


def test_tiers_beyond_number_are_followed_as_one() -> None:
    demand = Demand([Mode(name="DEEP")], [1.0], lambda: 1000.0, window_s=60, max_keys=10)
    for at in range(500):
        demand.saw("t", f"tier{at}", UUID(int=at), None, 1, 1)
    demand.fold()
    assert len(demand.tiers) <= 65
    assert len(demand.keys) <= 10


def test_a_series_takes_another_in() -> None:
    one, two = Series(), Series()
    for span in (1, 5, 3):
        one.add(span, 10)
        two.add(span + 1, 1)
    one.take_in(two)
    assert list(one) == [(1, 10), (2, 1), (3, 10), (4, 1), (5, 10), (6, 1)]
    one.drop_before(4)
    assert one.total == 12
