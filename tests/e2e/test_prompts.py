"""Prompts of the settings, what models are sent, and long requests, through the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anthropic
import httpx
import openai
import pytest
from conftest import scripted
from inside import NO_TLS, settled
from openai import OpenAI

from farthing.testing.installation import Installation
from farthing.testing.replies import error
from farthing.testing.upstream import ScriptedUpstream, serve_in_thread

TOO_LONG = error(400, "prompt is too long: 5000 tokens > 4000 maximum", "invalid_request_error")


@pytest.fixture(scope="module")
def behind() -> Iterator[ScriptedUpstream]:
    with serve_in_thread() as running:
        yield running


@pytest.fixture(scope="module")
def speaking(folders: Path, behind: ScriptedUpstream) -> Iterator[Installation]:
    """`plain`, with a llama to fall back on; `short`, which holds 200 tokens, and `sly`, whose room only its provider knows."""
    settings = scripted(behind)
    one = {"provider": "up", "price": {"input_usd_per_1m": 1, "output_usd_per_1m": 2}}
    settings["models"] = {
        "plain": {**one, "upstream_model": "gpt-x", "fallbacks": ["spare"]},
        "spare": {**one, "upstream_model": "llama-x", "parameters": {"max_tokens": {"max": 50}, "drop": ["seed"]}},
        "short": {**one, "upstream_model": "short-x", "context_tokens": 200, "context_fallbacks": ["long"]},
        "sly": {**one, "upstream_model": "sly-x", "context_fallbacks": ["long"]},
        "long": {**one, "upstream_model": "long-x", "context_tokens": 100_000},
    }
    settings["prompts"] = {"support": {"system": "You help.", "variants": {"llama": "Llama, you help."}}}
    with Installation(folders / "speaking", settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _echoing(behind: ScriptedUpstream) -> Iterator[None]:
    """A script lasts for one test."""
    yield
    for name in ("gpt-x", "llama-x", "sly-x", "long-x"):
        behind.script(name)


@pytest.fixture
def sdk(speaking: Installation) -> Iterator[OpenAI]:
    with OpenAI(base_url=speaking.base_url, api_key=speaking.key, max_retries=0, timeout=20) as client:
        yield client


def ask(sdk: OpenAI, model: str, text: str, **more: Any) -> Any:
    return sdk.chat.completions.with_raw_response.create(model=model, messages=[{"role": "user", "content": text}], **more)


def told(behind: ScriptedUpstream, upstream_model: str) -> list[str]:
    """What the messages say that a model was sent last."""
    return [message["content"] for message in behind.of(upstream_model)[-1].body["messages"]]


def test_a_named_prompt_is_in_front_and_its_version_in_the_ledger(speaking: Installation, sdk: OpenAI, behind: ScriptedUpstream) -> None:
    text = f"hello {uuid4()}"
    raw = ask(sdk, "plain", text, extra_body={"farthing": {"prompt": "support"}})
    assert told(behind, "gpt-x") == ["You help.", text]
    (row,) = settled(speaking, [raw.headers["x-farthing-request-id"]])[raw.headers["x-farthing-request-id"]]
    name, _, version = row["prompt_version"].partition("@")
    assert (name, len(version)) == ("support", 8)
    assert ask(sdk, "plain", f"hello {uuid4()}", extra_headers={"x-farthing-prompt": "support"}).headers["x-farthing-model"] == "plain"
    assert told(behind, "gpt-x")[0] == "You help."


def test_a_fallback_of_another_family_is_told_in_its_own_words_and_sent_what_it_takes(sdk: OpenAI, behind: ScriptedUpstream) -> None:
    behind.script("gpt-x", error(500))
    text = f"hello {uuid4()}"
    raw = ask(sdk, "plain", text, max_tokens=400, seed=3, extra_body={"farthing": {"prompt": "support"}})
    assert (raw.headers["x-farthing-model"], raw.headers["x-farthing-route"]) == ("spare", "fallback")
    assert told(behind, "llama-x") == ["Llama, you help.", text]
    assert told(behind, "gpt-x") == ["You help.", text]
    first, second = behind.of("gpt-x")[-1].body, behind.of("llama-x")[-1].body
    assert (first["max_tokens"], first["seed"]) == (400, 3)
    assert (second["max_tokens"], "seed" in second) == (50, False)


def test_the_same_question_with_and_without_the_prompt_is_two_questions(sdk: OpenAI) -> None:
    text = f"hello {uuid4()}"
    options: dict[str, Any] = {"temperature": 0}
    sources = [
        ask(sdk, "plain", text, **options, extra_body={"farthing": given}).headers["x-farthing-source"]
        for given in ({}, {"prompt": "support"}, {"prompt": "support"}, {})
    ]
    assert sources == ["model", "model", "exact", "exact"]


def test_an_unknown_prompt_is_refused_and_costs_nothing(speaking: Installation, sdk: OpenAI, behind: ScriptedUpstream) -> None:
    before = len(behind.requests)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(sdk, "plain", "hello", extra_body={"farthing": {"prompt": "suport"}})
    assert caught.value.param == "farthing.prompt"
    assert "did you mean 'support'" in caught.value.message
    with pytest.raises(openai.BadRequestError):
        sdk.chat.completions.create(
            model="plain", messages=[{"role": "user", "content": "x"}], extra_body={"farthing": {"prompt": {"system": "mine"}}}
        )
    assert len(behind.requests) == before
    request_id = caught.value.response.headers["x-farthing-request-id"]
    (row,) = settled(speaking, [request_id])[request_id]
    assert (row["status"], row["cost_microusd"]) == (400, 0)


def test_each_door_for_chats_takes_a_prompt(speaking: Installation, sdk: OpenAI, behind: ScriptedUpstream) -> None:
    text = f"hello {uuid4()}"
    first = sdk.responses.create(model="plain", input=text, extra_body={"farthing": {"prompt": "support"}})
    assert told(behind, "gpt-x") == ["You help.", text]
    sdk.responses.create(model="plain", input="and?", previous_response_id=first.id, extra_body={"farthing": {"prompt": "support"}})
    assert [one for one in told(behind, "gpt-x") if one == "You help."] == ["You help."], "it is put in once, however long it goes on"
    with anthropic.Anthropic(base_url=speaking.url, api_key=speaking.key, max_retries=0) as claude:
        claude.messages.create(
            model="plain",
            max_tokens=50,
            messages=[{"role": "user", "content": text}],
            extra_headers={"x-farthing-prompt": "support"},
        )
    assert told(behind, "gpt-x")[0] == "You help."
    with httpx.Client(base_url=speaking.url, headers={"authorization": f"Bearer {speaking.key}"}, verify=NO_TLS) as client:
        done = client.post("/api/v1/generate", json={"prompt": text, "farthing": {"prompt": "support"}})
    assert done.status_code == 200, done.text
    assert told(behind, "gpt-x")[0] == "You help."


def test_a_long_request_goes_where_there_is_room(sdk: OpenAI, behind: ScriptedUpstream) -> None:
    assert ask(sdk, "short", f"hello {uuid4()}").headers["x-farthing-route"] == "direct"
    before = len(behind.of("short-x"))
    raw = ask(sdk, "short", f"{uuid4()} " * 100)
    assert (raw.headers["x-farthing-model"], raw.headers["x-farthing-route"]) == ("long", "context")
    assert len(behind.of("short-x")) == before


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
def test_a_provider_that_says_too_long_is_not_the_end(
    speaking: Installation,
    sdk: OpenAI,
    behind: ScriptedUpstream,
    streams: bool,  # noqa: FBT001 - pytest hands it over by name
) -> None:
    behind.script("sly-x", TOO_LONG)
    raw = ask(sdk, "sly", f"hello {uuid4()}", stream=streams)
    assert (raw.headers["x-farthing-model"], raw.headers["x-farthing-route"]) == ("long", "context")
    if streams:
        assert "hello" in "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse() if chunk.choices)
    request_id = raw.headers["x-farthing-request-id"]
    rows = settled(speaking, [request_id])[request_id]
    assert [(row["model_used"], row["error"], row["final"]) for row in rows] == [
        ("sly", "context_length_exceeded", False),
        ("long", None, True),
    ]


def test_without_more_room_the_client_gets_openais_own_code(sdk: OpenAI, behind: ScriptedUpstream) -> None:
    behind.script("long-x", TOO_LONG)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(sdk, "long", f"hello {uuid4()}")
    assert caught.value.code == "context_length_exceeded"
