"""A Claude behind Farthing: OpenAI's SDK in front, Anthropic's wire behind, Anthropic's bill in the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic
from inside import Row, new_key, settled
from openai import APIStatusError, OpenAI

from farthing.testing.anthropic import AnthropicUpstream, error, event, events, message, message_stream, usage_object
from farthing.testing.installation import Installation
from farthing.testing.upstream import RESET, Reply, ScriptedUpstream, serve_in_thread

MODEL = "claude-sonnet-4-5"
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
BILLED = usage_object(1000, 700, read=20_000, written=3000, hour=1000, thinking=500)
COST = 3000 + 10_500 + 6000 + 7500 + 6000
"""At $3 and $15 a million: 1,000 plain, 700 out, 20,000 read at $0.30, 2,000 written for five minutes at $3.75, 1,000 for an hour at $6."""


@pytest.fixture(scope="module")
def claude() -> Iterator[ScriptedUpstream]:
    with serve_in_thread(AnthropicUpstream()) as running:
        yield running


@pytest.fixture(scope="module")
def farthing(folders: Path, claude: ScriptedUpstream) -> Iterator[Installation]:
    settings = {
        "local": {"enabled": False},
        "ledger": {"flush_interval_s": 0.02},
        "providers": {"claude": {"kind": "anthropic", "base_url": claude.base_url, "api_key": "sk-ant-0123456789", "retries": 0}},
        "models": {"strong": {"provider": "claude", "upstream_model": MODEL}},
    }
    with Installation(folders / "anthropic", settings) as running:
        yield running


@pytest.fixture(scope="module")
def sdk(farthing: Installation) -> Iterator[OpenAI]:
    key = str(new_key(farthing, "anthropic")["key"])
    with OpenAI(base_url=farthing.base_url, api_key=key, max_retries=0, timeout=20) as client:
        yield client


def _row(farthing: Installation, request_id: str | None) -> Row:
    assert request_id
    (row,) = settled(farthing, [request_id])[request_id]
    return row


def _billed(row: Row) -> None:
    """To the micro-dollar, by genai-prices' own data."""
    names = ("tokens_in", "tokens_out", "tokens_cache_read", "tokens_cache_write", "tokens_reasoning")
    assert [row[name] for name in names] == [24_000, 700, 20_000, 3000, 500]
    assert (row["cost_microusd"], row["usage_source"], row["price_source"]) == (COST, "provider", "genai-prices")
    assert (row["provider"], row["upstream_model"], row["status"]) == ("claude", MODEL, 200)


def _ask(sdk: OpenAI, text: str, **more: Any) -> Any:
    return sdk.chat.completions.create(model="strong", messages=[{"role": "user", "content": text}], **more)


