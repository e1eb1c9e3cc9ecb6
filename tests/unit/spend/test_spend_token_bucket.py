from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.spend.token_bucket import holds, level_at, seconds_until

LIMITS = st.integers(1, 1_000_000_000)
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


class Bucket:
    """A bucket as the limits use it: what it let through, and when."""

    def __init__(self, limit: int) -> None:
        self.limit, self.level, self.at = limit, 0.0, 0.0
        self.passed: list[tuple[float, int]] = []

    def ask(self, now: float, amount: int) -> float:
        """0 when it passes, else how long to wait."""
        self.level, self.at = level_at(self.level, self.at, now, self.limit), now
        if not holds(self.level, amount):
            return seconds_until(self.level, amount, self.limit)
        self.level -= amount
        self.passed.append((now, amount))
        return 0.0


@given(limit=st.integers(1, 2000), gaps=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 40)), max_size=120))
def test_no_window_lets_more_through_than_a_minutes_worth_and_what_flows_in_meanwhile(limit: int, gaps: list[tuple[float, int]]) -> None:
    bucket, now = Bucket(limit), 1000.0
    for gap, amount in gaps:
        now += gap
        bucket.ask(now, min(amount, limit))
    for first, (began, _) in enumerate(bucket.passed):
        total = 0
        for at, amount in bucket.passed[first:]:
            total += amount
            assert total <= limit + (at - began) * limit / 60 + 0.01


@given(limit=st.integers(1, 100_000), amounts=st.lists(st.integers(1, 100_000), min_size=1, max_size=30))
def test_who_waits_as_long_as_he_is_told_passes(limit: int, amounts: list[int]) -> None:
    bucket, now = Bucket(limit), 5_000_000.0
    for wanted in amounts:
        amount = min(wanted, limit)
        wait = bucket.ask(now, amount)
        assert 0 <= wait <= 60.001
        if wait:
            now += math.ceil(wait * 1000) / 1000  # as the header says it
            assert bucket.ask(now, amount) == 0


@given(limit=st.integers(1, 600), pace=st.floats(1.0, 3.0), count=st.integers(1, 200))
def test_who_keeps_to_the_pace_is_never_refused(limit: int, pace: float, count: int) -> None:
    bucket = Bucket(limit)
    assert [bucket.ask(100.0 + number * pace * 60 / limit, 1) for number in range(count)] == [0.0] * count


@given(limit=LIMITS)
def test_a_new_bucket_is_full(limit: int) -> None:
    assert level_at(0.0, 0.0, 12.0, limit) == limit


@given(level=ANY_FLOAT, at=ANY_FLOAT, now=st.floats(0.001, 1e9), limit=LIMITS)
def test_whatever_a_damaged_file_holds_the_level_is_sane(level: float, at: float, now: float, limit: int) -> None:
    found = level_at(level, at, now, limit)
    assert -60 * limit <= found <= limit
    assert 0 <= seconds_until(found, limit, limit) <= 61 * 60


@pytest.mark.parametrize("at", [2000.0, math.inf, math.nan, -5.0])
def test_a_clock_that_began_anew_neither_fills_the_bucket_nor_holds_it_back(at: float) -> None:
    level = level_at(3.0, at, 1000.0, 60)
    assert level == 3.0
    assert level_at(level, 1000.0, 1001.0, 60) == 4.0


@given(old=st.integers(1, 1000), new=st.integers(1, 1000), level=st.floats(-100, 1000), gap=st.floats(0, 100))
def test_a_limit_that_was_changed_holds_at_once(old: int, new: int, level: float, gap: float) -> None:
    before = level_at(level, 10.0, 10.0, old)
    assert level_at(before, 10.0, 10.0 + gap, new) <= new
