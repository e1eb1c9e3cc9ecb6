from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.cron import checked, following
from farthing.errors import InvalidRequest

_NOON = datetime(2026, 11, 28, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "next_at"),
    [
        ("30 3 * * *", "2026-11-29T03:30:00+00:00"),
        ("*/5 * * * *", "2026-11-28T12:05:00+00:00"),
        ("0 9 * * mon", "2026-11-30T09:00:00+00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
        ("* * * * * */15", "2026-11-28T12:00:45+00:00"),
    ],
)
def test_an_expression_fires_when_it_says(expression: str, next_at: str) -> None:
    assert following(checked(expression), _NOON).isoformat() == next_at


@pytest.mark.parametrize(
    "wrong", ["", "x", "@daily", "99 * * * *", "0 0 30 2 *", "* * * *", "R * * * *", "*/0 * * * *", "* " * 99, "* * * * * * *"]
)
def test_what_never_fires_or_fires_by_chance_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest, match="no cron expression"):
        checked(wrong)


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_a_clear_error(text: str) -> None:
    try:
        good = checked(text)
    except InvalidRequest:
        return
    assert following(good, _NOON) > _NOON


@given(st.integers(0, 59), st.integers(0, 23), st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)))  # noqa: DTZ001 - made aware below
def test_a_daily_time_comes_within_a_day_and_after_the_present(minute: int, hour: int, naive: datetime) -> None:
    now = naive.replace(tzinfo=UTC)
    at = following(f"{minute} {hour} * * *", now)
    assert now < at <= now + timedelta(days=1)
    assert (at.hour, at.minute, at.second) == (hour, minute, 0)
