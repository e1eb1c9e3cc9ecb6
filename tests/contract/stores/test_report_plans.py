"""A report reads what its window holds and no more."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import psycopg
import pytest

from farthing.ports import ReportBy
from farthing.postgres.ledger import Window
from farthing.postgres.ledger_sql import report_sql

_VALUES = {
    "tenant": "t1",
    "first_day": 20_000,
    "end_day": 20_002,
    "head_from": "0192f000-0000-7000-8000-000000000000",
    "head_to": "0192f001-0000-7000-8000-000000000000",
    "tail_from": "0192f002-0000-7000-8000-000000000000",
    "tail_to": "0192f003-0000-7000-8000-000000000000",
    "limit": 10,
}


def _scans(plan: dict[str, Any]) -> list[str]:
    found = [f"{plan['Node Type']} on {plan['Relation Name']}"] if "Relation Name" in plan else []
    return found + [scan for part in plan.get("Plans", []) for scan in _scans(part)]


@pytest.mark.parametrize("by", get_args(ReportBy))
@pytest.mark.parametrize("one_tenant", [True, False])
def test_reports_scan_no_whole_table(url: str, by: ReportBy, one_tenant: bool) -> None:  # noqa: FBT001  # a parameter of the test
    with psycopg.connect(url) as connection:
        connection.execute("SELECT set_config('enable_seqscan', 'off', false)")
        row = connection.execute(f"EXPLAIN (FORMAT JSON) {report_sql(by, one_tenant=one_tenant)}".encode(), _VALUES).fetchone()
    assert row is not None
    scans = _scans(row[0][0]["Plan"])
    assert len(scans) == 3
    assert not [scan for scan in scans if scan.startswith("Seq")]


def test_a_window_is_whole_days_and_what_is_left_at_its_ends() -> None:
    day, hour = 86_400_000, timedelta(hours=1)
    start = datetime(1970, 1, 2, tzinfo=UTC)
    whole = Window.between(start, start + timedelta(days=2))
    assert (whole.first_day, whole.end_day) == (1, 3)
    assert whole.head == (day, day)
    assert whole.tail == (3 * day, 3 * day)
    ragged = Window.between(start - hour, start + timedelta(days=1) + hour)
    assert (ragged.first_day, ragged.end_day) == (1, 2)
    assert ragged.head == (day - 3_600_000, day)
    assert ragged.tail == (2 * day, 2 * day + 3_600_000)
    within = Window.between(start + hour, start + 2 * hour)
    assert within.first_day == within.end_day
    assert within.head == (day + 3_600_000, day + 7_200_000)
    assert within.tail == (0, 0)
