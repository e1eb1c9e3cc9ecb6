"""Reading what servers of OpenAI's protocol send, and making it exactly what OpenAI's own clients expect.

Shape: the API reference of `chat.completion` and `chat.completion.chunk`. Fields that are required but nullable (`logprobs`, `refusal`,
`finish_reason` of a chunk) are put in where a server leaves them out; fields that we do not know stay.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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
from farthing.types import Json, new_id

_decode = msgspec.json.Decoder().decode
_EXCERPT = 200
_LONGEST_WAIT_S = 86_400.0

_ODD_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
"""The end of a line and an empty line, where lines may end with CRLF, LF or CR."""
_LONGEST_END = 4

STATUS_ERRORS: Mapping[int, type[UpstreamError]] = {
    401: UpstreamRefusedUs,
    402: UpstreamRefusedUs,
    403: UpstreamRefusedUs,
    408: UpstreamTimeout,
    429: UpstreamRateLimited,
    504: UpstreamTimeout,
}
"""Statuses with a meaning of their own. Other 4xx are `UpstreamRejected`, other 5xx `UpstreamUnavailable`, the rest `UpstreamMalformed`."""


def completion(name: str, data: bytes) -> Json:
    """A whole chat completion. Raises `UpstreamMalformed` or, for a 200 that holds an error, what the error means."""
    body = _object(name, data)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UpstreamMalformed(f"{name} answered without choices: {excerpt(data)}")
    for index, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise UpstreamMalformed(f"{name} answered a choice without a message: {excerpt(data)}")
        message.setdefault("role", "assistant")
        message.setdefault("content", None)
        message.setdefault("refusal", None)
        choice.setdefault("index", index)
        choice.setdefault("finish_reason", "stop")
        choice.setdefault("logprobs", None)
    return _head(body, "chat.completion")


def chunk(name: str, data: bytes) -> tuple[Json | None, Json | None]:
    """One streamed chunk, as (chunk without usage, usage); either may be None."""
    body = _object(name, data)
    usage = body.pop("usage", None)
    choices = body.get("choices")
    if not isinstance(choices, list):
        raise UpstreamMalformed(f"{name} sent a chunk without choices: {excerpt(data)}")
    for choice in choices:
        if isinstance(choice, dict) and choice.get("delta") is None:
            choice["delta"] = {}
        if not isinstance(choice, dict) or not isinstance(choice["delta"], dict):
            raise UpstreamMalformed(f"{name} sent a malformed choice: {excerpt(data)}")
        if not isinstance(choice.setdefault("index", 0), int):
            raise UpstreamMalformed(f"{name} sent a choice whose index is not a number: {excerpt(data)}")
        choice.setdefault("finish_reason", None)
        choice.setdefault("logprobs", None)
    whole = _head(body, "chat.completion.chunk") if choices else None
    return whole, usage if isinstance(usage, dict) else None


def embeddings(name: str, data: bytes) -> Json:
    """An embeddings response."""
    body = _object(name, data)
    if not isinstance(body.get("data"), list):
        raise UpstreamMalformed(f"{name} answered without embeddings: {excerpt(data)}")
    body.setdefault("object", "list")
    return body


def _object(name: str, data: bytes) -> Json:
    try:
        body = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamMalformed(f"{name} answered something that is not JSON: {excerpt(data)}") from None
    if not isinstance(body, dict):
        raise UpstreamMalformed(f"{name} answered a JSON {type(body).__name__} instead of an object")
    if body.get("error"):
        raise error_inside(name, body["error"])
    return body


def _head(body: Json, kind: str) -> Json:
    """OpenAI's order: id, object, created, model, then the rest as it came."""
    created = body.get("created")
    return {
        "id": body.get("id") or f"chatcmpl-{new_id().hex}",
        "object": kind,
        "created": created if isinstance(created, int) else int(time.time()),
        **{key: value for key, value in body.items() if key not in {"id", "object", "created"}},
    }


def events(buffer: bytearray, new: int) -> Iterator[bytes]:
    """Take the complete server-sent events out of a buffer and yield their data (WHATWG HTML, section 9.2.6).

    Comments, event names and ids are dropped; an incomplete event stays in the buffer. `new` is how many bytes at the end of the buffer
    were not there the last time: the others hold no end of an event, and a long event must not be searched again with each piece of it.
    """
    start = max(len(buffer) - new - _LONGEST_END + 1, 0)
    while (end := _end_of_event(buffer, start)) is not None:
        at, after = end
        block = bytes(buffer[:at])
        del buffer[:after]
        start = 0
        if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block:
            yield block[6:]
            continue
        data = b"\n".join(line[5:].removeprefix(b" ") for line in block.splitlines() if line.startswith(b"data:"))
        if data:
            yield data


