from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.caching.calibration import Calibration, CalibrationSettings
from farthing.caching.estimate import ErrorEstimate
from farthing.caching.explanation import explain
from farthing.caching.log_odds import mixed, prior_weights, sigmoid, unmixed
from farthing.caching.risk import RiskBudget, RiskSettings
from farthing.types import Verdict

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY = UUID(int=10**9)
SCORES = st.floats(-15, 15)


def verdict(number: int, **facts: Any) -> Verdict:
    plain: dict[str, Any] = {
        "id": UUID(int=number + 1),
        "tenant": "acme",
        "question_id": UUID(int=0),
        "request_id": UUID(int=number + 1),
        "same": True,
        "by": "shadow",
        "score": 4.0,
        "served": True,
        "at": BEGIN + timedelta(seconds=number),
    }
    return Verdict(**plain | facts)


VERDICTS = st.lists(
    st.builds(
        lambda entry, same, by, score, served: {"question_id": UUID(int=entry), "same": same, "by": by, "score": score, "served": served},
        st.integers(0, 4),
        st.booleans(),
        st.sampled_from(["thumb", "correction", "shadow", "judge"]),
        SCORES,
        st.booleans(),
    ),
    max_size=40,
).map(lambda rows: [verdict(number, **facts) for number, facts in enumerate(rows)])


def folded(verdicts: list[Verdict]) -> Calibration:
    calibration = Calibration()
    calibration.fold(verdicts)
    return calibration


def taught(verdicts: list[Verdict], given_settings: CalibrationSettings | None = None) -> Calibration:
    calibration = Calibration(given_settings)
    for each in verdicts:
        calibration.learn(each)
    return calibration


def drawn(
    count: int, *, shift: float = 0.0, slope: float = 1.0, entries: int = 50, spread: float = 0.0, floor: float = 0.0, seed: int = 0
) -> list[Verdict]:
    """Verdicts by judges who are never wrong, about a tenant with this truth."""
    draw = random.Random(seed)  # noqa: S311 - reproducible
    effects = [draw.gauss(0, spread) for _ in range(entries)]
    found = []
    for number in range(count):
        entry, score = draw.randrange(entries), draw.gauss(2, 3)
        wrong = floor + (1 - floor) * sigmoid(-(slope * score + shift + effects[entry]))
        found.append(verdict(number, question_id=UUID(int=entry), same=draw.random() >= wrong, score=score, served=False, audit=False))
    return found


def test_before_any_verdict_the_shipped_probability_counts() -> None:
    calibration = Calibration()
    for score in (-3.0, 0.0, 2.5, 4.6, 6.0):
        assessment = calibration.assess(score, NOBODY)
        assert assessment.mean_wrong == pytest.approx(0.002 + 0.998 * sigmoid(-score), rel=0.02)
        assert assessment.entry_shift is None


@settings(max_examples=30, deadline=None)
@given(verdicts=VERDICTS, low=SCORES, high=SCORES, entry=st.integers(0, 5))
def test_a_higher_score_is_never_worse_and_the_bound_is_above_the_mean(
    verdicts: list[Verdict], low: float, high: float, entry: int
) -> None:
    calibration = taught(verdicts)
    low, high = min(low, high), max(low, high)
    worse, better = calibration.assess(low, UUID(int=entry)), calibration.assess(high, UUID(int=entry))
    assert better.mean_wrong <= worse.mean_wrong + 1e-12
    assert better.upper_wrong <= worse.upper_wrong + 1e-12
    for assessment in (worse, better):
        assert 0 <= assessment.mean_wrong <= assessment.upper_wrong <= 1


@settings(max_examples=30, deadline=None)
@given(verdicts=VERDICTS, score=SCORES, by=st.sampled_from(["thumb", "correction", "shadow", "judge"]), served=st.booleans())
def test_a_wrong_verdict_never_opens_the_door_for_its_pair(
    verdicts: list[Verdict],
    score: float,
    by: str,
    served: bool,  # noqa: FBT001 - drawn
) -> None:
    calibration = taught(verdicts)
    before = calibration.assess(score, UUID(int=0))
    calibration.learn(verdict(1000, same=False, score=score, by=by, served=served))
    after = calibration.assess(score, UUID(int=0))
    assert RiskBudget(RiskSettings(opening=1.0)).admits(before) or not RiskBudget(RiskSettings(opening=1.0)).admits(after)


