"""From the canonical chat answer (OpenAI's) to Anthropic's Messages: whole, as a stream of events, and errors. Pure.

Source: Anthropic's API reference, "Messages", "Streaming messages" and "Errors".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from farthing.errors import FarthingError, Overloaded, UpstreamError, UpstreamMalformed
from farthing.http.asgi import Headers, error_headers, id_headers
from farthing.http.sse import cost_comment
from farthing.pipeline.message import reasoning_of, text_of
from farthing.types import Answer, Json, Request, Usage

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_ENDS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_OVERLOADED = 529
_SERVER_ERROR = 500
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    _OVERLOADED: "overloaded_error",
}
INVALID_JSON = "INVALID_JSON"
"""Under this name stands what a model wrote instead of a JSON object as a tool's input. Anthropic's manual proposes the name."""


def message(request: Request, body: Json, *, stops: Sequence[str], thinks: bool) -> Json:
    """The message object of a whole chat completion. `stops` are the caller's stop sequences; `thinks`: the caller asked for thinking."""
    choice = body["choices"][0]
    said = choice["message"]
    content = [*_thoughts(said, thinks=thinks), *_texts(said), *_tool_uses(said)]
    return {
        "id": f"msg_{request.id.hex}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model") or request.model,
        "content": content,
        **_end(choice, stops, calls=any(block["type"] == "tool_use" for block in content), refused=bool(said.get("refusal"))),
        "usage": usage(body.get("usage")),
    }


def usage(raw: Any) -> Json:
    """Anthropic's usage: `input_tokens` leaves out what was read from or written to a prompt cache. `estimated` when we guessed."""
    counts = Usage.of(raw) or Usage()
    found: Json = {
        "input_tokens": max(counts.input - counts.cache_read - counts.cache_write, 0),
        "cache_creation_input_tokens": counts.cache_write,
        "cache_read_input_tokens": counts.cache_read,
        "output_tokens": counts.output,
    }
    if counts.reasoning:
        found["output_tokens_details"] = {"thinking_tokens": counts.reasoning}
    return {**found, "estimated": True} if counts.source == "estimated" else found


def _end(choice: Json, stops: Sequence[str], *, calls: bool, refused: bool) -> Json:
    """Why the answer ended. OpenAI does not say whether a stop sequence did; some servers do (vLLM: `stop_reason` of the choice)."""
    reason = _ENDS.get(str(choice.get("finish_reason")), "end_turn")
    if reason == "end_turn" and calls:
        reason = "tool_use"
    if refused:
        reason = "refusal"
    for name in ("stop_sequence", "stop_reason"):
        if reason == "end_turn" and choice.get(name) in stops:
            return {"stop_reason": "stop_sequence", "stop_sequence": choice[name], "stop_details": None}
    return {"stop_reason": reason, "stop_sequence": None, "stop_details": None}


def _thoughts(said: Json, *, thinks: bool) -> Iterator[Json]:
    """Claude's own blocks, signed, as they came; else what another model calls its reasoning, for callers that asked for thinking."""
    blocks = said.get("thinking_blocks")
    if blocks:
        yield from blocks
    elif thinks and (reasoning := reasoning_of(said)):
        yield {"type": "thinking", "thinking": reasoning, "signature": ""}


def _texts(said: Json) -> Iterator[Json]:
    for name in ("content", "refusal"):
        text = text_of(said.get(name))
        if text:
            yield {"type": "text", "text": text}


def _tool_uses(said: Json) -> Iterator[Json]:
    calls = said.get("tool_calls")
    for at, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            yield {
                "type": "tool_use",
                "id": call.get("id") or f"toolu_{at}",
                "name": str(function.get("name") or ""),
                "input": tool_input(function.get("arguments")),
            }


def tool_input(arguments: Any) -> Json:
    """A tool's input as an object. What is not one is kept under `INVALID_JSON`, so that a tool's own check refuses it."""
    if isinstance(arguments, dict):
        return arguments
    text = arguments if isinstance(arguments, str) else ""
    try:
        found = _decode(text) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {INVALID_JSON: text}