def _end_of_event(buffer: bytearray, start: int) -> tuple[int, int] | None:
    """Where the first event's lines end and where the next event begins. Most servers end lines with LF: that is looked for first."""
    at = buffer.find(b"\n\n", start)
    found = None if at < 0 else (at, at + 2)
    if buffer.find(b"\r", start, len(buffer) if at < 0 else at) < 0:
        return found
    odd = _ODD_END.search(buffer, start)
    return odd.span() if odd and (found is None or odd.start() < at) else found


_ANTHROPIC_TOP = frozenset(
    {"cache_control", "container", "context_management", "inference_geo", "mcp_servers", "output_config", "speed", "thinking", "top_k"}
)
_ANTHROPIC_INSIDE = frozenset({"cache_control", "is_error", "reasoning_content", "thinking_blocks"})


def without_anthropic_fields(body: Json) -> Json:
    """A request without what Anthropic's models understand and OpenAI's servers refuse as unknown. The body given stays as it is."""
    found = {key: value for key, value in body.items() if key not in _ANTHROPIC_TOP}
    messages, tools = body.get("messages"), body.get("tools")
    if isinstance(messages, list):
        found["messages"] = [_plain_message(message) for message in messages]
    if isinstance(tools, list):
        found["tools"] = [{"type": "function", "function": one["function"]} if "function" in one else one for one in tools]
    return found


def _plain_message(message: Json) -> Json:
    plain = {key: value for key, value in message.items() if key not in _ANTHROPIC_INSIDE}
    for name in ("content", "tool_calls"):
        if isinstance(plain.get(name), list):
            plain[name] = [{key: value for key, value in part.items() if key != "cache_control"} for part in plain[name]]
    return plain


def error_of(name: str, status: int, headers: Mapping[str, str], data: bytes) -> UpstreamError:
    """The error for an answer whose status is not 200."""
    try:
        body = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = None
    detail = body.get("error", body) if isinstance(body, dict) else None
    fields = detail if isinstance(detail, dict) else {"message": detail if isinstance(detail, str) else None}
    kind = STATUS_ERRORS.get(status)
    if kind is None:
        kind = UpstreamRejected if 400 <= status < 500 else UpstreamUnavailable if status >= 500 else UpstreamMalformed  # noqa: PLR2004
    if kind is UpstreamRefusedUs:
        return UpstreamRefusedUs(
            f"{name} refused the credentials in Farthing's settings (status {status}); the operator must mend providers.{name}",
            upstream_status=status,
        )
    said = text(fields.get("message")) or f"{name} answered status {status}: {excerpt(data)}"
    if kind is UpstreamRejected and says_too_long(said, text(fields.get("code")), text(fields.get("type"))):
        kind = UpstreamContextExceeded
    return kind(
        said,
        upstream_status=status,
        upstream_type=text(fields.get("type")),
        upstream_code=text(fields.get("code")),
        param=text(fields.get("param")),
        retry_after_s=retry_after(headers),
    )


def error_inside(name: str, error: Any) -> UpstreamError:
    """The error for a 200, or a stream, that holds an error object."""
    fields = error if isinstance(error, dict) else {"message": error}
    code = fields.get("code")
    status = code if isinstance(code, int) else 429 if code == "rate_limit_exceeded" else None
    kind = STATUS_ERRORS.get(status or 0, UpstreamUnavailable)
    if kind is UpstreamRefusedUs:
        kind = UpstreamUnavailable
    said = text(fields.get("message")) or f"{name} answered an error inside a 200"
    if kind is UpstreamUnavailable and says_too_long(said, text(code), text(fields.get("type"))):
        kind, status = UpstreamContextExceeded, None
    return kind(
        said,
        upstream_status=status,
        upstream_type=text(fields.get("type")),
        upstream_code=text(code),
    )


def mask(error: UpstreamError, secrets: Sequence[str]) -> None:
    """Take our own credentials out of an error: some servers repeat in a complaint what they were sent."""
    for name in ("message", "upstream_type", "upstream_code", "param"):
        said = getattr(error, name)
        for secret in secrets:
            if said and secret in said:
                said = said.replace(secret, "[masked]")
        setattr(error, name, said)
    error.args = (error.message,)


def text(value: Any) -> str | None:
    """A field of an error as bounded text."""
    return str(value)[:2000] if isinstance(value, str | int) and value != "" else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or an HTTP date, RFC 9110 section 10.2.3)."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / scale
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
            except (ValueError, TypeError):
                continue
        if 0 <= seconds <= _LONGEST_WAIT_S:
            return seconds
    return None


def excerpt(data: bytes) -> str:
    """The beginning of a body for an error message, made printable."""
    shown = data[:_EXCERPT].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in shown).strip() or "nothing"
