from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.calibration import Assessment
from farthing.caching.risk import RiskBudget, RiskSettings

RISKS = st.lists(st.one_of(st.floats(0, 0.02), st.floats(0, 1)), max_size=200)
DELTAS = st.floats(0.001, 0.2)


def risky(upper: float, *, dead: bool = False) -> Assessment:
    return Assessment(score=0.0, log_odds=0.0, log_odds_low=0.0, mean_wrong=upper, upper_wrong=upper, dead=dead)


def play(budget: RiskBudget, risks: list[float]) -> list[float]:
    """The risks that were taken."""
    taken = []
    for risk in risks:
        if budget.admits(risky(risk)):
            budget.served(risky(risk))
            taken.append(risk)
    return taken


@given(risks=RISKS, delta=DELTAS, cap=st.floats(0.01, 5), most=st.floats(1, 50), opening=st.floats(0, 5))
def test_over_every_stretch_risk_is_at_most_delta_a_piece_and_the_cap(
    risks: list[float], delta: float, cap: float, most: float, opening: float
) -> None:
    taken = play(RiskBudget(RiskSettings(delta=delta, cap=cap, most=most, opening=opening)), risks)
    assert sum(taken) <= delta * len(taken) + min(opening, cap) + 1e-9
    worst = run = 0.0
    for risk in taken:  # the stretch that is worst, by Kadane
        run = max(run + risk - delta, 0.0)
        worst = max(worst, run)
    assert worst <= cap + 1e-9


@given(risks=RISKS, delta=DELTAS, cap=st.floats(0.01, 5))
def test_the_account_is_never_overdrawn_nor_above_its_cap(risks: list[float], delta: float, cap: float) -> None:
    budget = RiskBudget(RiskSettings(delta=delta, cap=cap))
    for risk in risks:
        play(budget, [risk])
        assert 0 <= budget.account <= cap
        assert delta <= budget.limit <= 10 * delta + 1e-12


@given(shares=st.lists(RISKS, min_size=2, max_size=4))
def test_workers_that_each_keep_it_keep_it_together(shares: list[list[float]]) -> None:
    taken = [play(RiskBudget(), risks) for risks in shares]
    assert sum(map(sum, taken)) <= 0.01 * sum(map(len, taken)) + 1e-9


@given(first=st.floats(0, 1), second=st.floats(0, 1), account=st.floats(0, 1))
def test_what_is_safer_is_admitted_wherever_what_is_riskier_is(first: float, second: float, account: float) -> None:
    budget = RiskBudget(RiskSettings(opening=account))
    assert budget.admits(risky(min(first, second))) or not budget.admits(risky(max(first, second)))


def test_the_whole_budget_is_spent_on_the_surest_answers() -> None:
    draw = random.Random(3)  # noqa: S311 - reproducible
    risks = [math.exp(draw.gauss(-4, 1.5)) for _ in range(40_000)]
    taken = play(RiskBudget(), [min(risk, 1.0) for risk in risks])
    best = total = 0.0
    for best, risk in enumerate(sorted(risks), 1):
        total += risk
        if total > 0.01 * best:
            break
    assert sum(taken) >= 0.97 * 0.01 * len(taken)
    assert len(taken) >= 0.9 * best


def test_a_quiet_time_is_not_saved_up() -> None:
    budget = RiskBudget(RiskSettings(delta=0.01, cap=1.0, most=10))
    play(budget, [0.0] * 100_000)
    burst = play(budget, [0.09] * 1000)
    assert 0 < sum(burst) - 0.01 * len(burst) <= 1.0


@pytest.mark.parametrize(("upper", "dead"), [(math.nan, False), (0.0, True), (1.0, False)])
def test_some_are_never_served(upper: float, dead: bool) -> None:  # noqa: FBT001 - a table
    assert not RiskBudget(RiskSettings(opening=1.0)).admits(risky(upper, dead=dead))


def test_an_alarm_withholds_what_would_be_served_and_says_so() -> None:
    budget = RiskBudget()
    assert budget.admits(risky(0.004))
    assert not budget.withholds(risky(0.004))
    budget.tightening = 5.0
    assert not budget.admits(risky(0.004))
    assert budget.withholds(risky(0.004))
    assert budget.admits(risky(0.001))
    assert not budget.withholds(risky(0.001))
    assert not budget.withholds(risky(0.5))
    assert not budget.withholds(risky(0.0, dead=True))


def test_without_a_budget_for_errors_only_certainty_is_served() -> None:
    budget = RiskBudget(RiskSettings(delta=0.0))
    assert budget.admits(risky(0.0))
    assert not budget.admits(risky(1e-9))
