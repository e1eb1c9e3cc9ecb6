from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from farthing.routing.catalogue import Catalogue, Model
from farthing.routing.fitting import context_fallbacks, context_plan, fits, needed_tokens
from farthing.settings import Settings
from farthing.types import Json, Operation


def catalogue(**models: tuple[int | None, list[str]]) -> Catalogue:
    """Models by name: what they hold, and where to turn when that is not enough."""
    found = [
        Model(name=name, operation=Operation.CHAT, deployments=(), context_tokens=tokens, context_fallbacks=tuple(others))
        for name, (tokens, others) in models.items()
    ]
    return Catalogue(found, random.Random(1))  # noqa: S311 - spreads load, guards nothing


def said(tokens: int, **more: Any) -> Json:
    """A request of about that many tokens, the four of its message included."""
    return {"messages": [{"role": "user", "content": "abcd" * (tokens - 4)}], **more}


HOUSE = catalogue(small=(100, ["middle", "large"]), middle=(1000, ["large"]), large=(10_000, []), endless=(None, []))


def test_a_request_that_fits_stays_where_it_was_sent() -> None:
    assert context_plan(HOUSE, "small", said(100)) == ("small", False)
    assert context_plan(HOUSE, "endless", said(1_000_000)) == ("endless", False)


def test_a_long_one_goes_to_the_first_that_it_fits_into() -> None:
    assert context_plan(HOUSE, "small", said(101)) == ("middle", True)
    assert context_plan(HOUSE, "small", said(1001)) == ("large", True)
    assert context_plan(HOUSE, "middle", said(1001)) == ("large", True)


def test_what_fits_nowhere_is_for_the_provider_to_refuse() -> None:
    assert context_plan(HOUSE, "small", said(10_001)) == ("small", False)
    assert context_plan(HOUSE, "large", said(10_001)) == ("large", False)


def test_a_model_whose_room_is_not_known_takes_what_fits_nowhere_else() -> None:
    house = catalogue(small=(100, ["middle"]), middle=(200, ["endless"]), endless=(None, []))
    assert context_plan(house, "small", said(5000)) == ("endless", True)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_room_is_needed_for_the_answer_too(name: str) -> None:
    assert context_plan(HOUSE, "small", said(60, **{name: 40})) == ("small", False)
    assert context_plan(HOUSE, "small", said(60, **{name: 41})) == ("middle", True)


def test_tools_and_schemas_take_room_too() -> None:
    assert needed_tokens(said(10, tools=[{"type": "function", "function": {"name": "f", "description": "x" * 400}}])) > 110
    assert needed_tokens({"input": "abcd" * 50}) == 50


def test_those_behind_the_fallbacks_are_turned_to_as_well_and_each_once() -> None:
    assert context_fallbacks(HOUSE, "small") == ["middle", "large"]
    assert context_fallbacks(HOUSE, "large") == []


@given(tokens=st.integers(5, 20_000), name=st.sampled_from(["small", "middle", "large", "endless"]))
def test_wherever_a_request_goes_it_fits_or_it_stayed(tokens: int, name: str) -> None:
    body = said(tokens)
    chosen, changed = context_plan(HOUSE, name, body)
    assert changed == (chosen != name)
    assert not changed or (fits(HOUSE.get(chosen), body) and not fits(HOUSE.get(name), body))


def settings(**models: Json) -> Settings:
    return Settings.model_validate(
        {
            "providers": {"one": {"kind": "openai_compatible", "base_url": "https://one.example/v1"}},
            "models": {name: {"provider": "one", "upstream_model": "u", **more} for name, more in models.items()},
        }
    )


@pytest.mark.parametrize(
    ("models", "complaint"),
    [
        ({"a": {"context_fallbacks": ["lnog"]}, "long": {}}, "models.a.context_fallbacks: there is no 'lnog'; did you mean 'long'"),
        ({"a": {"context_fallbacks": ["a"]}}, "'a' is the model itself"),
        ({"a": {"context_fallbacks": ["e"]}, "e": {"kind": "embeddings"}}, "'e' is for embeddings, 'a' for chat"),
        (
            {"a": {"context_tokens": 8000, "context_fallbacks": ["b"]}, "b": {"context_tokens": 8000}},
            "'b' holds 8000 tokens, 'a' 8000: it must hold more",
        ),
        ({"a": {"context_tokens": 8000, "context_fallbacks": ["local"]}}, "'local' holds 2048 tokens"),
        ({"a": {"context_fallbacks": ["b"]}, "b": {"context_fallbacks": ["c"]}, "c": {"context_fallbacks": ["a"]}}, "a → b → c → a"),
        ({"x": {"context_fallbacks": ["a"]}, "a": {"context_fallbacks": ["b"]}, "b": {"context_fallbacks": ["a"]}}, "a → b → a"),
    ],
)
def test_context_fallbacks_that_lead_nowhere_are_refused_at_load(models: dict[str, Json], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint.replace("(", r"\(")):
        settings(**models)


def test_two_ways_to_the_same_model_are_no_circle() -> None:
    found = settings(a={"context_fallbacks": ["b", "c"]}, b={"context_fallbacks": ["c"]}, c={})
    assert found.models["a"].context_fallbacks == ["b", "c"]
