"""The few words of ASGI that the doors speak: read a bounded body, send a whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from farthing.errors import BodyTimeout, BodyTooLarge, FarthingError, MethodNotAllowed, RateLimited

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

LIFELINE = "farthing.lifeline"
"""Where the application leaves the request's `types.Lifeline` in the ASGI scope."""
DRAIN = "farthing.drain"
"""The type of the message by which our protocol tells a WebSocket's application to come to an end."""
DIRECT = "farthing.direct"
"""Where our protocol leaves `protocol.Direct` in the ASGI scope; absent under other servers."""

_encode = msgspec.json.Encoder().encode
_LINGER_S = 1.0
_MOST_DROPPED = 64 * 2**20
JSON_TYPE = (b"content-type", b"application/json")


class ClientLeft(Exception):
    """The client went away while its body was being read."""


def header(scope: Scope, name: bytes) -> str | None:
    """A request header's first value."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def id_headers(request_id: UUID) -> list[tuple[bytes, bytes]]:
    """The request's id, under the name that OpenAI's SDKs read and under ours."""
    text = str(request_id).encode()
    return [(b"x-request-id", text), (b"x-farthing-request-id", text)]


async def read_body(scope: Scope, receive: Receive, *, most: int, timeout_s: float, setting: str = "server.max_body_bytes") -> bytes:
    """The whole body, of at most as many bytes as a setting says. Raises `BodyTooLarge`, `BodyTimeout` or `ClientLeft`."""
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdecimal() and int(announced) > most:
        raise _too_large(most, setting)
    direct = scope.get(DIRECT)
    whole: bytes | None = direct.body() if direct is not None else None
    if whole is not None:
        if len(whole) > most:
            raise _too_large(most, setting)
        return whole
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                piece = message.get("body", b"")
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise _too_large(most, setting)
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise BodyTimeout(f"the request body did not arrive within {timeout_s:.3g} s") from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(most: int, setting: str) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than {most} bytes (setting {setting})")


async def send_whole(
    scope: Scope, send: Send, status: int, headers: Headers, body: bytes, *, kind: tuple[bytes, bytes] = JSON_TYPE
) -> None:
    """A whole answer; JSON unless `kind`, its content type, says otherwise."""
    headers = [*headers, kind, (b"content-length", b"%d" % len(body))]
    direct = scope.get(DIRECT)
    if direct is not None and direct.respond(status, headers, body):
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_early(receive: Receive, send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole JSON answer to a request of which more is to come, and the end of the connection.

    What still comes is read and dropped for a while: closing a socket on unread data resets it, and the client would lose the answer
    (RFC 9112, section 9.6).
    """
    headers = [*headers, JSON_TYPE, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    try:
        async with asyncio.timeout(_LINGER_S):
            dropped = 0
            while dropped < _MOST_DROPPED:
                message = await receive()
                if not message.get("more_body"):
                    break
                dropped += len(message["body"])
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})


def error_headers(error: FarthingError) -> list[tuple[bytes, bytes]]:
    """`x-should-retry`; where a time is known, `retry-after` (whole seconds, rounded up) and `retry-after-ms`; with a 405, `allow`.

    With a 429 of our own, `x-farthing-limit`: which limit.
    """
    headers = []
    if error.retry is not None:
        headers.append((b"x-should-retry", b"true" if error.retry else b"false"))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % -(-error.retry_after_s // 1)))
        headers.append((b"retry-after-ms", b"%d" % (error.retry_after_s * 1000)))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    if isinstance(error, RateLimited):
        headers.append((b"x-farthing-limit", error.limit.encode()))
    return headers


def error_body(error: FarthingError) -> tuple[int, bytes]:
    """Status and OpenAI's error object."""
    status, fields = error.wire()
    return status, _encode({"error": fields})


async def refuse_handshake(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole JSON answer instead of a WebSocket (ASGI's extension `websocket.http.response`)."""
    headers = [*headers, JSON_TYPE, (b"content-length", b"%d" % len(body))]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
