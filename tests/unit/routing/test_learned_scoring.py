"""What a score says of a router: honest where there is nothing to learn, and beside the right baselines."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from learning import EMBEDDER, features, rows, vector

from farthing.errors import InvalidRequest
from farthing.routing.learned.outcomes import Row, table_of
from farthing.routing.learned.scoring import Target, cross_validated, report, seen, whole_table
from farthing.routing.learned.training import trained_on

MODELS = ("weak", "strong")
EASY = {"weak": 0.95, "strong": 0.95}
HARD = {"weak": 0.2, "strong": 0.95}
TARGET = Target(quality=0.95, prices=(0.1, 1.0))


def _scored(train: list[Row], test: list[Row]) -> dict[str, Any]:
    table = table_of(train, MODELS, 1)
    router = trained_on(table, MODELS, embedder=EMBEDDER, seed=1).model
    return report(seen(router, whole_table(test, MODELS), table, TARGET.quality), TARGET, 1)


def _long_and_short(count: int, seed: int, *, hard_words: int, easy_words: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        hard = number % 2 == 0
        words = (hard_words if hard else easy_words) + int(rng.integers(0, 5))
        made.append(Row(vector=vector(0, rng), features=features(words), scores={"weak": float(not hard), "strong": 1.0}))
    return made


def test_a_router_is_better_than_its_baselines_where_topics_decide() -> None:
    found = _scored(rows([EASY, HARD], 150), rows([EASY, HARD], 150, seed=1))
    assert found["apgr"] > 0.68
    assert found["apgr"] > found["baselines"]["prompt_length"]["apgr"] + 0.1
    assert found["baselines"]["oracle"]["apgr"] > found["apgr"]
    assert found["at_quality"]["quality_kept"] > 0.92
    assert 0.4 < found["at_quality"]["shares"][0] < 0.65
    msgspec.json.encode(found)


@pytest.mark.parametrize(("hard", "easy"), [(60, 5), (5, 60)])
def test_the_length_baseline_takes_whichever_way_round_it_was_in_training(hard: int, easy: int) -> None:
    train = _long_and_short(80, 1, hard_words=hard, easy_words=easy)
    found = _scored(train, _long_and_short(80, 2, hard_words=hard, easy_words=easy))
    assert found["baselines"]["prompt_length"]["apgr"] == pytest.approx(0.75)
    assert found["apgr"] > 0.7
    turned = _scored(train, _long_and_short(80, 2, hard_words=easy, easy_words=hard))
    assert turned["baselines"]["prompt_length"]["apgr"] == pytest.approx(0.25)


def test_cross_validation_finds_nothing_where_outcomes_have_nothing_to_do_with_prompts() -> None:
    """What learnt from the rows that it is scored on would find a lot."""
    apgrs = []
    for seed in range(6):
        table = table_of(rows([{"weak": 0.5, "strong": 0.8}] * 4, 50, seed=seed), MODELS, seed)
        scored = cross_validated(table, MODELS, embedder=EMBEDDER, quality=0.95, seed=seed)
        apgrs.append(report(scored, TARGET, 1)["apgr"])
    assert np.mean(apgrs) == pytest.approx(0.5, abs=0.1)


def test_cross_validation_finds_what_there_is_and_keeps_rows_with_their_scores() -> None:
    table = table_of(rows([EASY, HARD], 100), MODELS, 1)
    scored = cross_validated(table, MODELS, embedder=EMBEDDER, quality=0.95, seed=1)
    assert (scored.scores == table.scores).all()
    assert report(scored, TARGET, 1)["apgr"] > 0.65


def test_prompts_that_are_not_known_are_answered_by_the_strongest_and_counted() -> None:
    train = rows([EASY, EASY], 100)
    strange = rows([EASY] * 7, 20, seed=3)[-40:]
    found = _scored(train, strange)["at_quality"]
    assert found["unknown"] > 0.9
    assert found["shares"][1] > 0.9
    assert found["cost_ratio"] > 0.9


def test_a_router_from_a_file_has_the_same_baselines_as_its_rows() -> None:
    train, test = rows([EASY, HARD], 60), whole_table(rows([EASY, HARD], 40, seed=1), MODELS)
    table = table_of(train, MODELS, 1)
    router = trained_on(table, MODELS, embedder=EMBEDDER, seed=1).model
    assert report(seen(router, test, router.table, 0.9), TARGET, 1) == report(seen(router, test, table, 0.9), TARGET, 1)


def test_rows_to_score_on_need_all_scores() -> None:
    with pytest.raises(InvalidRequest, match="needs a score of each of its models: weak, strong"):
        whole_table(rows([EASY], 5, known=0.5), MODELS)
