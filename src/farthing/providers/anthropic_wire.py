"""Reading what Anthropic's Messages API answers: whole messages, usage and errors, as OpenAI's clients expect them. Pure.

Thinking comes as `reasoning_content`, and once more as `thinking_blocks` with the signatures that Anthropic wants back in the next turn.
What Anthropic's servers did themselves (web search and the like) has no place in a chat completion and is left out. A choice says
`stop_sequence` where one of the caller's ended it. Source: Anthropic's API reference, "Create a Message" and "Errors".
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from farthing.errors import (
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRefusedUs,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.providers.contexts import says_too_long
from farthing.providers.wire import STATUS_ERRORS, excerpt, retry_after, text
from farthing.types import Json, new_id

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Anthropic's stop reasons as OpenAI's; one that is not known counts as `stop`."""

ERROR_TYPES: Mapping[str, type[UpstreamError]] = {
    "invalid_request_error": UpstreamRejected,
    "request_too_large": UpstreamRejected,
    "not_found_error": UpstreamRejected,
    "conflict_error": UpstreamRejected,
    "memory_path_conflict_error": UpstreamRejected,
    "memory_precondition_failed_error": UpstreamRejected,
    "authentication_error": UpstreamRefusedUs,
    "billing_error": UpstreamRefusedUs,
    "permission_error": UpstreamRefusedUs,
    "rate_limit_error": UpstreamRateLimited,
    "timeout_error": UpstreamTimeout,
    "api_error": UpstreamUnavailable,
    "overloaded_error": UpstreamUnavailable,
}
"""What Anthropic's error types mean where there is no status to go by: in the middle of a stream, or inside a 200."""

_OUR_CREDIT = "credit balance is too low"
"""Anthropic says this under status 400 as if the caller were at fault."""
_DECLINED = "The model declined to answer."
_REJECTED, _FAILED = 400, 500


def completion(name: str, data: bytes) -> Json:
    """A whole message as a `chat.completion`. Raises `UpstreamMalformed` or, for a 200 that holds an error, what the error means."""
    body = an_object(name, data)
    content = body.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise UpstreamMalformed(f"{name} answered without content: {excerpt(data)}")
    message = _message(content)
    reason = body.get("stop_reason")
    if reason == "refusal":
        message["refusal"] = declined(body)
    choice: Json = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH_REASONS.get(str(reason), "stop")}
    if isinstance(body.get("stop_sequence"), str):
        choice["stop_sequence"] = body["stop_sequence"]
    usage = body.get("usage")
    return {**head(body, "chat.completion"), "choices": [choice], "usage": usage_of(usage) if isinstance(usage, dict) else None}


def _message(content: list[Json]) -> Json:
    texts = [text_in(block, "text") for block in content if block.get("type") == "text"]
    message: Json = {"role": "assistant", "content": "".join(texts) if texts or not content else None, "refusal": None}
    thoughts = [block for block in content if text_in(block, "type") in {"thinking", "redacted_thinking"}]
    if reasoning := "".join(text_in(block, "thinking") for block in thoughts):
        message["reasoning_content"] = reasoning
    if signed := [block for block in thoughts if block.get("signature") or block["type"] == "redacted_thinking"]:
        message["thinking_blocks"] = signed
    if calls := [_tool_call(block) for block in content if block.get("type") == "tool_use"]:
        message["tool_calls"] = calls
    return message


def _tool_call(block: Json) -> Json:
    function = {"name": text_in(block, "name"), "arguments": _encode(block.get("input") or {}).decode()}
    return {"id": text_in(block, "id"), "type": "function", "function": function}


def text_in(block: Json, field: str) -> str:
    """A text of a block or delta; nothing where it is missing or no text."""
    value = block.get(field)
    return value if isinstance(value, str) else ""


def declined(body: Json) -> str:
    """Why a classifier of Anthropic's ended the answer."""
    details = body.get("stop_details")
    return (text_in(details, "explanation") if isinstance(details, dict) else "") or _DECLINED


def head(message: Json, kind: str) -> Json:
    """The fields that stand before the choices."""
    return {
        "id": message["id"] if isinstance(message.get("id"), str) else f"chatcmpl-{new_id().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": text_in(message, "model"),
    }


