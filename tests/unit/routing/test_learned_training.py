"""A router learns what is there to be learnt, and says when there is nothing."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning import DIMENSIONS, EMBEDDER, features, rows, vector

from farthing.errors import InvalidRequest
from farthing.routing.learned.model import LearnedModel
from farthing.routing.learned.outcomes import Row
from farthing.routing.learned.training import train

MODELS = ("weak", "strong")
EASY = {"weak": 0.95, "strong": 0.95}
HARD = {"weak": 0.2, "strong": 0.95}
ALIKE = {"weak": 0.4, "strong": 0.9}


@pytest.fixture(scope="module")
def router() -> LearnedModel:
    """Of a topic that both models know and one that only the strong one knows."""
    return train(rows([EASY, HARD], 200), MODELS, embedder=EMBEDDER)[0]


def _chosen(router: LearnedModel, topic: int, quality: float, *, seed: int = 5, count: int = 40) -> list[str | None]:
    rng = np.random.default_rng(seed)
    said = [router.predict(vector(topic, rng), features(8)) for _ in range(count)]
    return [router.choose(prediction, quality, router.models).model for prediction in said]


def test_easy_prompts_go_to_the_weak_model_and_hard_ones_to_the_strong_one(router: LearnedModel) -> None:
    assert _chosen(router, 0, 0.95).count("weak") >= 36
    assert _chosen(router, 1, 0.95).count("strong") >= 36


def test_what_it_says_of_unseen_prompts_is_what_they_are_worth(router: LearnedModel) -> None:
    rng = np.random.default_rng(9)
    for topic, gain in ((0, 0.0), (1, 0.75)):
        found = [router.predict(vector(topic, rng), features(8)).gains["weak"] for _ in range(40)]
        assert np.mean(found) == pytest.approx(gain, abs=0.12)


def test_metrics_say_what_to_expect() -> None:
    metrics = train(rows([EASY, HARD], 200), MODELS, embedder=EMBEDDER)[1]
    assert metrics["apgr"] > 0.7
    assert metrics["cpt50"] < metrics["cpt80"] < 60
    low, high = metrics["apgr_interval"]
    assert low < metrics["apgr"] < high
    assert metrics["n_train"] == 400
    msgspec.json.encode(metrics)


def test_where_prompts_do_not_differ_in_gain_the_strong_model_answers_all() -> None:
    router, metrics = train(rows([ALIKE, ALIKE], 200), MODELS, embedder=EMBEDDER)
    assert 0.35 < metrics["apgr"] < 0.65
    assert _chosen(router, 0, 0.95).count("weak") <= 2


def test_where_the_strong_model_is_no_better_the_weak_one_answers_all() -> None:
    router, metrics = train(rows([EASY, EASY], 200, seed=3), MODELS, embedder=EMBEDDER)
    assert (_chosen(router, 0, 0.9) + _chosen(router, 1, 0.9)).count("weak") >= 76
    assert metrics["n_train"] == 400


def test_more_quality_is_never_more_weak_answers(router: LearnedModel) -> None:
    rng = np.random.default_rng(2)
    said = [router.predict(vector(topic, rng), features(8)) for topic in (0, 1) for _ in range(20)]
    wanted = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
    counts = [[router.choose(one, quality, MODELS).model for one in said].count("weak") for quality in wanted]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_a_prompt_unlike_all_others_is_not_known(router: LearnedModel) -> None:
    prediction = router.predict(vector(7, np.random.default_rng(1)), features(8))
    assert not prediction.known
    chosen = router.choose(prediction, 0.5, MODELS)
    assert chosen.model is None
    assert "unlike" in chosen.reason


def test_a_prompt_of_a_form_that_no_other_had_is_not_known(router: LearnedModel) -> None:
    strange = tuple(value + 5 for value in features(8))
    assert not router.predict(vector(0, np.random.default_rng(1)), strange).known


def test_prompts_like_the_others_are_known(router: LearnedModel) -> None:
    rng = np.random.default_rng(4)
    assert sum(router.predict(vector(topic, rng), features(8)).known for topic in (0, 1) for _ in range(50)) >= 95


def test_the_order_of_the_rows_does_not_matter() -> None:
    made = rows([EASY, HARD], 60)
    shuffled = [made[at] for at in np.random.default_rng(1).permutation(len(made))]
    assert train(made, MODELS, embedder=EMBEDDER)[0].dump() == train(shuffled, MODELS, embedder=EMBEDDER)[0].dump()


def test_rows_of_which_only_one_model_was_asked_are_enough() -> None:
    made = rows([EASY, HARD], 300)
    asked = np.random.default_rng(1).choice(MODELS, len(made))
    halves = [msgspec.structs.replace(row, scores={model: row.scores[model]}) for row, model in zip(made, asked.tolist(), strict=True)]
    router, metrics = train(halves, MODELS, embedder=EMBEDDER)
    assert metrics["apgr"] is None
    assert _chosen(router, 0, 0.97).count("weak") >= 30
    assert _chosen(router, 1, 0.97).count("strong") >= 36


def test_of_three_models_each_gets_the_prompts_that_it_is_good_enough_for() -> None:
    topics = [
        {"small": 0.97, "middle": 0.97, "large": 0.97},
        {"small": 0.1, "middle": 0.97, "large": 0.97},
        {"small": 0.1, "middle": 0.1, "large": 0.97},
    ]
    router, _ = train(rows(topics, 200), ("small", "middle", "large"), embedder=EMBEDDER)
    for topic, model in enumerate(("small", "middle", "large")):
        assert _chosen(router, topic, 0.9).count(model) >= 34
    easy = router.predict(vector(0, np.random.default_rng(1)), features(8))
    assert router.choose(easy, 0.9, ("middle", "large")).model == "middle"
    assert router.choose(easy, 0.9, ("elsewhere",)).model is None
    hard = router.predict(vector(2, np.random.default_rng(1)), features(8))
    assert router.choose(hard, 0.9, ("small", "middle", "elsewhere")).model == "middle"


def test_what_was_dumped_predicts_the_same(router: LearnedModel) -> None:
    again = LearnedModel.load(router.dump(), EMBEDDER)
    assert (again.models, again.embedder) == (MODELS, EMBEDDER)
    rng = np.random.default_rng(3)
    for topic in (0, 1, 5):
        one = vector(topic, rng)
        assert again.predict(one, features(9)) == router.predict(one, features(9))


def test_another_embedder_is_refused(router: LearnedModel) -> None:
    with pytest.raises(InvalidRequest, match="trained with the embedder 'made up', not 'other'"):
        LearnedModel.load(router.dump(), "other")
    with pytest.raises(InvalidRequest, match=f"{DIMENSIONS} bytes"):
        router.predict(b"\x01" * 7, features(8))
    with pytest.raises(InvalidRequest, match="features"):
        router.predict(vector(0, np.random.default_rng(1)), (1.0,))


def test_another_version_is_refused_with_what_to_do(router: LearnedModel) -> None:
    head = msgspec.msgpack.decode(router.dump())
    with pytest.raises(InvalidRequest, match=r"another version of Farthing \(format 99\.1\); train it again"):
        LearnedModel.load(msgspec.msgpack.encode({**head, "version": 99}))


@pytest.mark.parametrize(
    "junk", [b"", b"\x80", b"PK\x03\x04", b"\x81\xa7version\x01", b"\xc1", b"x" * (17 * 2**20), b"\xdf\xff\xff\xff\xff"]
)
def test_what_is_no_router_is_refused(junk: bytes) -> None:
    with pytest.raises(InvalidRequest, match="trained router"):
        LearnedModel.load(junk)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 399}, {"rows": 0}, {"vectors": b""}, {"scores": b"\x00" * 4}, {"models": ["weak"]}, {"models": ["weak", "weak"]},
        {"means": [0.1]}, {"means": [math.nan, 0.5]}, {"weights": [math.inf, 0, 0, 0]}, {"landmarks": 10_000}, {"thresholds": []},
        {"neighbours": 0}, {"feature_mean": b"\xff\xff\xff\x7f" * 41}, {"near_cosine": "x"},
    ],
)  # fmt: skip
def test_a_damaged_router_is_refused(router: LearnedModel, change: dict[str, object]) -> None:
    whole = msgspec.msgpack.decode(router.dump())
    with pytest.raises(InvalidRequest, match="damaged"):
        LearnedModel.load(msgspec.msgpack.encode({**whole, **change}))


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 0.999), byte=st.integers(0, 255))
def test_a_byte_gone_wrong_is_refused_or_does_no_harm(router: LearnedModel, place: float, byte: int) -> None:
    data = bytearray(router.dump())
    data[int(place * len(data))] = byte
    try:
        broken = LearnedModel.load(bytes(data))
    except InvalidRequest:
        return
    prediction = broken.predict(vector(0, np.random.default_rng(1)), features(8))
    assert all(map(math.isfinite, [*prediction.scores.values(), *prediction.gains.values()]))


@pytest.mark.parametrize(
    ("made", "models", "said"),
    [
        ([], MODELS, "too few"),
        (rows([EASY], 3), MODELS, "too few"),
        (rows([EASY], 30), ("weak",), "between 2 and"),
        (rows([EASY], 30), ("weak", "weak"), "different models"),
        (rows([EASY], 30), ("weak", "other"), "no score of 'other'"),
        ([*rows([EASY], 30), Row(vector=b"\x01", features=features(1), scores={"weak": 1.0})], MODELS, "one embedder"),
        ([*rows([EASY], 30), Row(vector=b"\x01" * DIMENSIONS, features=(1.0,), scores={"weak": 1.0})], MODELS, "finite features"),
        ([*rows([EASY], 30), Row(vector=b"\x01" * DIMENSIONS, features=features(1), scores={"weak": 7.0})], MODELS, "must be 0"),
        ([*rows([EASY], 30), Row(vector=b"\x01" * DIMENSIONS, features=features(1), scores={"weak": math.nan})], MODELS, "must be 0"),
        ([Row(vector=b"\x01" * DIMENSIONS, features=features(1), scores={"weak": 1.0, "strong": 1.0})] * 50, MODELS, "different prompts"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(made: list[Row], models: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        train(made, models, embedder=EMBEDDER)


@pytest.mark.parametrize("chances", [{"weak": 1.0, "strong": 1.0}, {"weak": 0.0, "strong": 0.0}, {"weak": 1.0, "strong": 0.0}])
def test_rows_without_any_difference_make_no_trouble(chances: dict[str, float]) -> None:
    router, metrics = train(rows([chances], 30), MODELS, embedder=EMBEDDER)
    assert metrics["apgr"] is None
    prediction = router.predict(vector(0, np.random.default_rng(1)), features(8))
    assert all(map(math.isfinite, [*prediction.scores.values(), *prediction.gains.values(), prediction.spread]))
    assert router.choose(prediction, 0.95, MODELS).model in {"weak", None}


def test_vectors_of_zeros_make_no_trouble() -> None:
    made = [*rows([EASY, HARD], 30), *(Row(vector=bytes(DIMENSIONS), features=features(n), scores={"weak": 1.0}) for n in range(3))]
    router, _ = train(made, MODELS, embedder=EMBEDDER)
    assert math.isfinite(router.predict(bytes(DIMENSIONS), features(8)).gains["weak"])
