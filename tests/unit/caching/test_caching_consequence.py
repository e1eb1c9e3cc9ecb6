from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from farthing.caching.consequence import Consequence, consequence
from farthing.caching.entries import EntryHistory
from farthing.types import Verdict, VerdictBy


@pytest.mark.parametrize(
    ("by", "same", "served", "right", "wrong", "expected"),
    [
        ("correction", False, True, 0, 0, "dead"),
        ("correction", False, True, 50, 0, "dead"),
        ("correction", False, False, 0, 0, "none"),
        ("thumb", False, True, 0, 0, "dead"),
        ("thumb", False, True, 1, 0, "strict"),
        ("thumb", False, True, 1, 1, "dead"),
        ("shadow", False, True, 0, 0, "strict"),
        ("shadow", False, True, 0, 1, "dead"),
        ("shadow", False, True, 3, 1, "dead"),
        ("shadow", False, True, 4, 1, "strict"),
        ("judge", False, True, 0, 0, "strict"),
        ("judge", False, False, 0, 5, "none"),
        ("thumb", True, True, 0, 5, "none"),
        ("correction", True, True, 0, 0, "none"),
    ],
)
def test_what_a_verdict_does_to_an_entry(
    by: VerdictBy,
    same: bool,  # noqa: FBT001 - a table
    served: bool,  # noqa: FBT001 - a table
    right: int,
    wrong: int,
    expected: Consequence,
) -> None:
    verdict = Verdict(
        id=UUID(int=1),
        tenant="acme",
        question_id=UUID(int=2),
        request_id=UUID(int=3),
        same=same,
        by=by,
        score=1.0,
        served=served,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert consequence(verdict, EntryHistory(right=right, wrong=wrong)) == expected
    if not right and not wrong:
        assert consequence(verdict, None) == expected
