"""A scripted upstream that speaks Anthropic's Messages API, and what such a server sends.

    async with AnthropicUpstream() as up:
        up.script("claude-sonnet-4-5", message_stream(["Hel", "lo"], usage=usage_object(9, 2, read=2000)))
        ...  # talk to up.base_url

A model without a script echoes the last user message. Source of the shapes: Anthropic's API reference, "Create a Message", "Streaming
messages" and "Errors".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import msgspec

from farthing.testing.echo import Received
from farthing.testing.replies import Reply, ToolCall, spaced
from farthing.testing.upstream import ScriptedUpstream
from farthing.testing.vendors import Asked, Feature, Said, Tokens, parts_of, text_of
from farthing.types import Json

ERROR_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""What Anthropic calls a status; other 4xx are `invalid_request_error`, other 5xx `api_error`."""

_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def usage_object(tokens_in: int = 9, tokens_out: int = 2, *, read: int = 0, written: int = 0, hour: int = 0, thinking: int = 0) -> Json:
    """Anthropic's usage: `tokens_in` counts nothing of what the cache was read or written for; `hour` is part of `written`."""
    return {
        "input_tokens": tokens_in,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written - hour, "ephemeral_1h_input_tokens": hour},
        "output_tokens": tokens_out,
        "output_tokens_details": {"thinking_tokens": thinking},
        "service_tier": "standard",
    }


def blocks(texts: Sequence[str], tool_calls: Sequence[ToolCall] = (), thinking: Sequence[str] = ()) -> list[Json]:
    """The content of a message: thinking, text, calls."""
    found: list[Json] = []
    if thinking:
        found.append({"type": "thinking", "thinking": "".join(thinking), "signature": "c2lnbmVk"})
    if texts:
        found.append({"type": "text", "text": "".join(texts)})
    for at, (name, arguments) in enumerate(tool_calls):
        found.append({"type": "tool_use", "id": f"toolu_{at}", "name": name, "input": msgspec.json.decode(arguments)})
    return found


def message(
    texts: Sequence[str],
    *,
    tool_calls: Sequence[ToolCall] = (),
    thinking: Sequence[str] = (),
    stop_reason: str | None = None,
    usage: Json | None = None,
    model: str = "claude-sonnet-4-5",
    **more: Any,
) -> Reply:
    """A whole message. `more` replaces fields, such as `stop_sequence` or `content`."""
    body = _body(model, usage or usage_object(), stop_reason or ("tool_use" if tool_calls else "end_turn"))
    return Reply(json={**body, "content": blocks(texts, tool_calls, thinking), **more}, headers={"request-id": "req_scripted"})


def message_stream(
    texts: Sequence[str],
    *,
    tool_calls: Sequence[ToolCall] = (),
    thinking: Sequence[str] = (),
    stop_reason: str | None = None,
    usage: Json | None = None,
    model: str = "claude-sonnet-4-5",
    delay: float = 0.0,
) -> Reply:
    """A streamed message, one event per text, `delay` seconds before each event after the first."""
    reason = stop_reason or ("tool_use" if tool_calls else "end_turn")
    found = [event(one) for one in events(texts, tool_calls=tool_calls, thinking=thinking, reason=reason, usage=usage, model=model)]
    return Reply(parts=spaced(found, delay), headers={"request-id": "req_scripted"})


def events(
    texts: Sequence[str],
    *,
    tool_calls: Sequence[ToolCall] = (),
    thinking: Sequence[str] = (),
    reason: str = "end_turn",
    usage: Json | None = None,
    model: str = "claude-sonnet-4-5",
) -> Iterator[Json]:
    """The events of a stream. Input and cache are counted in the first, the output in the last but one: cumulative, as Anthropic does."""
    usage = usage or usage_object()
    began = {**{key: value for key, value in usage.items() if key != "output_tokens_details"}, "output_tokens": 1}
    yield {"type": "message_start", "message": {**_body(model, began, None), "content": []}}
    yield {"type": "ping"}
    at = -1
    for block, deltas in _block_deltas(texts, tool_calls, thinking):
        at += 1
        yield {"type": "content_block_start", "index": at, "content_block": block}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": at, "delta": delta}
        yield {"type": "content_block_stop", "index": at}
    kept = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens", "output_tokens_details")
    ended = {key: usage[key] for key in kept if key in usage}
    yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": ended}
    yield {"type": "message_stop"}


def event(data: Json) -> bytes:
    """One server-sent event, named by its type."""
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), msgspec.json.encode(data))


def error_body(type: str, message: str) -> Json:  # noqa: A002 the wire's own name
    """Anthropic's error object; as an event, its middle-of-the-stream form."""
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_scripted"}


def error(status: int, message: str = "scripted error", headers: Mapping[str, str] | None = None) -> Reply:
    """Anthropic's error under an HTTP status."""
    called = ERROR_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")  # noqa: PLR2004 HTTP's own line
    return Reply(status=status, json=error_body(called, message), headers={"request-id": "req_scripted", **(headers or {})})


