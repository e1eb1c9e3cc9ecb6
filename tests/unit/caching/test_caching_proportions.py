from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.proportions import below, interval


@pytest.mark.parametrize(
    ("hits", "tries", "low", "high"),
    [
        (0, 100, 0.0, 1 - 0.05 ** (1 / 100)),  # closed forms at both ends
        (100, 100, 0.05 ** (1 / 100), 1.0),
        (1, 1, 0.05, 1.0),
        (0.0, 2.5, 0.0, 1 - 0.05 ** (1 / 2.5)),
    ],
)
def test_bounds_are_those_of_clopper_and_pearson(hits: float, tries: float, low: float, high: float) -> None:
    assert interval(hits, tries, 0.95) == pytest.approx((low, high), abs=1e-9)


def test_without_tries_nothing_is_known() -> None:
    assert interval(0, 0, 0.95) == (0.0, 1.0)


@given(tries=st.integers(1, 60), hits=st.integers(0, 60), confidence=st.floats(0.6, 0.999))
def test_the_upper_bound_is_the_share_at_which_so_few_hits_would_be_rare(tries: int, hits: int, confidence: float) -> None:
    hits = min(hits, tries)
    low, high = interval(hits, tries, confidence)
    assert 0 <= low <= hits / tries <= high <= 1
    if hits < tries:
        tail = sum(math.comb(tries, k) * high**k * (1 - high) ** (tries - k) for k in range(hits + 1))
        assert tail == pytest.approx(1 - confidence, abs=1e-6)


@given(x=st.floats(0, 1), a=st.floats(0.5, 500), b=st.floats(0.5, 500))
def test_the_incomplete_beta_function_is_its_own_mirror_image(x: float, a: float, b: float) -> None:
    assert 0 <= below(x, a, b) <= 1 + 1e-9
    assert below(x, a, b) + below(1 - x, b, a) == pytest.approx(1, abs=1e-9)