@settings(max_examples=30, deadline=None)
@given(verdicts=VERDICTS, score=SCORES, asked=SCORES, same=st.booleans())
def test_until_the_next_fit_a_verdict_moves_its_entry_its_own_way_at_every_score(
    verdicts: list[Verdict],
    score: float,
    asked: float,
    same: bool,  # noqa: FBT001 - drawn
) -> None:
    calibration = Calibration(CalibrationSettings(patience=1.0))
    calibration.fold(verdicts)
    calibration.learn(verdict(999, question_id=NOBODY))
    entry = UUID(int=77)
    before = calibration.assess(asked, entry)
    if calibration.state.verdicts > 3:  # so that patience lasts for one more
        calibration.learn(verdict(1000, question_id=entry, same=same, score=score, served=False))
        after = calibration.assess(asked, entry)
        assert after.mean_wrong <= before.mean_wrong + 1e-9 if same else after.mean_wrong >= before.mean_wrong - 1e-9


@settings(max_examples=30, deadline=None)
@given(verdicts=VERDICTS)
def test_a_verdict_that_comes_twice_counts_once(verdicts: list[Verdict]) -> None:
    once, twice = taught(verdicts), taught(verdicts)
    assert [twice.learn(each) for each in verdicts] == [False] * len(verdicts)
    assert twice.fold(verdicts) == 0
    assert once.state == twice.state


def test_one_served_fault_makes_an_entry_strict_at_once_and_others_hardly() -> None:
    calibration = folded(drawn(500, spread=1.0))
    other = calibration.assess(6.0, NOBODY).mean_wrong
    assert other < 0.01
    calibration.learn(verdict(1000, question_id=UUID(int=3), score=6.0, same=False))
    calibration.learn(verdict(1001, question_id=UUID(int=999), score=6.0, same=False))
    assert calibration.assess(6.0, UUID(int=3)).upper_wrong > 0.01  # although it has been right ten times before
    assert calibration.assess(6.0, UUID(int=999)).mean_wrong > 0.2
    assert calibration.assess(6.0, NOBODY).mean_wrong < 0.01


def test_right_answers_redeem_an_entry() -> None:
    calibration = folded(drawn(500, spread=1.0))
    calibration.learn(verdict(1000, question_id=UUID(int=999), score=6.0, same=False))
    strict = calibration.assess(6.0, UUID(int=999)).mean_wrong
    for number in range(20):
        calibration.learn(verdict(1001 + number, question_id=UUID(int=999), score=4.0, same=True))
    assert calibration.assess(6.0, UUID(int=999)).mean_wrong < strict / 20


def test_a_corrected_entry_is_dead_at_once_and_stays_so() -> None:
    calibration = Calibration()
    calibration.learn(verdict(0, by="correction", same=False))
    for number in range(1, 30):
        calibration.learn(verdict(number))
    calibration.forget(UUID(int=0))
    assessment = calibration.assess(12.0, UUID(int=0))
    assert assessment.dead
    assert assessment.mean_wrong == assessment.upper_wrong == 1.0
    assert not RiskBudget(RiskSettings(delta=0.5, opening=1.0, most=1.0)).admits(assessment)


@pytest.mark.parametrize(("shift", "slope"), [(0.0, 1.0), (-2.0, 0.9), (1.5, 1.1)])
def test_the_tenants_own_calibration_is_found(shift: float, slope: float) -> None:
    calibration = folded(drawn(2500, shift=shift, slope=slope, spread=0.8, entries=100))
    for score in (-1.0, 1.0, 3.0, 5.0):
        found = calibration.assess(score, NOBODY)
        truth = sum(sigmoid(-(slope * score + shift + 0.8 * z / 10)) * math.exp(-((z / 10) ** 2) / 2) for z in range(-40, 41))
        truth /= sum(math.exp(-((z / 10) ** 2) / 2) for z in range(-40, 41))
        assert found.mean_wrong == pytest.approx(truth, rel=0.75, abs=0.003)
        assert found.upper_wrong > 0.8 * truth


def test_the_upper_bound_holds_as_often_as_it_says() -> None:
    held, tries = 0, 30
    for seed in range(tries):
        draw = random.Random(1000 + seed)  # noqa: S311 - reproducible
        shift, slope = draw.gauss(0, 0.5), draw.gauss(1, 0.1)  # as the prior believes
        calibration = folded(drawn(100, shift=shift, slope=slope, seed=seed, entries=20))
        held += calibration.assess(4.0, NOBODY).upper_wrong >= sigmoid(-(slope * 4.0 + shift))
    assert held >= 0.75 * tries  # 85 to 90 in 100 with more tries; fewer here only by chance


