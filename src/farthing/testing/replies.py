"""What a scripted upstream sends: exact bytes and exact timing, and the usual answers of an OpenAI-compatible server.

Malformed and hostile answers are in `farthing.testing.malformed`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Literal
from uuid import uuid4

import msgspec

Json = dict[str, Any]

ToolCall = tuple[str, str]
"""Function name and arguments as JSON text."""

UsagePlace = bool | Literal["on_last_choice_chunk"]
"""Where a stream carries its usage: True in a last chunk without choices (as OpenAI does), False nowhere."""


class Cut(Enum):
    """A way to break an answer off."""

    RESET = "reset"
    """Reset the connection (TCP RST)."""
    CLOSE = "close"
    """Close the connection without the end of the body."""
    STALL = "stall"
    """Send nothing more until the peer closes."""


RESET: Final = Cut.RESET
CLOSE: Final = Cut.CLOSE
STALL: Final = Cut.STALL


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """The same bytes `times` times, or (None) until the peer closes."""

    data: bytes
    times: int | None = None


Part = bytes | float | Cut | Repeat
"""Bytes to send (one write, one HTTP chunk), a pause in seconds, a way to break off, or bytes to repeat."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One scripted answer: one of `json`, `body` or `parts`.

    `json` and `body` go out at once with a content-length. `parts` go out one by one as HTTP chunks, or plain where `headers` give a
    content-length. With `raw` nothing is added to the parts, not even a status line. `delay_s` is waited before anything is sent.
    """

    status: int = 200
    headers: Mapping[str, str] = {}
    json: Any = None
    body: bytes | None = None
    parts: Sequence[Part] | None = None
    raw: bool = False
    delay_s: float = 0.0

    def payload(self) -> bytes:
        """The bytes of a reply without parts."""
        if self.body is not None:
            return self.body
        return b"" if self.json is None else msgspec.json.encode(self.json)

    def all_headers(self) -> dict[str, str]:
        """Headers in lower case, with the content type that fits when none is given."""
        given = {name.lower(): value for name, value in self.headers.items()}
        kind = "application/json" if self.parts is None else "text/event-stream; charset=utf-8"
        return {"content-type": kind, **given}


def sse(event: Any) -> bytes:
    """One server-sent event with a JSON document (or ready bytes) as its data."""
    return b"data: " + (event if isinstance(event, bytes) else msgspec.json.encode(event)) + b"\n\n"


DONE: Final = sse(b"[DONE]")
"""The end mark of a stream."""


def usage_object(tokens_in: int = 9, tokens_out: int = 12, *, cached: int = 0, reasoning: int = 0) -> Json:
    """OpenAI's usage object with its details."""
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def completion(
    text: str | None,
    *,
    usage: Json | Literal[False] | None = None,
    tool_calls: Sequence[ToolCall] = (),
    finish_reason: str | None = None,
    model: str = "gpt-4o-mini",
    n: int = 1,
    headers: Mapping[str, str] | None = None,
    delay: float = 0.0,
) -> Reply:
    """A whole chat completion of `n` choices; choice i > 0 says `#i text`. `usage` False leaves usage out, None takes a usual one."""
    message: Json = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    if tool_calls:
        message["tool_calls"] = [
            {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for at, (name, arguments) in enumerate(tool_calls)
        ]
    choices = [
        {
            "index": index,
            "message": {**message, "content": _numbered(text, index)},
            "logprobs": None,
            "finish_reason": finish_reason or ("tool_calls" if tool_calls else "stop"),
        }
        for index in range(n)
    ]
    body = {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage_object() if usage is None else usage,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }
    if usage is False:
        del body["usage"]
    return Reply(json=body, headers=headers or {}, delay_s=delay)


def stream(
    texts: Sequence[str],
    *,
    usage: UsagePlace = True,
    counts: Json | None = None,
    tool_calls: Sequence[ToolCall] = (),
    finish_reason: str | None = None,
    model: str = "gpt-4o-mini",
    n: int = 1,
    delay: float = 0.0,
    done: bool = True,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """A streamed chat completion, one chunk per text and choice, `delay` seconds before each event after the first.

    `counts` is the usage object sent where `usage` says, `done` whether the end mark is sent.
    """
    reason = finish_reason or ("tool_calls" if tool_calls else "stop")
    events = [sse(event) for event in chunks(texts, usage=usage, counts=counts, tool_calls=tool_calls, reason=reason, model=model, n=n)]
    if done:
        events.append(DONE)
    return Reply(parts=spaced(events, delay), headers=headers or {})


def spaced(events: Sequence[bytes], delay: float) -> tuple[Part, ...]:
    """Events with a pause of `delay` seconds between them."""
    if not delay:
        return tuple(events)
    parts: list[Part] = [events[0]]
    for event in events[1:]:
        parts += (delay, event)
    return tuple(parts)


def chunks(
    texts: Sequence[str],
    *,
    usage: UsagePlace = True,
    counts: Json | None = None,
    tool_calls: Sequence[ToolCall] = (),
    reason: str = "stop",
    model: str = "gpt-4o-mini",
    n: int = 1,
) -> Iterator[Json]:
    """The `chat.completion.chunk` objects of a stream: roles, contents, tool-call deltas, finish reasons, usage."""
    counts = counts or usage_object(9, len(texts))
    base: Json = {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }

    def chunk(index: int, delta: Json, finish: str | None = None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**base, "choices": [choice], **({"usage": None} if usage else {})}

    for index in range(n):
        yield chunk(index, {"role": "assistant", "content": None if tool_calls else "", "refusal": None})
    for at, text in enumerate(texts):
        for index in range(n):
            yield chunk(index, {"content": text if at else _numbered(text, index)})
    for index in range(n):
        for delta in _tool_deltas(tool_calls):
            yield chunk(index, {"tool_calls": [delta]})
    for index in range(n):
        last = chunk(index, {}, reason)
        yield {**last, "usage": counts} if usage == "on_last_choice_chunk" and index == n - 1 else last
    if usage is True:
        yield {**base, "choices": [], "usage": counts}


def error(
    status: int,
    message: str = "scripted error",
    type: str = "server_error",  # noqa: A002 the wire's own name
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    param: str | None = None,
) -> Reply:
    """OpenAI's error object under an HTTP status."""
    return Reply(status=status, json={"error": {"message": message, "type": type, "param": param, "code": code}}, headers=headers or {})


def rate_limited(*, retry_after: str | None = None, retry_after_ms: str | None = None) -> Reply:
    """A 429; `retry_after` is seconds or an HTTP date, as sent."""
    wished = {"retry-after": retry_after, "retry-after-ms": retry_after_ms}
    headers = {name: value for name, value in wished.items() if value is not None}
    return error(429, "Rate limit reached", "requests", "rate_limit_exceeded", headers)


def embeddings(n: int, dim: int, *, model: str = "text-embedding-3-small") -> Reply:
    """`n` unit vectors of `dim` dimensions: vector i points along axis i modulo dim."""
    data = [
        {"object": "embedding", "index": index, "embedding": [1.0 if axis == index % dim else 0.0 for axis in range(dim)]}
        for index in range(n)
    ]
    return Reply(json={"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": 4 * n, "total_tokens": 4 * n}})


def _numbered(text: str | None, index: int) -> str | None:
    return f"#{index} {text}" if index and text is not None else text


def _tool_deltas(tool_calls: Sequence[ToolCall]) -> Iterator[Json]:
    for at, (name, arguments) in enumerate(tool_calls):
        yield {"index": at, "id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": ""}}
        for start in range(0, len(arguments), 8):
            yield {"index": at, "function": {"arguments": arguments[start : start + 8]}}