def test_an_answer_is_openais_and_its_cost_is_anthropics(farthing: Installation, sdk: OpenAI, claude: ScriptedUpstream) -> None:
    claude.script(MODEL, message(["Hel", "lo"], thinking=["hm"], usage=BILLED))
    answer = _ask(sdk, "Hi", extra_body={"thinking": {"type": "enabled", "budget_tokens": 2000}})
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "stop")
    assert answer.choices[0].message.reasoning_content == "hm"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (24_000, 20_000)
    assert answer.usage.completion_tokens_details.reasoning_tokens == 500
    asked = claude.of(MODEL)[-1]
    assert asked.body["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert asked.headers["x-api-key"] == "sk-ant-0123456789"
    _billed(_row(farthing, answer._request_id))


def test_a_stream_is_billed_the_same(farthing: Installation, sdk: OpenAI, claude: ScriptedUpstream) -> None:
    claude.script(MODEL, message_stream(["Hel", "lo"], thinking=["hm"], usage=BILLED))
    stream = _ask(sdk, "Stream", stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "Hello"
    assert [one.usage is not None for one in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == 24_000
    _billed(_row(farthing, stream.response.headers["x-request-id"]))


def _choice(sdk: OpenAI, question: Any, *, streams: bool) -> Any:
    if not streams:
        return sdk.chat.completions.create(model="strong", messages=[question], tools=[TOOL]).choices[0]
    with sdk.chat.completions.stream(model="strong", messages=[question], tools=[TOOL]) as running:
        return running.get_final_completion().choices[0]


@pytest.mark.parametrize("streams", [False, True])
def test_a_tool_is_called_and_its_result_goes_back(sdk: OpenAI, claude: ScriptedUpstream, *, streams: bool) -> None:
    make = message_stream if streams else message
    claude.script(MODEL, make([], tool_calls=[("weather", '{"city": "Zürich"}')]), message(["Sunny."]))
    question: Any = {"role": "user", "content": f"How is the weather? {streams}"}
    said = _choice(sdk, question, streams=streams)
    assert said.finish_reason == "tool_calls"
    (call,) = said.message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Zürich"}
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "21 °C"}
    answer = sdk.chat.completions.create(
        model="strong", messages=[question, said.message.model_dump(exclude_none=True), result], tools=[TOOL]
    )
    assert answer.choices[0].message.content == "Sunny."
    sent = claude.of(MODEL)[-1].body["messages"]
    assert sent[1]["content"] == [{"type": "tool_use", "id": call.id, "name": "weather", "input": {"city": "Zürich"}}]
    assert sent[2]["content"] == [{"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "21 °C"}]}]


def test_an_answer_from_our_cache_costs_nothing_more(farthing: Installation, sdk: OpenAI, claude: ScriptedUpstream) -> None:
    claude.script(MODEL, message(["Kept."], usage=BILLED))
    first, second = _ask(sdk, "Twice", temperature=0), _ask(sdk, "Twice", temperature=0)
    assert second.choices[0].message.content == "Kept."
    row = _row(farthing, second._request_id)
    assert (row["source"], row["cost_microusd"], row["saved_microusd"]) == ("exact", 0, COST)
    _billed(_row(farthing, first._request_id))


def test_a_stream_that_breaks_is_billed_for_what_it_was(farthing: Installation, sdk: OpenAI, claude: ScriptedUpstream) -> None:
    begun = [event(one) for one in events(["x" * 400], usage=BILLED)][:4]
    claude.script(MODEL, Reply(parts=[*begun, 0.05, RESET]))
    stream = _ask(sdk, "Break", stream=True)
    with pytest.raises(Exception, match="broke the connection"):
        list(stream)
    row = _row(farthing, stream.response.headers["x-request-id"])
    assert (row["tokens_in"], row["tokens_cache_read"], row["tokens_out"], row["usage_source"]) == (24_000, 20_000, 100, "estimated")
    assert row["cost_microusd"] == COST - 10_500 + 1500, "the input as Anthropic counted it, and 100 of output as we do"


@pytest.mark.parametrize(
    ("status", "seen", "code"),
    [
        (400, 400, "invalid_request"),
        (401, 502, "upstream_credentials"),
        (429, 429, "rate_limit_exceeded"),
        (529, 502, "upstream_unavailable"),
    ],
)
def test_anthropics_errors_are_openais(sdk: OpenAI, claude: ScriptedUpstream, status: int, seen: int, code: str) -> None:
    claude.script(MODEL, error(status, "Something is wrong", {"retry-after": "7"}))
    with pytest.raises(APIStatusError) as caught:
        _ask(sdk, f"Fail {status}")
    assert (caught.value.status_code, caught.value.code) == (seen, code)
    assert "sk-ant" not in str(caught.value.body)
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"


# Anthropic's own SDK in front as well: what goes through both translations must come out as it went in

MARK: Any = {"type": "ephemeral", "ttl": "1h"}
ASKED: Any = {
    "model": "strong",
    "max_tokens": 5000,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}],
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "tools": [{"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {}}, "cache_control": MARK}],
    "extra_body": {"top_k": 5},  # the newest SDK has no name for it
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u-1"},
}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}


@pytest.fixture(scope="module")
def anthropic_sdk(farthing: Installation) -> Iterator[Anthropic]:
    key = str(new_key(farthing, "anthropic-door")["key"])
    with Anthropic(base_url=farthing.url, api_key=key, max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.parametrize("streams", [False, True])
def test_a_claude_behind_anthropics_door_is_as_if_nothing_were_between(
    anthropic_sdk: Anthropic, claude: ScriptedUpstream, *, streams: bool
) -> None:
    make = message_stream if streams else message
    claude.script(MODEL, make(["I look."], thinking=["h", "m"], tool_calls=[("weather", '{"city": "Z"}')], usage=BILLED))
    question: Any = {"role": "user", "content": [{"type": "text", "text": f"Weather? {streams}", "cache_control": MARK}]}
    if streams:
        with anthropic_sdk.messages.stream(messages=[question], **ASKED) as running:
            said = running.get_final_message()
    else:
        said = anthropic_sdk.messages.create(messages=[question], **ASKED)
    sent = {key: value for key, value in claude.of(MODEL)[-1].body.items() if key != "stream"}
    asked = {key: value for key, value in ASKED.items() if key != "extra_body"}
    assert sent == {**asked, "top_k": 5, "model": MODEL, "messages": [question]}
    blocks = [block.to_dict() for block in said.content]
    use = {"type": "tool_use", "id": "toolu_0", "name": "weather", "input": {"city": "Z"}}
    assert blocks == [THOUGHT, {"type": "text", "text": "I look."}, use]
    assert said.stop_reason == "tool_use"
    counts = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert [getattr(said.usage, name) for name in counts] == [1000, 700, 20_000, 3000]

    claude.script(MODEL, message(["21 °C."], stop_reason="stop_sequence", stop_sequence="END"))
    turns: Any = [question, {"role": "assistant", "content": blocks}]
    turns.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_0", "content": "21", "is_error": True}]})
    last = anthropic_sdk.messages.create(messages=turns, **ASKED)
    assert (last.stop_reason, last.stop_sequence) == ("stop_sequence", "END")
    again = claude.of(MODEL)[-1].body["messages"]
    assert again[:2] == turns[:2]
    assert again[2]["content"] == [{**turns[2]["content"][0], "content": [{"type": "text", "text": "21"}]}]
