"""APGR and CPT: what they are by definition, and what no ranking can change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from farthing.routing.learned.curve import Curve, curve_of, intervals_of

GAINS = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=40)


def test_a_ranking_that_finds_the_only_gain_at_once_recovers_all_with_the_first_call() -> None:
    assert curve_of(np.array([9.0, 1, 2, 3]), np.array([1.0, 0, 0, 0])) == Curve(apgr=0.875, cpt50=12.5, cpt80=20.0)


def test_a_ranking_that_finds_it_last_recovers_nothing_before() -> None:
    assert curve_of(np.array([0.0, 1, 2, 3]), np.array([1.0, 0, 0, 0])) == Curve(apgr=0.125, cpt50=87.5, cpt80=95.0)


def test_where_the_weak_model_is_sometimes_better_more_than_all_can_be_recovered() -> None:
    curve = curve_of(np.array([3.0, 2, 1]), np.array([1.0, 1, -1]))
    assert curve.apgr is not None
    assert curve.apgr > 1


@given(GAINS)
def test_no_opinion_is_as_good_as_chance(gains: list[float]) -> None:
    assume(sum(gains) > 0)
    assert curve_of(np.zeros(len(gains)), np.array(gains)) == Curve(apgr=0.5, cpt50=50.0, cpt80=80.0)


@settings(deadline=None, max_examples=30)
@given(GAINS)
def test_chance_is_what_rankings_at_random_reach_on_average(gains: list[float]) -> None:
    assume(sum(gains) > 0)
    rng = np.random.default_rng(len(gains))
    found = [curve_of(rng.random(len(gains)), np.array(gains)).apgr or 0.0 for _ in range(100)]
    deviation = max(float(np.std(found)), 1e-9)
    assert abs(np.mean(found) - 0.5) < 5 * deviation / np.sqrt(len(found)) + 1e-6


@given(GAINS, st.data())
def test_nothing_ranks_better_than_the_gains_themselves(gains: list[float], data: st.DataObject) -> None:
    assume(sum(gains) > 0)
    predicted = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=len(gains), max_size=len(gains))))
    ours, best = curve_of(predicted, np.array(gains)), curve_of(np.array(gains), np.array(gains))
    for mine, limit in ((best.apgr, ours.apgr), (ours.cpt50, best.cpt50), (ours.cpt80, best.cpt80)):
        assert mine is not None
        assert limit is not None
        assert mine >= limit
    assert 0 <= (ours.cpt50 or 0) <= (ours.cpt80 or 0) <= 100


@given(GAINS, st.data())
def test_the_opposite_ranking_loses_what_the_ranking_wins(gains: list[float], data: st.DataObject) -> None:
    assume(sum(gains) > 0)
    predicted = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.7]), min_size=len(gains), max_size=len(gains))))
    one, other = curve_of(predicted, np.array(gains)).apgr, curve_of(-predicted, np.array(gains)).apgr
    assert one is not None
    assert other is not None
    assert one + other == pytest.approx(1, abs=2e-4)


@given(GAINS, st.data())
def test_the_order_of_the_rows_does_not_matter(gains: list[float], data: st.DataObject) -> None:
    predicted = data.draw(st.lists(st.sampled_from([0.0, 0.3, 0.6]), min_size=len(gains), max_size=len(gains)))
    order = data.draw(st.permutations(range(len(gains))))
    shuffled = curve_of(np.array([predicted[at] for at in order]), np.array([gains[at] for at in order]))
    assert shuffled == curve_of(np.array(predicted), np.array(gains))


@pytest.mark.parametrize("gains", [[0.0], [0.0, 0.0, 0.0], [1.0, -1.0], [-1.0, 0.0]])
def test_without_an_advantage_of_the_strong_model_nothing_is_said(gains: list[float]) -> None:
    assert curve_of(np.arange(1.0 * len(gains)), np.array(gains)) == Curve(apgr=None, cpt50=None, cpt80=None)
    assert intervals_of(np.arange(1.0 * len(gains)), np.array(gains), 1).apgr_interval is None


def test_intervals_hold_the_figure_narrow_with_more_rows_and_are_the_same_for_a_seed() -> None:
    widths = []
    for size in (60, 2000):
        rng = np.random.default_rng(size)
        predicted = rng.random(size)
        gains = (rng.random(size) < predicted).astype(float)
        found = intervals_of(predicted, gains, 1)
        assert found == intervals_of(predicted, gains, 1)
        assert found.apgr_interval is not None
        low, high = found.apgr_interval
        assert low < (curve_of(predicted, gains).apgr or 0) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