def test_what_goes_wrong_however_alike_two_questions_look_is_seen() -> None:
    calibration, verdicts = Calibration(), drawn(2000, floor=0.05)
    for start in range(0, 2000, 250):
        calibration.fold(verdicts[start : start + 250])
    assert calibration.state.lapse == pytest.approx(0.05, rel=0.5)
    assert calibration.assess(12.0, NOBODY).mean_wrong == pytest.approx(0.05, rel=0.5)


def test_an_entry_that_is_known_may_serve_further_away_than_others() -> None:
    calibration = folded(drawn(1000, spread=2.0))
    for number in range(12):
        calibration.learn(verdict(2000 + number, question_id=UUID(int=900), score=0.0, served=False))
    assert calibration.assess(2.5, UUID(int=900)).upper_wrong < 0.25 * calibration.assess(2.5, NOBODY).mean_wrong


def test_it_follows_a_tenant_that_changes() -> None:
    calibration = Calibration(CalibrationSettings(per_band=30))
    calibration.fold(drawn(500, shift=0.5))
    before = calibration.assess(4.0, NOBODY).mean_wrong
    for number, each in enumerate(drawn(500, shift=-2.0, seed=1)):
        calibration.learn(replace(each, id=UUID(int=10_000 + number)))
    assert calibration.assess(4.0, NOBODY).mean_wrong > 4 * before


@pytest.mark.parametrize("seed", range(3))
def test_order_matters_little(seed: int) -> None:
    verdicts = drawn(300, shift=-0.5, spread=1.0, entries=20)
    shuffled = list(verdicts)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - reproducible
    ways = (taught(verdicts), taught(shuffled), folded(shuffled))
    for score in (0.0, 3.0, 6.0):
        for entry in (*(UUID(int=number) for number in range(20)), NOBODY):
            wrong = [way.assess(score, entry).mean_wrong for way in ways]
            assert max(wrong) <= 1.5 * min(wrong)


def test_a_fold_does_not_depend_on_the_order_at_all() -> None:
    verdicts = drawn(200, spread=1.0)
    first, second = Calibration(), Calibration()
    assert first.fold(verdicts) == second.fold(verdicts[::-1]) == 200
    assert first.state == second.state


def test_memory_is_bounded_and_faults_are_remembered_longest() -> None:
    calibration = Calibration(CalibrationSettings(max_entries=20, per_entry=3, per_band=15, max_known=50))
    calibration.learn(verdict(0, question_id=UUID(int=5000), same=False))
    for number in range(1, 400):
        calibration.learn(verdict(number, question_id=UUID(int=number % 70), score=number % 9 - 2.0))
    assert calibration.state.entries == 20
    assert calibration.state.verdicts <= 60
    history = calibration.history(UUID(int=5000))
    assert history is not None
    assert history.wrong == 1


@pytest.mark.parametrize("score", [math.nan, -math.inf, -1e300])
def test_a_score_that_is_none_speaks_for_nothing(score: float) -> None:
    calibration = Calibration()
    calibration.learn(verdict(0, score=score, same=False))
    assert calibration.assess(score, NOBODY).mean_wrong > 0.99
    assert calibration.assess(math.inf, NOBODY).mean_wrong < 0.01


def test_an_explanation_names_what_decided_and_can_be_written_down() -> None:
    calibration, budget = taught([verdict(0), verdict(1, same=False)]), RiskBudget()
    budget.tightening = 2.0
    known = explain(calibration, budget, ErrorEstimate(), score=9.0, question_id=UUID(int=0))
    assert (known.right, known.wrong, known.admitted) == (1, 1, False)
    assert known.risk == pytest.approx(2 * known.assessment.upper_wrong)
    unknown = explain(calibration, budget, ErrorEstimate(), score=-9.0, question_id=NOBODY)
    assert unknown.risk > unknown.limit == unknown.delta
    assert msgspec.json.decode(msgspec.json.encode(known))["tenant"]["entries"] == 1


@given(log_odds=st.floats(-12, 12), spread=st.floats(0.2, 4), odd=st.floats(0.001, 0.5))
def test_mixing_can_be_undone(log_odds: float, spread: float, odd: float) -> None:
    weights = prior_weights(spread, odd)
    assert sum(weights) == pytest.approx(1)
    assert mixed(unmixed(log_odds, weights), weights) == pytest.approx(sigmoid(-log_odds), rel=1e-6)