def usage_of(raw: Json) -> Json | None:
    """OpenAI's usage object, of which the prompt includes what was read from and written to the cache; None without a count.

    Anthropic's `input_tokens` is what is left of the prompt behind the last cache breakpoint. Thinking is part of `output_tokens`, also
    where it is not shown. Writes for an hour are dearer than those for five minutes: `cache_write_1h_tokens` says how many they are.
    """
    if type(raw.get("input_tokens")) is not int or type(raw.get("output_tokens")) is not int:
        return None
    read, written = _count(raw.get("cache_read_input_tokens")), _count(raw.get("cache_creation_input_tokens"))
    prompt, output = _count(raw["input_tokens"]) + read + written, _count(raw["output_tokens"])
    prompt_details = {"cached_tokens": read, "cache_write_tokens": written}
    breakdown = raw.get("cache_creation")
    if hour := _count(breakdown.get("ephemeral_1h_input_tokens")) if isinstance(breakdown, dict) else 0:
        prompt_details["cache_write_1h_tokens"] = min(hour, written)
    usage: Json = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": prompt_details,
    }
    details = raw.get("output_tokens_details")
    if isinstance(details, dict):
        usage["completion_tokens_details"] = {"reasoning_tokens": min(_count(details.get("thinking_tokens")), output)}
    return usage


def _count(value: Any) -> int:
    return max(value, 0) if type(value) is int else 0


def an_object(name: str, data: bytes) -> Json:
    """A JSON object that is no error. Raises `UpstreamMalformed` or what the error means."""
    try:
        body = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamMalformed(f"{name} answered something that is not JSON: {excerpt(data)}") from None
    if not isinstance(body, dict):
        raise UpstreamMalformed(f"{name} answered a JSON {type(body).__name__} instead of an object")
    if body.get("error"):
        raise error_inside(name, body)
    return body


def error_of(name: str, status: int, headers: Mapping[str, str], data: bytes) -> UpstreamError:
    """The error for an answer whose status is not 200. Anthropic's id of the request is part of the message: its support asks for it."""
    try:
        body = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = None
    fields = _fields(body)
    said = text(fields.get("message"))
    kind = STATUS_ERRORS.get(status)
    if kind is None:
        kind = UpstreamRejected if _REJECTED <= status < _FAILED else UpstreamUnavailable if status >= _FAILED else UpstreamMalformed
    if kind is UpstreamRejected and said and _OUR_CREDIT in said:
        kind = UpstreamRefusedUs
    if kind is UpstreamRejected and says_too_long(said):
        kind = UpstreamContextExceeded
    named = headers.get("request-id")
    suffix = f" (request-id {text(named)})" if named else ""
    if kind is UpstreamRefusedUs:
        return _refused_us(name, f"status {status}{suffix}", status)
    return kind(
        (said or f"{name} answered status {status}: {excerpt(data)}") + suffix,
        upstream_status=status,
        upstream_type=text(fields.get("type")),
        retry_after_s=retry_after(headers),
    )


def error_inside(name: str, body: Json) -> UpstreamError:
    """The error for a 200, or an event of a stream, that holds Anthropic's error object."""
    fields = _fields(body)
    called = text(fields.get("type"))
    kind = ERROR_TYPES.get(called or "", UpstreamUnavailable)
    if kind is UpstreamRefusedUs:
        return _refused_us(name, f"{called} inside a 200", None)
    named = text(body.get("request_id"))
    said = text(fields.get("message")) or f"{name} answered an error inside a 200"
    if kind is UpstreamRejected and says_too_long(said):
        kind = UpstreamContextExceeded
    return kind(
        f"{said} (request-id {named})" if named else said,
        upstream_status=_REJECTED if issubclass(kind, UpstreamRejected) else None,
        upstream_type=called,
    )


def _fields(body: Any) -> Json:
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {"message": error}


def _refused_us(name: str, how: str, status: int | None) -> UpstreamRefusedUs:
    return UpstreamRefusedUs(
        f"{name} refused the credentials in Farthing's settings, or their account ({how}); the operator must mend providers.{name}",
        upstream_status=status,
    )
