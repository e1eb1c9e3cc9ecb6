from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.proportions import interval
from farthing.caching.reading import read
from farthing.caching.scoring import Asked, Pair, Read, compared, score_pairs, score_traffic
from farthing.caching.tuning import tune
from farthing.caching.verifier import Verifier
from farthing.testing.words import WordEmbedder

EMBEDDER = WordEmbedder()
VERIFIER = Verifier.load()
THINGS = ["password", "card", "invoice", "printer", "account", "parcel", "camera", "garden", "engine", "bicycle", "kitchen", "passport"]
VERBS = ["find", "clean", "paint", "move", "sell", "choose", "measure", "weigh"]


def taken(text: str) -> Read:
    encoded = EMBEDDER.encoded(text)
    return Read(reading=read(text, encoded), vector=encoded.vector)


def pairs(count: int) -> list[Pair]:
    """Same: other function words around the same verb and thing. Different: another verb or thing. Every ninth label is wrong."""
    rng = Random(3)  # noqa: S311
    made = []
    for number in range(count):
        verb, thing, same = rng.choice(VERBS), rng.choice(THINGS), number % 2 == 0
        other, another = (verb, thing) if same else (rng.choice(VERBS), rng.choice(THINGS))
        one = f"How do I {verb} my {thing}?"
        two = rng.choice(["How can I {} the {}?", "What is the way to {} a {}?", "how to {} {}"]).format(other, another)
        made.append(Pair(a=taken(one), b=taken(two), same=same != (number % 9 == 0)))
    return made


def test_the_figures_of_pairs_fit_together() -> None:
    made = pairs(300)
    score = score_pairs(made, VERIFIER, 0.01)
    odds = [VERIFIER.score(found) for found in compared(made)]
    accepted = [value >= VERIFIER.threshold(0.01) for value in odds]
    assert (score.n, score.delta, score.same) == (300, 0.01, sum(pair.same for pair in made))
    assert score.hit_rate_same == sum(yes and pair.same for yes, pair in zip(accepted, made, strict=True)) / score.same
    assert score.false_hit_rate == sum(yes and not pair.same for yes, pair in zip(accepted, made, strict=True)) / (300 - score.same)
    for rate, (low, high) in ((score.hit_rate_same, score.hit_rate_same_interval), (score.false_hit_rate, score.false_hit_rate_interval)):
        assert low <= rate <= high
    assert [point.hit_rate_same for point in score.curve] == sorted((point.hit_rate_same for point in score.curve), reverse=True)
    assert score.curve[0].hit_rate_same == score.curve[0].false_hit_rate == 1


def test_a_pair_file_with_one_sort_only_is_scored() -> None:
    same = [pair for pair in pairs(20) if pair.same]
    assert score_pairs(same, VERIFIER, 0.01).false_hit_rate == 0
    assert score_pairs(same, VERIFIER, 0.01).false_hit_rate_interval == (0.0, 1.0)
    assert score_pairs([pair for pair in pairs(20) if not pair.same], VERIFIER, 0.01).hit_rate_same == 0


def test_traffic_is_answered_by_the_best_of_the_nearest() -> None:
    seen = [Asked(read=taken(f"How do I {verb} my {thing}?"), intent=f"{verb} {thing}") for verb in VERBS for thing in THINGS]
    asked = [Asked(read=taken(f"How do I {verb} my {thing}"), intent=f"{verb} {thing}") for verb in VERBS for thing in THINGS[:5]]
    strangers = [Asked(read=taken("Who wrote the old song about rain?"), intent="song")]
    score = score_traffic(seen, asked + strangers, VERIFIER, 0.01)
    assert (score.n, score.seen) == (len(asked) + 1, len(seen))
    assert score.hit_rate == pytest.approx(len(asked) / (len(asked) + 1))
    assert score.error == 0
    assert score.curve[0].hit_rate == 1
    assert score_traffic(seen[:1], asked[:1], VERIFIER, 0.01).hit_rate == 1


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.30850), (10, 10, 0.69150, 1.0), (5, 10, 0.18709, 0.81291), (1, 100, 0.000253, 0.054459), (0, 0, 0.0, 1.0)],
)
def test_intervals_are_those_of_the_tables(successes: int, trials: int, low: float, high: float) -> None:
    assert interval(successes, trials, 0.975) == pytest.approx((low, high), abs=1e-5)


@given(st.integers(1, 3000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_intervals_hold_their_share(counted: tuple[int, int]) -> None:
    successes, trials = counted
    low, high = interval(successes, trials, 0.975)
    assert 0 <= low <= successes / trials <= high <= 1
    assert high - low <= 4 / math.sqrt(trials)


def test_tuning_finds_a_threshold_that_holds_out_of_its_folds() -> None:
    made = pairs(1200)
    tuned = tune(made, VERIFIER, 0.1)
    assert tuned.tuned is not None
    assert tuned.recalibration is not None
    assert tuned.tuned.false_hit_rate_interval[0] <= 0.1
    again = VERIFIER.recalibrated(tuned.recalibration)
    in_sample = score_pairs(made, again, 0.1)
    assert in_sample.false_hit_rate <= 0.1
    assert in_sample.hit_rate_same >= tuned.shipped.hit_rate_same or tuned.shipped.false_hit_rate > 0.1
    assert tune(made, VERIFIER, 0.1) == tuned


def test_tuning_to_random_labels_promises_nothing() -> None:
    rng = Random(5)  # noqa: S311
    shuffled = [Pair(a=pair.a, b=pair.b, same=rng.random() < 0.5) for pair in pairs(600)]
    tuned = tune(shuffled, VERIFIER, 0.05).tuned
    assert tuned is not None
    assert tuned.hit_rate_same <= 0.15


def test_too_few_pairs_are_scored_but_not_tuned_to() -> None:
    tuned = tune(pairs(12), VERIFIER, 0.01)
    assert tuned.recalibration is None
    assert tuned.tuned is None
    assert tuned.shipped.n == 12
