"""Through our Messages door to a provider that speaks Messages itself, and back: nothing is lost on the way through OpenAI's format."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from test_messages_answer import accumulated, events, request

from farthing.http import parse
from farthing.http.messages_answer import MessageEvents, message
from farthing.http.messages_request import chat_body
from farthing.providers.anthropic_request import messages_request
from farthing.providers.anthropic_stream import MessageReader
from farthing.providers.anthropic_wire import completion
from farthing.types import Answer, Json, Source

MARK = {"type": "ephemeral", "ttl": "1h"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
TURNS: list[Json] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Look.", "cache_control": MARK},
            {"type": "image", "source": PNG},
            {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}, "title": "a.pdf"},
        ],
    },
    {
        "role": "assistant",
        "content": [
            THOUGHT,
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bonn"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a"}, {"type": "image", "source": PNG}]},
            {"type": "text", "text": "And?", "cache_control": MARK},
        ],
    },
]


def through(body: Json) -> Json:
    _, given = parse.messages(msgspec.json.encode(body))
    return messages_request(chat_body(given), "claude", max_tokens=99)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"system": [{"type": "text", "text": "Brief.", "cache_control": MARK}]},
        {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop_sequences": ["END"]},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"tools": [{"name": "weather", "description": "d", "input_schema": SCHEMA, "cache_control": MARK}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tools": [{"name": "t", "input_schema": SCHEMA}], "tool_choice": {"type": "tool", "name": "t"}},
        {"tools": [{"name": "t", "input_schema": SCHEMA}], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {"metadata": {"user_id": "ann"}},
        {"service_tier": "standard_only", "cache_control": MARK},
        {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}},
    ],
    ids=lambda more: ",".join(more) or "nothing",
)
def test_a_request_arrives_as_it_was_sent(more: Json) -> None:
    body = {"model": "claude", "max_tokens": 4000, "messages": TURNS, **more}
    assert through(body) == body


CONTENT: list[Json] = [
    THOUGHT,
    {"type": "redacted_thinking", "data": "x"},
    {"type": "text", "text": "Let me see."},
    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bonn"}},
    {"type": "tool_use", "id": "t2", "name": "none", "input": {}},
]
USED = {"input_tokens": 5, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 11, "output_tokens": 13}


@pytest.mark.parametrize(
    ("content", "reason", "sequence"),
    [
        (CONTENT, "tool_use", None),
        (CONTENT[:3], "end_turn", None),
        (CONTENT[2:3], "max_tokens", None),
        (CONTENT[2:3], "stop_sequence", "END"),
    ],
)
def test_an_answer_comes_back_as_it_was_given(content: list[Json], reason: str, sequence: str | None) -> None:
    head: Json = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude"}
    ended: Json = {"stop_reason": reason, "stop_sequence": sequence, "stop_details": None}
    given = {**head, "content": content, **ended, "usage": USED}
    found = message(request(), completion("up", msgspec.json.encode(given)), stops=["END"], thinks=False)
    assert {**found, "id": "msg_1"} == given


def _stream(content: list[Json], reason: str) -> list[Json]:
    """As Anthropic streams a message."""
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": {**USED, "output_tokens": 1}}
    found: list[Json] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(content):
        deltas: list[Json] = []
        empty: Json = block
        match block["type"]:
            case "text":
                empty, deltas = {**block, "text": ""}, [{"type": "text_delta", "text": word} for word in ("Let ", "me ", "see.")]
            case "thinking":
                empty = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": letter} for letter in block["thinking"]]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case "tool_use":
                empty = {**block, "input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": msgspec.json.encode(block["input"]).decode()}]
        found.append({"type": "content_block_start", "index": index, "content_block": empty})
        found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        found.append({"type": "content_block_stop", "index": index})
    end = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 13}}
    return [*found, end, {"type": "message_stop"}]


@pytest.mark.parametrize("thinks", [True, False])
def test_a_stream_comes_back_as_it_was_given(*, thinks: bool) -> None:
    reader, usage = MessageReader("up"), None
    writer = MessageEvents(request(), stops=(), thinks=thinks, counted=0)
    out = b""
    for event in _stream(CONTENT, "tool_use"):
        for chunk, counts in reader.read(msgspec.json.encode(event)):
            out += writer.chunk(chunk) if chunk is not None else b""
            usage = counts or usage
    out += asyncio.run(writer.end(Answer(source=Source.MODEL, model="m", usage=usage)))
    found: dict[str, Any] = accumulated(list(events(out)))
    assert (found["content"], found["stop_reason"], found["usage"]) == (CONTENT, "tool_use", USED)
