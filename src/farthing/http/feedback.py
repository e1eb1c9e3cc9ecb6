"""The door for what people say of answers: POST /v1/feedback."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec

from farthing.errors import InvalidRequest, NotFound
from farthing.http.asgi import Headers, Receive, Scope, Send, id_headers, read_body, send_whole
from farthing.http.quota import quota_headers
from farthing.pipeline.stage import Next
from farthing.settings import FeedbackSettings, ServerSettings
from farthing.types import Answer, Json, Principal, Request, Source

_encode = msgspec.json.Encoder().encode
_OVERHEAD_BYTES: Final = 4096
_ESCAPED: Final = 6
"""Bytes that one byte of a text may take in JSON, as `\\u0007`."""
_V7: Final = 7
_ID: Final = re.compile(r"(?:chatcmpl-|resp_|msg_)?([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)
_THUMBS: Final = {"up": 1.0, "down": 0.0}

Limit = Callable[[Request, Next], Awaitable[Answer]]
"""The stage that holds keys to their limits (`spend.admission`). Raises `RateLimited`."""
Hear = Callable[[Principal, UUID, float, str | None, str | None], Awaitable[Json]]
"""Takes in what somebody says of a request: score, correction, reason. Raises `NotFound` and the stores' errors."""


class FeedbackBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/feedback.

    `request_id` is what the answer's header `x-farthing-request-id` says. `score` is 0 (bad) to 1 (good), or a thumb. `correction` is what
    the answer should have said instead.
    """

    request_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    score: Annotated[float, msgspec.Meta(ge=0, le=1)] | Literal["up", "down"]
    correction: str | None = None
    reason: str | None = None


class FeedbackDoor:
    """Hands what is said to whoever hears it, and says what followed."""

    def __init__(self, hear: Hear, limit: Limit, settings: FeedbackSettings, server: ServerSettings) -> None:
        self._hear = hear
        self._limit = limit
        self._settings = settings
        self._body_timeout_s = server.body_timeout_s
        self._most = _OVERHEAD_BYTES + _ESCAPED * (settings.max_correction_bytes + settings.max_reason_bytes)

    async def post(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/feedback."""
        body = await read_body(scope, receive, most=self._most, timeout_s=self._body_timeout_s, setting="feedback.max_correction_bytes")
        said = _said(body)
        score = _THUMBS[said.score] if isinstance(said.score, str) else float(said.score)
        request_id = _request_id(said.request_id)
        correction = _text("correction", said.correction, self._settings.max_correction_bytes)
        reason = _text("reason", said.reason, self._settings.max_reason_bytes)

        async def hearing(request: Request) -> Answer:
            found = await self._hear(request.principal, request_id, score, correction, reason)
            return Answer(source=Source.NONE, model=None, body=_encode(found))

        answer = await self._limit(request, hearing)
        headers: Headers = [*id_headers(request.id), *quota_headers(request)]
        await send_whole(scope, send, 200, headers, answer.body or b"")


def _said(body: bytes) -> FeedbackBody:
    try:
        return msgspec.json.decode(body, type=FeedbackBody)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"{error}: send {{request_id, score: 0 to 1 or up or down, correction?, reason?}}", param=_field(error)
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


def _field(error: Any) -> str | None:
    found = re.search(r"`\$\.(\w+)|field `(\w+)`", str(error))
    return (found[1] or found[2]) if found else None


def _request_id(text: str) -> UUID:
    """The id, as the header has it or as the body of an answer does. Raises `NotFound`: what is no id names no request."""
    found = _ID.fullmatch(text)
    named = UUID(found[1]) if found else None
    if named is None or named.version != _V7:
        raise NotFound(
            f"there is no request {text[:64]!r} of yours; its id is in the header x-farthing-request-id of the answer", param="request_id"
        )
    return named


def _text(name: str, text: str | None, most: int) -> str | None:
    """What somebody wrote; None when it is blank. Raises `InvalidRequest` when it is too long."""
    if text is None or not text.strip():
        return None
    if len(text.encode()) > most:
        raise InvalidRequest(f"{name} has {len(text.encode())} bytes, and may have {most} (setting feedback.max_{name}_bytes)", param=name)
    return text
