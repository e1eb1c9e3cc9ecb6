"""The installation as `make up` starts it, through the official SDK: real models, real vectors, real JSON by a schema."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

import openai
import pytest
from openai import LengthFinishReasonError, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from farthing.testing.installation import Installation

Answer = TypeVar("Answer")


class Coin(BaseModel):
    """What the model is made to say."""

    name: str
    old: bool


def ask(text: str = "Name a small coin.") -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"{text} ({uuid4().hex[:6]})"}]


@pytest.fixture
def home(local: Installation) -> Iterator[OpenAI]:
    with OpenAI(base_url=local.base_url, api_key=local.key, max_retries=0, timeout=60) as client:
        yield client


def test_local_models_are_in_the_catalogue(home: OpenAI) -> None:
    assert {"local", "local-embeddings"} <= {model.id for model in home.models.list()}


def finished(attempt: Callable[[], Answer]) -> Answer:
    """The small model sometimes talks until its limit; then it is asked something else."""
    for _ in range(9):
        with suppress(LengthFinishReasonError):
            return attempt()
    return attempt()


def test_parse_gives_an_object_of_the_schema(home: OpenAI) -> None:
    answer = finished(lambda: home.chat.completions.parse(model="local", messages=ask(), response_format=Coin, max_tokens=100))
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Coin)
    assert json.loads(answer.choices[0].message.content or "") == parsed.model_dump()
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_streamed_parse_gives_an_object_of_the_schema(home: OpenAI) -> None:
    question: list[Any] = []

    def streamed() -> tuple[list[str], Any]:
        question[:] = ask()
        with home.chat.completions.stream(model="local", messages=question, response_format=Coin, max_tokens=100, temperature=0) as events:
            return [event.type for event in events], events.get_final_completion()

    kinds, final = finished(streamed)
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    parsed = final.choices[0].message.parsed
    assert isinstance(parsed, Coin)
    again = home.chat.completions.with_raw_response.parse(
        model="local", messages=question, response_format=Coin, max_tokens=100, temperature=0
    )
    assert again.headers["x-farthing-source"] == "exact"
    assert again.parse().choices[0].message.parsed == parsed


def test_json_schema_and_plain_json(home: OpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Bonn", "Ulm"]}}, "required": ["city"], "additionalProperties": False}
    one = home.chat.completions.create(
        model="local",
        messages=ask("Pick a city."),
        max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "choice", "schema": schema, "strict": True}},
    )
    assert json.loads(one.choices[0].message.content or "")["city"] in {"Bonn", "Ulm"}


def test_wrong_schema_is_refused(home: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        home.chat.completions.create(
            model="local",
            messages=ask(),
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}},
        )
    assert caught.value.param == "response_format.json_schema.schema"


def test_answer_stream_and_repetition_say_the_same(home: OpenAI) -> None:
    question = ask()
    first = home.chat.completions.with_raw_response.create(model="local", messages=question, max_tokens=24)
    again = home.chat.completions.with_raw_response.create(model="local", messages=question, max_tokens=24)
    text = first.parse().choices[0].message.content
    assert text
    assert (first.headers["x-farthing-source"], again.headers["x-farthing-source"]) == ("model", "exact")
    assert again.parse().choices[0].message.content == text
    assert (again.headers["x-farthing-cost-usd"], again.headers["x-farthing-saved-usd"]) == (
        "0.000000",
        first.headers["x-farthing-cost-usd"],
    )
    with home.chat.completions.create(model="local", messages=question, max_tokens=24, stream=True) as chunks:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_live_stream_of_the_local_model(home: OpenAI) -> None:
    with home.chat.completions.create(
        model="local", messages=ask(), max_tokens=16, stream=True, stream_options={"include_usage": True}
    ) as answer:
        *chunks, last = list(answer)
    assert [chunk for chunk in chunks if chunk.choices[0].delta.content]
    assert (last.choices, last.usage is not None) == ([], True)
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


def test_embeddings_are_unit_vectors_in_both_encodings(home: OpenAI) -> None:
    words = [f"a farthing is a coin {uuid4()}", "the weather in Bonn"]
    packed = home.embeddings.create(model="local-embeddings", input=words)
    plain = home.embeddings.create(model="local-embeddings", input=words, encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert len(one.embedding) == 384
        assert math.isclose(math.hypot(*one.embedding), 1, rel_tol=1e-5)
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    near = home.embeddings.create(model="local-embeddings", input=["a penny is a coin", "rain in Cologne"]).data
    same = sum(a * b for a, b in zip(packed.data[0].embedding, near[0].embedding, strict=True))
    different = sum(a * b for a, b in zip(packed.data[0].embedding, near[1].embedding, strict=True))
    assert same > different + 0.2
    assert plain.usage.prompt_tokens > 10


def test_chat_model_does_not_embed_and_the_other_way_round(home: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Models for embeddings: local-embeddings"):
        home.embeddings.create(model="local", input="x")
    with pytest.raises(openai.NotFoundError, match="Models for chat: local"):
        home.chat.completions.create(model="local-embeddings", messages=ask())
