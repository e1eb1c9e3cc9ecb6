"""What can be learnt from outcomes, and what is not made up."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farthing.routing.outcome_rows import examples_of
from farthing.testing.routers import asked_id, outcome
from farthing.testing.stores import Clock
from farthing.types import Outcome

_MODELS = ("weak", "mid", "strong")


def _scores(*known: dict[str, float]) -> list[dict[str, float]]:
    made = [outcome(n, Clock(), model=model, score=score) for n, one in enumerate(known) for model, score in one.items()]
    return [scores for _, scores in examples_of(made, _MODELS, "e1", features=2).complete]


def test_a_cascade_teaches_about_each_model_that_was_asked() -> None:
    assert _scores({"weak": 0, "mid": 0, "strong": 1}) == [{"weak": 0, "mid": 0, "strong": 1}]


def test_a_model_stronger_than_a_perfect_one_is_taken_to_be_perfect() -> None:
    assert _scores({"weak": 1}, {"weak": 0, "mid": 1}) == [{"weak": 1, "mid": 1, "strong": 1}, {"weak": 0, "mid": 1, "strong": 1}]


def test_what_is_known_counts_even_where_it_is_a_surprise() -> None:
    assert _scores({"weak": 1, "mid": 0}) == [{"weak": 1, "mid": 0, "strong": 1}]


def test_what_does_not_follow_leaves_a_request_out() -> None:
    made = [outcome(n, Clock(), model=model, score=score) for n, (model, score) in enumerate([("weak", 0), ("weak", 0.9), ("strong", 1)])]
    assert (examples_of(made, _MODELS, "e1", features=2).complete, examples_of(made, _MODELS, "e1", features=2).incomplete) == ([], 3)


def test_other_embedders_and_other_models_teach_nothing() -> None:
    made = [
        outcome(1, Clock(), score=1, embedder="e0"),
        outcome(2, Clock(), model="unheard-of", score=1),
        outcome(4, Clock(), score=1, features=()),
        outcome(3, Clock(), score=1),
    ]
    found = examples_of(made, _MODELS, "e1", features=2)
    assert [one.request_id for one, _ in found.complete] == [asked_id(3)]
    assert (found.incomplete, found.foreign) == (0, 2)


def test_two_tenants_requests_are_not_put_together() -> None:
    made = [outcome(1, Clock(), score=0), outcome(1, Clock(), tenant="rival", model="strong", score=1)]
    assert examples_of(made, ("weak", "strong"), "e1", features=2).complete == []


_OUTCOMES = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(_MODELS), st.sampled_from([0.0, 0.5, 1.0])), unique_by=lambda one: one[:2]
)


@given(_OUTCOMES, st.randoms(use_true_random=False))
def test_their_order_does_not_matter_and_what_was_said_stays(said: list[tuple[int, str, float]], rng: Any) -> None:
    made = [outcome(n, Clock(), model=model, score=score) for n, model, score in said]
    mixed: list[Outcome] = rng.sample(made, len(made))
    found, again = (examples_of(some, _MODELS, "e1", features=2) for some in (made, mixed))
    assert [(one.request_id, scores) for one, scores in found.complete] == [(one.request_id, scores) for one, scores in again.complete]
    assert len(found.complete) + found.incomplete == len({n for n, _, _ in said})
    known = {(asked_id(n), model): score for n, model, score in said}
    for one, scores in found.complete:
        assert tuple(scores) == _MODELS
        for model, score in scores.items():
            assert score == known.get((one.request_id, model), 1.0)
