"""Where a roll-back goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.testing.stores import Clock
from farthing.types import Promotion, promotion_trail


def _trail(*versions: int | None) -> list[int | None]:
    """After these promotions, the oldest first."""
    made = [Promotion(router="auto", version=version, at=Clock().now, by="ann") for version in versions]
    return promotion_trail(made[::-1])


@pytest.mark.parametrize(
    ("versions", "trail"),
    [
        ((), [None]),
        ((1,), [None, 1]),
        ((1, 2, 3), [None, 1, 2, 3]),
        ((1, 1), [None, 1]),
        ((1, 2, 1), [None, 1]),
        ((1, 2, 3, 2, 1), [None, 1]),
        ((1, 2, 1, 3), [None, 1, 3]),
        ((1, 2, None), [None, 1, 2, None]),
        ((1, None), [None]),
        ((None,), [None]),
    ],
)
def test_what_was_taken_back_is_not_gone_back_to(versions: tuple[int | None, ...], trail: list[int | None]) -> None:
    assert _trail(*versions) == trail


_VERSIONS = st.lists(st.none() | st.integers(1, 4), max_size=30)


@given(_VERSIONS)
def test_what_was_promoted_last_decides_and_roll_backs_come_to_an_end(versions: list[int | None]) -> None:
    trail = _trail(*versions)
    assert trail[-1] == (versions[-1] if versions else None)
    steps = 0
    while len(trail) > 1:
        versions = [*versions, trail[-2]]
        shorter = _trail(*versions)
        assert shorter == trail[:-1]
        trail, steps = shorter, steps + 1
    assert trail == [None]