class AnthropicUpstream(ScriptedUpstream):
    """See `ScriptedUpstream`; only the echo, the list of models and the base URL are Anthropic's."""

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL: Anthropic's paths bring their own /v1."""
        return f"http://127.0.0.1:{self.port}"

    def models(self, names: list[str]) -> Reply:
        """The list of models."""
        data = [{"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names]
        return Reply(json={"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]})

    def echo(self, received: Received) -> Reply:
        """What an unscripted model answers: the last user message, word by word."""
        if not received.path.partition("?")[0].endswith("/v1/messages") or not isinstance(received.body, dict):
            return error(404, f"no such path: {received.path}")
        texts = [text_of(one["content"]) for one in received.body["messages"] if one["role"] == "user"]
        words = (texts[-1] if texts else "").split(" ")
        pieces = [word if at == 0 else f" {word}" for at, word in enumerate(words)]
        usage = usage_object(sum(len(text.split()) for text in texts) or 1, len(words))
        make = message_stream if received.body.get("stream") else message
        return make(pieces, usage=usage, model=str(received.model))


class AnthropicVendor:
    """Anthropic's wire. See `farthing.testing.vendors.Vendor`."""

    features: frozenset[Feature] = frozenset({"schema", "reasoning", "cache_read", "cache_write", "images", "error_event", "end_mark"})
    stream_headers: Mapping[str, str] = {}

    def whole(self, said: Said) -> Reply:
        """See `Vendor.whole`."""
        reason = _STOP_REASONS[said.reason]
        return message(said.texts, tool_calls=said.calls, thinking=said.reasoning, stop_reason=reason, usage=_usage(said.tokens))

    def events(self, said: Said) -> tuple[list[bytes], list[bytes]]:
        """See `Vendor.events`."""
        reason = _STOP_REASONS[said.reason]
        found = list(events(said.texts, tool_calls=said.calls, thinking=said.reasoning, reason=reason, usage=_usage(said.tokens)))
        coded = [event(one) for one in found]
        return coded[:-3], coded[-3:]

    def failure(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        """See `Vendor.failure`."""
        return error(status, message, headers)

    def error_event(self, message: str) -> bytes:
        """See `Vendor.error_event`."""
        return event(error_body("overloaded_error", message))

    def vectors(self, count: int, dimensions: int) -> Reply:
        """Anthropic sells no embeddings: what its server says to such a request."""
        return error(404, f"no embeddings here, neither {count} nor of {dimensions} dimensions")

    def asked(self, received: Received) -> Asked:
        """See `Vendor.asked`."""
        body = received.body
        found = [(one["role"], block) for one in body["messages"] for block in parts_of(one)]
        choice = body.get("tool_choice", {})
        named = {"any": "required", "tool": choice.get("name")}.get(choice.get("type"), choice.get("type"))
        turns = [(one["role"], text_of(one["content"])) for one in body["messages"]]
        return Asked(
            model=body["model"],
            stream=bool(body.get("stream")),
            system=text_of(body.get("system")),
            turns=tuple((role, text) for role, text in turns if text),
            calls=tuple((one["id"], one["name"], one["input"]) for _, one in found if one["type"] == "tool_use"),
            results=tuple((one["tool_use_id"], text_of(one.get("content"))) for _, one in found if one["type"] == "tool_result"),
            tools={one["name"]: one["input_schema"] for one in body.get("tools", ())},
            tool_choice=named,
            schema=body.get("output_config", {}).get("format", {}).get("schema"),
            images=tuple((one["source"]["media_type"], one["source"]["data"]) for _, one in found if one["type"] == "image"),
            max_tokens=body["max_tokens"],
            temperature=body.get("temperature"),
            stop=tuple(body.get("stop_sequences", ())),
        )


def _usage(tokens: Tokens) -> Json:
    return usage_object(tokens.plain, tokens.output, read=tokens.cache_read, written=tokens.cache_write, thinking=tokens.reasoning)


def _body(model: str, usage: Json, reason: str | None) -> Json:
    base = {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": model}
    return {**base, "stop_reason": reason, "stop_sequence": None, "usage": usage}


def _block_deltas(texts: Sequence[str], tool_calls: Sequence[ToolCall], thinking: Sequence[str]) -> Iterator[tuple[Json, list[Json]]]:
    if thinking:
        thoughts: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in thinking]
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, {"type": "signature_delta", "signature": "c2lnbmVk"}]
    if texts:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in texts]
    for at, (name, arguments) in enumerate(tool_calls):
        pieces = ["", *(arguments[start : start + 8] for start in range(0, len(arguments), 8))] if arguments != "{}" else [""]
        deltas: list[Json] = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        yield {"type": "tool_use", "id": f"toolu_{at}", "name": name, "input": {}}, deltas
