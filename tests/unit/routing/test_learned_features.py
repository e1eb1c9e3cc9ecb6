"""What is read of a prompt before any model sees it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.routing.learned.features import NAMES, features_of
from farthing.routing.learned.prompt import MOST_CHARACTERS, text_of_prompt

LONG = "What is the boiling point of water at the top of Mount Everest?"
KEYS = st.sampled_from(["role", "content", "type", "text", "user", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "user", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)


def _said(*texts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text} for text in texts]}


def _of(text: str, **more: Any) -> dict[str, float]:
    return dict(zip(NAMES, features_of({**_said(text), **more}), strict=True))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (_said(LONG), LONG),
        (_said("Who was Ada Lovelace?", "and why?"), "Who was Ada Lovelace?\nand why?"),
        (_said("Who?", LONG), LONG),
        ({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}, "Hi"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}, "Hi"),
        (_said([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "b"}]), "a\nb"),
        ({"prompt": "Once upon a time"}, "Once upon a time"),
        ({"messages": []}, ""),
        ({"messages": "no"}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_the_last_thing_that_the_user_said_is_read(body: dict[str, Any], text: str) -> None:
    assert text_of_prompt(body) == text


def test_of_a_long_prompt_the_beginning_and_the_end_are_read() -> None:
    read = text_of_prompt(_said("Summarise: " + "x" * 1_000_000 + " in one line"))
    assert len(read) == MOST_CHARACTERS
    assert read.startswith("Summarise: ")
    assert read.endswith(" in one line")


def test_features_say_of_what_form_a_prompt_is() -> None:
    choice = _of("Find the degree of Q(sqrt(2)) over Q.\nA. 0\nB. 4\nC. 2\nD. 6\nAnswer:")
    assert (choice["choices"], choice["numeric_choices"], choice["imperative"]) == (4, 1, 1)
    sum_ = _of("How many eggs does Janet sell each day if she has 16 and eats 3?")
    assert (sum_["how_many"], sum_["rate"], sum_["if"], sum_["numbers"]) == (1, 1, 1, math.log1p(2))
    assert _of("def f(x): return x + 1")["code"] == 1
    assert (
        _of("Wie wird das Wetter morgen in Hamburg sein, und warum?")["common_words"] < _of("What is the weather in Rome?")["common_words"]
    )
    assert _of("\u4eca\u5929\u5929\u6c14\u600e\u4e48\u6837\uff1f")["asks"] == 1
    assert _of("x", tools=[{}])["tools"] == 1
    assert _of("x", response_format={"type": "json_schema"})["schema"] == 1
    assert dict(zip(NAMES, features_of(_said("a", "b", "c")), strict=True))["turns"] == math.log1p(2)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["messages", "tools", "response_format", "prompt"]), JSON, max_size=4))
def test_whatever_the_body_there_are_finite_numbers(body: dict[str, Any]) -> None:
    found = features_of(body)
    assert len(found) == len(NAMES)
    assert all(map(math.isfinite, found))


@given(st.text(max_size=300))
def test_whatever_the_text_there_are_finite_numbers(text: str) -> None:
    assert all(map(math.isfinite, features_of(_said(text))))
