"""What Amazon Bedrock's Converse API answers, as OpenAI's clients expect it: whole, and event by event.

Source: AWS, "Amazon Bedrock API Reference", Converse and ConverseStream. Thinking is told twice, as text (`reasoning_content`) and as the
blocks that must go back unchanged in the next request (`thinking_blocks`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from farthing.errors import UpstreamMalformed
from farthing.providers.wire import excerpt
from farthing.types import Json, new_id

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
Pair = tuple[Json | None, Json | None]
"""A chunk without usage, and usage. See `ports.Provider.stream`."""

REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
"""Reasons of the end. One that is not here counts as `stop`."""
MALFORMED = frozenset({"malformed_model_output", "malformed_tool_use"})
"""Reasons of the end that say that the model's answer cannot be read."""


def an_object(name: str, data: bytes) -> Json:
    """A JSON object. Raises `UpstreamMalformed`."""
    try:
        found = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamMalformed(f"{name} answered something that is not JSON: {excerpt(data)}") from None
    if not isinstance(found, dict):
        raise UpstreamMalformed(f"{name} answered a JSON {type(found).__name__} instead of an object")
    return found


def completion(name: str, model: str, data: bytes) -> Json:
    """The `chat.completion` of an answer of Converse. Raises `UpstreamMalformed`."""
    body = an_object(name, data)
    try:
        blocks = body["output"]["message"]["content"]
        message = _message(blocks)
    except (KeyError, TypeError, AttributeError):
        raise UpstreamMalformed(f"{name} answered without a message: {excerpt(data)}") from None
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(name, body.get("stopReason"))}
    head = {"id": f"chatcmpl-{new_id().hex}", "object": "chat.completion", "created": int(time.time()), "model": model}
    return {**head, "choices": [choice], "usage": usage(body.get("usage"))}


def _message(blocks: list[Json]) -> Json:
    texts = [block["text"] for block in blocks if "text" in block]
    thoughts = [block["reasoningContent"] for block in blocks if "reasoningContent" in block]
    calls = [_call(block["toolUse"]) for block in blocks if "toolUse" in block]
    message: Json = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
    thinking = "".join(thought["reasoningText"]["text"] for thought in thoughts if "reasoningText" in thought)
    if thinking:
        message["reasoning_content"] = thinking
    kept = [kept for thought in thoughts if (kept := _kept(thought.get("reasoningText") or {}, thought.get("redactedContent")))]
    if kept:
        message["thinking_blocks"] = kept
    if calls:
        message["tool_calls"] = calls
    return message


def _call(use: Json) -> Json:
    arguments = _encode(use.get("input") or {}).decode()
    return {"id": use["toolUseId"], "type": "function", "function": {"name": use["name"], "arguments": arguments}}


def _kept(thought: Json, redacted: Any) -> Json | None:
    """A block of thinking that the next request must bring back; None for one that is not signed."""
    if redacted:
        return {"type": "redacted_thinking", "data": redacted}
    if thought.get("signature"):
        return {"type": "thinking", "thinking": thought.get("text") or "", "signature": thought["signature"]}
    return None


def _reason(name: str, reason: Any) -> str:
    if reason in MALFORMED:
        raise UpstreamMalformed(f"{name} says that the model's answer cannot be read ({reason})", upstream_code=reason)
    return REASONS.get(reason, "stop")


def usage(raw: Any) -> Json | None:
    """OpenAI's usage object; None where there is none. Bedrock does not count as input what the prompt cache read or wrote: here it is."""
    if not isinstance(raw, dict) or type(raw.get("inputTokens")) is not int:
        return None
    read, written, output = (_count(raw.get(key)) for key in ("cacheReadInputTokens", "cacheWriteInputTokens", "outputTokens"))
    prompt = _count(raw["inputTokens"]) + read + written
    found: Json = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    if read or written:
        details = found["prompt_tokens_details"] = {"cached_tokens": read, "cache_write_tokens": written}
        if hour := _kept_for_an_hour(raw.get("cacheDetails")):
            details["cache_write_1h_tokens"] = min(hour, written)
    return found


