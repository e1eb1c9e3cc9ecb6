from __future__ import annotations

import random
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.audits import AuditSettings, audit_share, should_audit
from farthing.caching.calibration import Assessment
from farthing.caching.estimate import ErrorEstimate, ErrorShare, EstimateSettings
from farthing.types import Verdict, VerdictBy

UNKNOWN = ErrorShare(0.0, 0.0, 1.0, 0.0)


def verdict(number: int, *, same: bool, audit: bool = True, by: VerdictBy = "shadow", served: bool = True) -> Verdict:
    return Verdict(
        id=UUID(int=number),
        tenant="acme",
        question_id=UUID(int=1),
        request_id=UUID(int=number),
        same=same,
        by=by,
        score=4.0,
        served=served,
        audit=audit,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def risky(upper: float) -> Assessment:
    return Assessment(score=0.0, log_odds=0.0, log_odds_low=0.0, mean_wrong=upper, upper_wrong=upper)


def test_without_audits_nothing_is_known_and_nothing_changes() -> None:
    estimate = ErrorEstimate()
    assert estimate.interval() == UNKNOWN
    assert estimate.tightening(0.01) == 1.0


def test_audits_that_are_chosen_by_risk_still_estimate_the_whole() -> None:
    draw, found = random.Random(5), []  # noqa: S311 - reproducible
    for run in range(60):
        estimate = ErrorEstimate(EstimateSettings(half_life=1e9))
        for number in range(4000):
            upper = draw.choice([0.002, 0.08])
            share = audit_share(AuditSettings(budget=0.1, opening=0), hits=number, found=UNKNOWN, delta=0.04, assessment=risky(upper))
            if draw.random() < share.probability:
                estimate.add(verdict(run * 10_000 + number + 1, same=draw.random() >= upper), share.relative)
        found.append(estimate.interval())
    assert sum(each.rate for each in found) / 60 == pytest.approx(0.041, rel=0.1)
    assert sum(each.low <= 0.041 for each in found) >= 0.9 * 60
    assert sum(each.high >= 0.041 for each in found) >= 0.9 * 60


@given(outcomes=st.lists(st.booleans(), max_size=60), share=st.floats(0.01, 5))
def test_bounds_enclose_the_estimate(outcomes: list[bool], share: float) -> None:
    estimate = ErrorEstimate()
    for number, same in enumerate(outcomes):
        assert estimate.add(verdict(number, same=same), share)
    rate, low, high, n = estimate.interval()
    assert 0 <= low <= rate + 1e-9
    assert rate <= high + 1e-9 <= 1 + 2e-9
    assert n <= len(outcomes) + 1e-6


def test_a_verdict_counts_once_and_only_where_it_says_something() -> None:
    estimate = ErrorEstimate()
    assert estimate.add(verdict(1, same=False), 1.0)
    assert not estimate.add(verdict(1, same=False), 1.0)
    assert not estimate.add(verdict(2, same=True, audit=False), 1.0)
    assert not estimate.add(verdict(3, same=False, audit=False, by="judge", served=False), 1.0)
    assert estimate.interval().n == 1


def test_the_alarm_rises_with_the_lower_bound_and_ends_when_audits_are_right_again() -> None:
    estimate = ErrorEstimate()
    for number in range(20):
        estimate.add(verdict(number, same=number % 5 > 0), 1.0)
    assert estimate.interval().low > 0.01
    assert estimate.tightening(0.01) == EstimateSettings().tightest
    for number in range(20, 2000):
        estimate.add(verdict(number, same=True, served=False), 1.0)
    assert estimate.tightening(0.01) < 1.0


def test_one_fault_among_few_audits_is_no_alarm() -> None:
    estimate = ErrorEstimate()
    for number in range(10):
        estimate.add(verdict(number, same=number > 0), 1.0)
    assert estimate.tightening(0.01) == 1.0


def test_what_is_provably_safe_loosens_within_bounds() -> None:
    estimate = ErrorEstimate()
    for number in range(5000):
        estimate.add(verdict(number, same=True), 1.0)
    assert estimate.tightening(0.01) == pytest.approx(max(0.5, estimate.interval().high / 0.01))
    assert estimate.tightening(0.5) == 0.5


def test_complaints_raise_the_lower_bound_and_praise_lowers_nothing() -> None:
    estimate = ErrorEstimate()
    for _ in range(200):
        estimate.served()
    for number in range(1, 31):
        estimate.add(verdict(number, same=False, audit=False, by="thumb"), 1.0)
    rate, low, high, n = estimate.interval()
    assert 0.03 < low <= rate <= high
    assert n == 0
    assert not estimate.add(verdict(99, same=True, audit=False, by="thumb"), 1.0)
    assert estimate.tightening(0.01) > 1


def test_it_follows_drift() -> None:
    estimate = ErrorEstimate(EstimateSettings(half_life=100))
    for number in range(1000):
        estimate.add(verdict(number, same=number < 700 or number % 10 > 0), 1.0)
    assert estimate.interval().rate > 0.07


@given(budget=st.floats(0, 0.2), opening=st.floats(0, 100), hits=st.integers(0, 10**6), upper=st.floats(0, 1), delta=st.floats(0, 0.2))
def test_a_share_is_a_probability(budget: float, opening: float, hits: int, upper: float, delta: float) -> None:
    settings = AuditSettings(budget=budget, opening=opening)
    share = audit_share(settings, hits=hits, found=UNKNOWN, delta=delta, assessment=risky(upper))
    assert 0 <= share.probability <= 1
    assert share.relative > 0


def test_audits_stay_within_their_budget() -> None:
    draw, settings = random.Random(1), AuditSettings(budget=0.02, opening=30)  # noqa: S311 - reproducible
    risks = [draw.expovariate(100) for _ in range(20_000)]
    expected = sum(
        audit_share(settings, hits=hits, found=UNKNOWN, delta=0.01, assessment=risky(upper)).probability for hits, upper in enumerate(risks)
    )
    assert expected <= 0.02 * len(risks) + 31
    assert expected >= 0.9 * 0.02 * len(risks)


def test_when_the_interval_is_good_enough_fewer_are_audited() -> None:
    settings = AuditSettings(budget=0.02, opening=0)
    wide = audit_share(settings, hits=0, found=UNKNOWN, delta=0.01, assessment=risky(0.01))
    narrow = audit_share(settings, hits=0, found=ErrorShare(0.002, 0.0, 0.006, 800.0), delta=0.01, assessment=risky(0.01))
    assert narrow.probability == pytest.approx(wide.probability / 4)


@given(number=st.integers(0, 2**128 - 1), low=st.floats(0, 1), high=st.floats(0, 1))
def test_who_is_audited_at_a_share_is_audited_at_every_higher_one(number: int, low: float, high: float) -> None:
    request = UUID(int=number)
    assert should_audit(request, max(low, high)) or not should_audit(request, min(low, high))
    assert should_audit(request, 1.0)
    assert not should_audit(request, 0.0)


def test_as_many_are_audited_as_the_share_says() -> None:
    assert sum(should_audit(UUID(int=number), 0.1) for number in range(20_000)) == pytest.approx(2000, rel=0.1)
