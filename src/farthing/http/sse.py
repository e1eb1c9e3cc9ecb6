"""Streams as server-sent events, exactly as OpenAI sends them.

With `stream_options.include_usage` every chunk carries `usage: null` and a last one carries the usage with `choices: []`. Then comes a
comment with the cost, which clients skip, and the end mark. An error in mid-stream is an event with `error`, after which the stream ends.
"""

from __future__ import annotations

import logging
import time

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


async def send_stream(scope: Scope, send: Send, headers: Headers, request: Request, answer: Answer) -> None:
    """Write a stream to the client. Closes it whatever happens."""
    stream = answer.stream
    assert stream is not None
    last: Json = {}
    direct = scope.get(DIRECT)
    if direct is not None:
        direct.cork()
    try:
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, *_STREAM_HEADERS]})
        try:
            if answer.source is Source.MODEL:
                async for chunk in stream:
                    last = chunk
                    await send({"type": "http.response.body", "body": _event(chunk, request), "more_body": True})
                tail = b""
            else:
                chunks = [chunk async for chunk in stream]
                last = chunks[-1] if chunks else last
                tail = b"".join(_event(chunk, request) for chunk in chunks)
        except FarthingError as error:
            await send({"type": "http.response.body", "body": _error(error)})
            return
        except Exception:  # noqa: BLE001 - the client must see an end, and the log the cause
            _log.exception("a stream broke")
            await send({"type": "http.response.body", "body": _error(FarthingError("internal error; see Farthing's log"))})
            return
        await send({"type": "http.response.body", "body": tail + _end(last, request, answer)})
    finally:
        await stream.aclose()


def _event(chunk: Json, request: Request) -> bytes:
    return b"data: %s\n\n" % _encode({**chunk, "usage": None} if request.include_usage else chunk)


def _end(last: Json, request: Request, answer: Answer) -> bytes:
    cost = f": farthing cost-usd={dollars(answer.cost_microusd)} saved-usd={dollars(answer.saved_microusd)}\n\n".encode()
    if not request.include_usage:
        return cost + b"data: [DONE]\n\n"
    head = {"created": int(time.time()), **last}
    return b"data: %s\n\n%sdata: [DONE]\n\n" % (_encode({**head, "choices": [], "usage": answer.usage}), cost)


def _error(error: FarthingError) -> bytes:
    return b"data: %s\n\n" % _encode({"error": error.wire()[1]})