def _kept_for_an_hour(details: Any) -> int:
    """Tokens written to the prompt cache for an hour, which is dearer than for five minutes."""
    some = details if isinstance(details, list) else []
    return sum(_count(one.get("inputTokens")) for one in some if isinstance(one, dict) and one.get("ttl") == "1h")


def _count(value: Any) -> int:
    return max(value, 0) if type(value) is int else 0


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


class Reader:
    """The events of one stream as chunks of OpenAI's. `ended`: the model came to its end. `complete`: nothing follows."""

    def __init__(self, name: str, model: str) -> None:
        self._name = name
        self._head: Json = {
            "id": f"chatcmpl-{new_id().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._calls: dict[int, int] = {}
        self._without_arguments: set[int] = set()
        self._thoughts: dict[int, Json] = {}
        self._malformed: str | None = None
        self.ended = False
        self.complete = False
        self._handlers: dict[str, Callable[[Json], list[Pair]]] = {
            "messageStart": self._start,
            "contentBlockStart": self._begin_block,
            "contentBlockDelta": self._go_on,
            "contentBlockStop": self._end_block,
            "messageStop": self._stop,
            "metadata": self._count,
        }

    def read(self, kind: str, payload: bytes) -> list[Pair]:
        """What an event says. Raises `UpstreamMalformed`. Kinds of events that are unknown say nothing."""
        event = an_object(self._name, payload)
        handler = self._handlers.get(kind)
        try:
            return handler(event) if handler else []
        except (KeyError, TypeError, AttributeError):
            raise UpstreamMalformed(f"{self._name} sent a malformed {kind[:64]} event: {excerpt(payload)}") from None

    def close(self) -> None:
        """All events have been read. Raises `UpstreamMalformed` when the model's answer could not be read."""
        if self._malformed:
            _reason(self._name, self._malformed)

    def _chunk(self, delta: Json, reason: str | None = None) -> Pair:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}, None

    def _start(self, event: Json) -> list[Pair]:
        del event
        return [self._chunk({"role": "assistant", "content": None, "refusal": None})]

    def _begin_block(self, event: Json) -> list[Pair]:
        block, use = event["contentBlockIndex"], (event.get("start") or {}).get("toolUse")
        if use is None:
            return []
        index = self._calls[block] = len(self._calls)
        self._without_arguments.add(block)
        function = {"name": use["name"], "arguments": ""}
        return [self._chunk({"tool_calls": [{"index": index, "id": use["toolUseId"], "type": "function", "function": function}]})]

    def _go_on(self, event: Json) -> list[Pair]:
        block, delta = event["contentBlockIndex"], event["delta"]
        if "reasoningContent" in delta:
            return self._think(block, delta["reasoningContent"])
        if "toolUse" in delta:
            piece = _text(delta["toolUse"]["input"])
            self._without_arguments -= {block} if piece else set()
            return [self._arguments(block, piece)] if piece else []
        piece = _text(delta.get("text", ""))
        return [self._chunk({"content": piece})] if piece else []

    def _stop(self, event: Json) -> list[Pair]:
        self.ended = True
        reason = event.get("stopReason")
        if reason in MALFORMED:
            self._malformed = reason  # told after the usage, which is billed all the same
            return []
        return [self._chunk({}, _reason(self._name, reason))]

    def _count(self, event: Json) -> list[Pair]:
        self.complete = True
        counted = usage(event.get("usage"))
        return [(None, counted)] if counted else []

    def _think(self, block: int, delta: Json) -> list[Pair]:
        thought = self._thoughts.setdefault(block, {})
        for key, piece in delta.items():
            thought[key] = thought.get(key, "") + _text(piece)
        return [self._chunk({"reasoning_content": delta["text"]})] if delta.get("text") else []

    def _end_block(self, event: Json) -> list[Pair]:
        block = event["contentBlockIndex"]
        if block in self._without_arguments:  # a call of a function without parameters: OpenAI's clients expect an object all the same
            return [self._arguments(block, "{}")]
        thought = self._thoughts.pop(block, {})
        kept = _kept(thought, thought.get("redactedContent"))
        return [self._chunk({"thinking_blocks": [kept]})] if kept else []

    def _arguments(self, block: int, piece: str) -> Pair:
        return self._chunk({"tool_calls": [{"index": self._calls[block], "function": {"arguments": piece}}]})
