"""Streams as server-sent events, in whatever shape a door's clients know them.

`send_events` does what all shapes have in common; an `Events` says how one of them writes chunks, the end and an error. `ChatEvents` is
OpenAI's own: with `stream_options.include_usage` every chunk carries `usage: null` and a last one carries the usage with `choices: []`.
Then comes a comment with the cost, which clients skip, and the end mark. An error in mid-stream is an event with `error`, after which the
stream ends.
"""

from __future__ import annotations

import logging
import time
from typing import Protocol

import msgspec

from farthing.errors import FarthingError
from farthing.http.asgi import DIRECT, Headers, Scope, Send
from farthing.types import Answer, Json, Request, Source, dollars

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger("farthing.http")
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Events(Protocol):
    """One stream in one wire format, as bytes. Of `end` and `error` exactly one is called, and nothing after it."""

    def chunk(self, chunk: Json) -> bytes:
        """The events of a `chat.completion.chunk`; empty when it says nothing in this format."""

    async def end(self, answer: Answer) -> bytes:
        """What follows the last chunk. The answer's usage, cost and completion are known by now."""

    def error(self, error: FarthingError) -> bytes:
        """What ends a stream that broke."""


async def send_stream(scope: Scope, send: Send, headers: Headers, request: Request, answer: Answer) -> None:
    """Write a stream to the client as OpenAI's chat completions do. Closes it whatever happens."""
    await send_events(scope, send, headers, answer, ChatEvents(include_usage=request.include_usage))


async def send_events(scope: Scope, send: Send, headers: Headers, answer: Answer, events: Events) -> None:
    """Write a stream to the client. Closes it whatever happens. What the cache answers is there already, and goes out with one write."""
    stream = answer.stream
    assert stream is not None
    direct = scope.get(DIRECT)
    if direct is not None:
        direct.cork()
    try:
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, *_STREAM_HEADERS]})
        tail = bytearray()
        try:
            live = answer.source is Source.MODEL
            async for chunk in stream:
                piece = events.chunk(chunk)
                if not live:
                    tail += piece
                elif piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            tail += await events.end(answer)
        except FarthingError as error:
            await send({"type": "http.response.body", "body": events.error(error)})
            return
        except Exception:  # noqa: BLE001 - the client must see an end, and the log the cause
            _log.exception("a stream broke")
            await send({"type": "http.response.body", "body": events.error(FarthingError("internal error; see Farthing's log"))})
            return
        await send({"type": "http.response.body", "body": bytes(tail)})
    finally:
        answer.stream = None  # it leads back to the answer: a ring, which would wait for the garbage collector
        await stream.aclose()


class ChatEvents:
    """See `Events`."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._last: Json = {}

    def chunk(self, chunk: Json) -> bytes:
        """The chunk as it is."""
        self._last = chunk
        return b"data: %s\n\n" % _encode({**chunk, "usage": None} if self._include_usage else chunk)

    async def end(self, answer: Answer) -> bytes:
        """The usage if it was asked for, the cost, the end mark."""
        if not self._include_usage:
            return cost_comment(answer) + b"data: [DONE]\n\n"
        head = {"created": int(time.time()), **self._last}
        usage = _encode({**head, "choices": [], "usage": answer.usage})
        return b"data: %s\n\n%sdata: [DONE]\n\n" % (usage, cost_comment(answer))

    def error(self, error: FarthingError) -> bytes:
        """OpenAI's error object."""
        return b"data: %s\n\n" % _encode({"error": error.wire()[1]})


def cost_comment(answer: Answer) -> bytes:
    """What a stream cost, and what the checks said of it, as a comment, which clients skip."""
    checks = f" checks={answer.checks}" if answer.checks else ""
    return f": farthing cost-usd={dollars(answer.cost_microusd)} saved-usd={dollars(answer.saved_microusd)}{checks}\n\n".encode()
