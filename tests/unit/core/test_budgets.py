from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.budgets import EPOCH, Window, parse, settings_budget
from farthing.errors import InvalidRequest

NOW = datetime(2026, 11, 23, 15, 30, 45, 123456, tzinfo=UTC)
WINDOWS = st.one_of(
    st.sampled_from(["hour", "day", "month", "lifetime"]).map(lambda kind: Window(kind=kind)),  # type: ignore[arg-type]
    st.integers(1, 527_040).map(lambda minutes: Window(kind="rolling", seconds=minutes * 60)),
)
INSTANTS = st.datetimes(datetime(2001, 1, 1), datetime(2200, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001 - zone follows


@pytest.mark.parametrize(
    ("text", "microusd", "window", "hard"),
    [
        ("5/day", 5_000_000, "day", True),
        ("$0.5/hour", 500_000, "hour", True),
        ("0.000001/month", 1, "month", True),
        ("0/day", 0, "day", True),
        ("1e3/lifetime", 1_000_000_000, "lifetime", True),
        ("5/rolling-24h", 5_000_000, "rolling-1d", True),
        ("5/rolling-90m soft", 5_000_000, "rolling-90m", False),
        (" 5/day hard ", 5_000_000, "day", True),
    ],
)
def test_a_budget_is_dollars_per_window(text: str, microusd: int, window: str, hard: bool) -> None:  # noqa: FBT001 - a table
    limit, found, is_hard = parse(text)
    assert (limit, str(found), is_hard) == (microusd, window, hard)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a budget"),
        ("5", "names no window"),
        ("-5/day", "a budget is 0 to 1,000,000,000 dollars"),
        ("NaN/day", "a budget is 0 to"),
        ("inf/day", "a budget is 0 to"),
        ("1e30/day", "a budget is 0 to"),
        ("0.0000001/day", "finer than a micro-dollar"),
        ("five/day", "is not an amount of dollars"),
        ("5/week", "there is no window 'week'"),
        ("5/day-3h", "there is no window 'day'"),
        ("5/rolling", "there is no window 'rolling'"),
        ("5/rolling-0m", "1 minute to 366 days"),
        ("5/rolling-999999d", "1 minute to 366 days"),
        ("5/day maybe", "is not a budget"),
        ("5/day\n", None),
        ("x" * 1000, "names no window"),
    ],
)
def test_what_is_no_budget_is_refused_with_the_reason(text: str, complaint: str | None) -> None:
    if complaint is None:
        assert parse(text)[0] == 5_000_000
        return
    with pytest.raises(InvalidRequest) as refused:
        parse(text)
    assert complaint in refused.value.message
    assert len(refused.value.message) < 400


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        ("hour", NOW.replace(minute=0, second=0, microsecond=0), NOW.replace(hour=16, minute=0, second=0, microsecond=0)),
        ("day", datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)),
        ("month", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("lifetime", EPOCH, datetime(9999, 1, 1, tzinfo=UTC)),
    ],
)
def test_windows_are_those_of_the_calendar(kind: str, start: datetime, end: datetime) -> None:
    window = Window(kind=kind)  # type: ignore[arg-type]
    assert (window.start(NOW), window.end(NOW), window.since(NOW), window.bucket(NOW)) == (start, end, start, start)


@given(window=WINDOWS, at=INSTANTS)
def test_every_instant_is_inside_of_its_window_and_counts_at_once(window: Window, at: datetime) -> None:
    assert window.start(at) <= at < window.end(at)
    assert window.since(at) <= window.bucket(at) <= at


@given(minutes=st.integers(1, 527_040), at=INSTANTS, age=st.integers(0, 40_000_000))
def test_a_rolling_window_forgets_nothing_too_early_and_not_much_too_late(minutes: int, at: datetime, age: int) -> None:
    window = Window(kind="rolling", seconds=minutes * 60)
    counts = window.bucket(at - timedelta(seconds=age)) >= window.since(at)
    if age <= minutes * 60:
        assert counts
    if age > minutes * 61 + 60:
        assert not counts


def test_a_budget_of_the_settings_keeps_its_id_while_its_limit_changes() -> None:
    first, again = (settings_budget("tier", "free", text, NOW) for text in ("5/day", "7/day soft"))
    assert (first.id, again.limit_microusd, again.hard) == (again.id, 7_000_000, False)
    assert settings_budget("tier", "pro", "5/day", NOW).id != first.id != settings_budget("tier", "free", "5/hour", NOW).id
