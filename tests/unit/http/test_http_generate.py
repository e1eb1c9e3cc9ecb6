"""Our own door: what becomes of a body, and which model answers it."""

from __future__ import annotations

from typing import Any

import pytest

from farthing.errors import InvalidRequest
from farthing.http import parse
from farthing.http.generate import Pieces, chat_body
from farthing.types import Json


def translated(**body: Any) -> Json:
    return chat_body(parse.generate(body), body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt": "Hi"}, {"messages": [{"role": "user", "content": "Hi"}]}),
        (
            {"prompt": "Hi", "system": "Brief."},
            {"messages": [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}]},
        ),
        ({"messages": [{"role": "user", "content": "Hi", "x": 1}]}, {"messages": [{"role": "user", "content": "Hi", "x": 1}]}),
        (
            {"prompt": "Hi", "max_tokens": 3, "temperature": 0, "response_format": {"type": "json_object"}},
            {
                "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 3,
                "temperature": 0,
                "response_format": {"type": "json_object"},
            },
        ),
    ],
)
def test_bodies(body: Json, expected: Json) -> None:
    assert translated(**body) == {**expected, "farthing": {}}


def test_task_type_and_user_are_for_farthing_and_not_for_the_provider() -> None:
    found = translated(prompt="Hi", task_type="summarize", user="ann", farthing={"cache": "off", "task_type": "other"})
    assert found["farthing"] == {"cache": "off", "task_type": "summarize", "user": "ann"}
    assert found.keys() == {"messages", "farthing"}


@pytest.mark.parametrize(
    ("body", "param", "hint"),
    [
        ({}, "prompt", "either prompt"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "prompt", "either prompt"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"messages": []}, "messages", "empty"),
        ({"prompt": "a", "model": "gpt"}, "model", "this door chooses"),
        ({"prompt": "a", "max_token": 3}, "max_token", "did you mean 'max_tokens'"),
        ({"prompt": "a", "zzz": 3}, "zzz", "known: prompt"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens", ">= 1"),
        ({"prompt": 3}, "prompt", "expected"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing"),
        ({"prompt": "a", "stream": "yes"}, "stream", "expected"),
        ({"prompt": "a", "task_type": 3}, "task_type", "expected"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(body: Json, param: str, hint: str) -> None:
    with pytest.raises(InvalidRequest, match=hint) as caught:
        translated(**body)
    assert caught.value.param == param


def test_pieces_read_text_and_refusals_of_the_first_choice() -> None:
    def chunk(index: int, delta: Json, end: str | None = None) -> Json:
        return {"choices": [{"index": index, "delta": delta, "finish_reason": end}]}

    pieces = Pieces()
    texts = [pieces.text(one) for one in (chunk(0, {"content": "a"}), chunk(1, {"content": "b"}), chunk(0, {"refusal": "c"}, "stop"))]
    assert texts == ["a", "", "c"]
    assert pieces.finish_reason == "stop"
