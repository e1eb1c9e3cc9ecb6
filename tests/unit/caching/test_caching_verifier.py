from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.evidence import NAMES, Evidence
from farthing.caching.verifier import CERTAIN, Verifier, bent

VERIFIER = Verifier.load()


def like(**values: float) -> Evidence:
    """Evidence of two questions that differ in nothing, but for these values."""
    usual = dict.fromkeys(NAMES, 1.0) | {
        "loose_most": 0.0,
        "loose_least": 0.0,
        "missing_most": 0.0,
        "missing_sum": 0.0,
        "kept": 3.0,
        "length": 8.0,
        "content": 3.0,
        "wish": 0.0,
        "rarest": 0.6,
        "rarity": 0.5,
    }
    named = usual | values
    return Evidence(similarity=named["similarity"], values=tuple(named[name] for name in NAMES))


def test_a_veto_and_the_same_words_are_certain() -> None:
    assert VERIFIER.score(Evidence(similarity=1.0, veto="roles are exchanged")) == -CERTAIN
    assert VERIFIER.score(Evidence(similarity=1.0, identical=True)) == CERTAIN
    assert VERIFIER.score(Evidence(similarity=1.0)) == -CERTAIN


def test_nearer_questions_score_higher() -> None:
    scores = [VERIFIER.score(like(similarity=similarity)) for similarity in (0.3, 0.5, 0.7, 0.9, 0.99)]
    assert scores == sorted(scores)
    assert scores[0] < VERIFIER.threshold(0.1) < VERIFIER.threshold(0.01) < scores[-1]


def test_a_wish_in_other_words_lifts_the_score() -> None:
    assert VERIFIER.score(like(similarity=0.8, wish=1.0)) > VERIFIER.score(like(similarity=0.8)) + 2


def test_among_near_neighbours_a_short_question_needs_more() -> None:
    short = like(similarity=0.93, length=3.0, content=1.0, kept=1.0, rarest=0.4, rarity=0.4)
    assert VERIFIER.score(short, 0.01) < VERIFIER.score(short)
    assert VERIFIER.score(short, 0.5) == VERIFIER.score(short)


def test_a_smaller_error_bound_needs_more() -> None:
    bounds = [VERIFIER.threshold(delta) for delta in (0.5, 0.2, 0.1, 0.05, 0.015, 0.01, 0.005, 0.001, 0.0)]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize("name", NAMES)
def test_no_value_breaks_the_score(name: str) -> None:
    for value in (float("nan"), float("inf"), float("-inf"), -1.0, 1e9):
        for margin in (None, 0.0, float("nan")):
            assert -CERTAIN <= VERIFIER.score(like(**{name: value}), margin) <= CERTAIN


@given(
    st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=2, max_size=6, unique_by=lambda point: point[0]),
    st.floats(-20, 20),
)
def test_a_bent_line_goes_through_its_points_and_never_beyond_them(points: list[tuple[float, float]], value: float) -> None:
    points = sorted(points)
    at, adds = [x for x, _ in points], [y for _, y in points]
    assert [bent(x, at, adds) for x in at] == pytest.approx(adds)
    assert min(adds) - 1e-6 <= bent(value, at, adds) <= max(adds) + 1e-6
