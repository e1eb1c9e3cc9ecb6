"""Thresholds: how much quality is kept, and what is believed of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.routing.learned.calibration import Threshold, highest, thresholds

SIZE = 2000


def _rows(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted gains that are right on average: the strong model is always right, the weak one less and less often."""
    rng = np.random.default_rng(seed)
    gains = rng.random(SIZE).astype(np.float32)
    return gains, (rng.random(SIZE) >= gains).astype(np.float32), np.ones(SIZE, np.float32)


def _found(gains: np.ndarray, weak: np.ndarray, strong: np.ndarray) -> tuple[Threshold, ...]:
    return thresholds(gains, weak, strong, np.random.default_rng(1))


TABLE = _found(*_rows())


def test_the_quality_kept_is_that_of_the_rows_themselves() -> None:
    gains, weak, strong = _rows()
    for threshold in _found(gains, weak, strong):
        mixed = np.where(gains <= threshold.gain, weak, strong).mean() / strong.mean()
        assert threshold.kept == pytest.approx(mixed, abs=1e-5)
        assert threshold.share == pytest.approx((gains > threshold.gain).mean(), abs=1e-5)
        assert threshold.least <= threshold.kept


def test_the_lower_bound_holds_for_nine_samples_of_ten() -> None:
    held = 0
    for seed in range(40):
        table = _found(*_rows(seed))
        at = table[len(table) // 2]
        held += at.least <= 1 - at.gain**2 / 2
    assert 30 <= held < 40


def test_a_weak_model_that_is_as_good_gets_everything() -> None:
    gains, weak, _ = _rows()
    found = highest(_found(gains, weak, weak), 0.99)
    assert found is not None
    assert (found.share, found.kept, found.gain) == (0.0, 1.0, 1.0)


def test_a_weak_model_that_is_useless_gets_nothing() -> None:
    gains, _, strong = _rows()
    assert highest(_found(gains, np.zeros(SIZE, np.float32), strong), 0.99) is None


def test_a_strong_model_that_is_useless_is_not_called() -> None:
    gains, weak, _ = _rows()
    found = highest(_found(gains, weak, np.zeros(SIZE, np.float32)), 1.0)
    assert found is not None
    assert found.share == 0


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 1), min_size=2, max_size=2))
def test_more_quality_never_spares_more_strong_calls(wanted: list[float]) -> None:
    low, high = (highest(TABLE, quality) for quality in sorted(wanted))
    assert low is not None
    assert high is None or (high.gain <= low.gain and high.share >= low.share)


def test_rows_of_which_one_score_is_known_say_what_whole_rows_say() -> None:
    gains, weak, strong = _rows()
    heads = np.random.default_rng(2).random(SIZE) < 0.5
    halves = _found(gains, np.where(heads, weak, np.nan).astype(np.float32), np.where(heads, np.nan, strong).astype(np.float32))
    for half, whole in zip(halves, _found(gains, weak, strong), strict=True):
        assert half.kept == pytest.approx(whole.kept, abs=0.04)


def test_what_nobody_has_seen_counts_as_the_worst_case() -> None:
    gains, weak, strong = _rows()
    unseen = np.where(gains > 0.5, np.nan, weak).astype(np.float32)
    table = _found(gains, unseen, strong)
    assert table[-1].kept == pytest.approx(np.where(gains > 0.5, 0, weak).mean(), abs=0.02)
    assert all(np.isfinite([threshold.gain, threshold.kept, threshold.least]).all() for threshold in table)
