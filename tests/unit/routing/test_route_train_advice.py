"""When promoting a new version of a learned router looks wise."""

import pytest

from farthing.cli.route_train import advice
from farthing.routing.learned.comparison import Comparison

_BETTER = Comparison(n=500, apgr=0.7, other=0.6, difference=0.1, interval=(0.05, 0.15))
_ALIKE = Comparison(n=500, apgr=0.61, other=0.6, difference=0.01, interval=(-0.02, 0.04))
_FEW = Comparison(n=7)


@pytest.mark.parametrize(
    ("length", "promoted", "wise", "why"),
    [
        (_BETTER, None, True, "better than the length"),
        (_BETTER, _BETTER, True, "is better than what decides now"),
        (_BETTER, _ALIKE, False, "not better than what decides now"),
        (_BETTER, _FEW, False, "7 rows that this has not seen are too few"),
        (_ALIKE, None, False, "not better than the length of the prompt"),
        (_ALIKE, _BETTER, False, "not better than the length of the prompt"),
        (_FEW, None, False, "nothing to learn"),
    ],
)
def test_only_what_is_better_beyond_doubt_is_advised(length: Comparison, promoted: Comparison | None, wise: bool, why: str) -> None:  # noqa: FBT001 - a table
    said = advice(length, promoted)
    assert said[0] is wise
    assert why in said[1]