class MessageEvents:
    """A stream as Anthropic sends it: one content block after the other. See `sse.Events`.

    `counted` is an estimate of the input tokens, for `message_start`; the provider's count comes in `message_delta`.
    """

    def __init__(self, request: Request, *, stops: Sequence[str], thinks: bool, counted: int) -> None:
        self._request = request
        self._stops = stops
        self._thinks = thinks
        self._counted = counted
        self._started = False
        self._at = -1
        self._open: str | int | None = None
        self._calls: set[int] = set()
        self._refused = False
        self._last: Json = {}

    def chunk(self, chunk: Json) -> bytes:
        """Blocks and their deltas out of the first choice of a chunk."""
        out = [] if self._started else [*self._start(chunk)]
        for choice in chunk["choices"]:
            if choice["index"] == 0:
                out += self._delta(choice["delta"])
                self._last |= {key: value for key, value in choice.items() if key != "delta" and value is not None}
        return b"".join(out)

    async def end(self, answer: Answer) -> bytes:
        """Why it ended, what was used, what it cost."""
        out = [] if self._started else [*self._start({})]
        out += self._close()
        end = _end(self._last, self._stops, calls=bool(self._calls), refused=self._refused)
        out.append(_event("message_delta", delta=end, usage=usage(answer.usage)))
        return b"".join([*out, cost_comment(answer), _event("message_stop")])

    def error(self, error: FarthingError) -> bytes:
        """Anthropic's error event."""
        _, fields = _wire(error)
        return _event("error", error=fields, request_id=str(self._request.id))

    def _start(self, chunk: Json) -> Iterator[bytes]:
        self._started = True
        head: Json = {
            "id": f"msg_{self._request.id.hex}",
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model") or self._request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": {"input_tokens": self._counted, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1},
        }
        yield _event("message_start", message=head)
        yield _event("ping")

    def _delta(self, delta: Json) -> Iterator[bytes]:
        reasoning = reasoning_of(delta)
        if reasoning and (self._thinks or delta.get("thinking_blocks")):
            yield from self._said("thinking", {"type": "thinking_delta", "thinking": reasoning})
        for block in delta.get("thinking_blocks") or ():
            yield from self._thought(block)
        for name in ("content", "refusal"):
            text = text_of(delta.get(name))
            if text:
                self._refused |= name == "refusal"
                yield from self._said("text", {"type": "text_delta", "text": text})
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                yield from self._call(call)

    def _said(self, kind: str, delta: Json) -> Iterator[bytes]:
        if self._open != kind:
            empty = {"type": "thinking", "thinking": "", "signature": ""} if kind == "thinking" else {"type": "text", "text": ""}
            yield from self._begin(kind, empty)
        yield _event("content_block_delta", index=self._at, delta=delta)

    def _thought(self, block: Json) -> Iterator[bytes]:
        """A block of Claude's: text that was not streamed yet, and the signature that closes it."""
        if block.get("type") != "thinking":
            yield from self._begin("redacted", block)
            return
        if block.get("thinking") and self._open != "thinking":
            yield from self._said("thinking", {"type": "thinking_delta", "thinking": block["thinking"]})
        if block.get("signature"):
            yield from self._said("thinking", {"type": "signature_delta", "signature": block["signature"]})
            yield from self._close()

    def _call(self, call: Json) -> Iterator[bytes]:
        """A piece of a tool call. Blocks follow each other, so a piece of a call that is over cannot be sent any more."""
        given = call.get("function")
        function = given if isinstance(given, dict) else {}
        named = call.get("index")
        index: int = named if isinstance(named, int) else max(self._calls, default=0)
        if self._open != index or isinstance(self._open, str):
            if index in self._calls:
                raise UpstreamMalformed("the provider mixed the pieces of two tool calls")
            self._calls.add(index)
            name = str(function.get("name") or "")
            block: Json = {"type": "tool_use", "id": call.get("id") or f"toolu_{index}", "name": name, "input": {}}
            yield from self._begin(index, block)
        if function.get("arguments"):
            delta = {"type": "input_json_delta", "partial_json": str(function["arguments"])}
            yield _event("content_block_delta", index=self._at, delta=delta)

    def _begin(self, what: str | int, block: Json) -> Iterator[bytes]:
        yield from self._close()
        self._open = what
        self._at += 1
        yield _event("content_block_start", index=self._at, content_block=block)

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            self._open = None
            yield _event("content_block_stop", index=self._at)


def refusal(request: Request, error: FarthingError) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an error as Anthropic's clients know it. See `server.Opening.refusal`."""
    status, fields = _wire(error)
    text = str(request.id)
    headers = [*id_headers(request.id), (b"request-id", text.encode()), *error_headers(error)]
    return status, headers, _encode({"type": "error", "error": fields, "request_id": text})


def _wire(error: FarthingError) -> tuple[int, Json]:
    """Anthropic's status and error object; our own code and the field at fault are in `details`."""
    status, fields = error.wire()
    if isinstance(error, Overloaded):
        status = _OVERLOADED
    kind = _TYPES.get(status) or ("api_error" if status >= _SERVER_ERROR else "invalid_request_error")
    if isinstance(error, UpstreamError) and error.upstream_type and error.upstream_type in _TYPES.values():
        kind = error.upstream_type
    details = {"error_code": fields["code"]} | ({"param": error.param} if error.param else {})
    return status, {"type": kind, "message": error.message, "details": details}


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode({"type": kind, **fields}))
