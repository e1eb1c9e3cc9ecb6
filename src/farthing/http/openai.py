"""OpenAI's doors: chat completions, embeddings, models."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable, Sequence

import msgspec

from farthing.errors import ClientGone, FarthingError, ModelNotFound, UpstreamMalformed
from farthing.http import parse
from farthing.http.asgi import ClientLeft, Headers, Receive, Scope, Send, id_headers, read_body, send_whole
from farthing.http.sse import send_stream
from farthing.pipeline.stage import Next
from farthing.ports import Meter
from farthing.settings import ServerSettings
from farthing.types import Answer, Operation, Principal, Request, Source, dollars

_encode = msgspec.json.Encoder().encode
_CREATED = 1_767_225_600
"""`created` of a catalogue entry, which OpenAI requires and nobody knows: 2026-01-01."""

Admit = Callable[[str, Principal, Operation], str]
"""The fingerprint of a model that a principal may use for an operation; raises `ModelNotFound` or `NotAllowed`."""
Visible = Callable[[Principal], Sequence[tuple[str, str]]]
"""(name, owner) of the models that a principal may use."""


class OpenAIDoors:
    """Turns bodies into requests, lets them through the flow, and writes the answers."""

    def __init__(self, flow: Next, admit: Admit, visible: Visible, meter: Meter, settings: ServerSettings) -> None:
        self._flow = flow
        self._admit = admit
        self._visible = visible
        self._meter = meter
        self._settings = settings

    async def chat(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/chat/completions."""
        try:
            typed, request.body = parse.chat(await self._body(scope, receive))
            request.stream = bool(typed.stream)
            request.include_usage = bool(typed.stream_options and typed.stream_options.include_usage)
            self._admitted(request, typed.model, scope)
        except (FarthingError, ClientLeft, asyncio.CancelledError) as error:
            self._refused(request, error)
            raise
        answer = await self._flow(request)
        if answer.stream is not None:
            await send_stream(scope, send, _headers(request, answer), request, answer)
        else:
            await send_whole(scope, send, 200, _headers(request, answer), answer.body or b"")

    async def embeddings(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/embeddings.

        The provider is asked for floats whatever the client wants: one canonical form to cache, packed for the client at the end.
        """
        request.operation = Operation.EMBEDDINGS
        try:
            typed, body = parse.embeddings(await self._body(scope, receive))
            request.body = {**body, "encoding_format": "float"}
            self._admitted(request, typed.model, scope)
        except (FarthingError, ClientLeft, asyncio.CancelledError) as error:
            self._refused(request, error)
            raise
        answer = await self._flow(request)
        data = answer.body or b""
        await send_whole(scope, send, 200, _headers(request, answer), _packed(data) if typed.encoding_format == "base64" else data)

    async def models(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/models and /v1/models/{id}."""
        del receive
        entries = {
            name: {"id": name, "object": "model", "created": _CREATED, "owned_by": owner}
            for name, owner in self._visible(request.principal)
        }
        wanted = scope["path"].removeprefix("/v1/models").removeprefix("/")
        if not wanted:
            found: object = {"object": "list", "data": list(entries.values())}
        elif wanted in entries:
            found = entries[wanted]
        else:
            raise ModelNotFound(f"The model {wanted[:128]!r} does not exist. Models: {', '.join(entries) or 'none'}.", param="model")
        await send_whole(scope, send, 200, id_headers(request.id), _encode(found))

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        return await read_body(scope, receive, most=self._settings.max_body_bytes, timeout_s=self._settings.body_timeout_s)

    def _refused(self, request: Request, error: BaseException) -> None:
        gone = ClientGone("the client went away before its request was there")
        self._meter.outcome(request, None, error if isinstance(error, FarthingError) else gone)

    def _admitted(self, request: Request, model: str, scope: Scope) -> None:
        request.model = model
        request.extras = parse.extras(request.body.pop("farthing", None), scope["headers"])
        request.fingerprint = self._admit(model, request.principal, request.operation)


def _packed(data: bytes) -> bytes:
    """An embeddings answer with its vectors as base64 of little-endian float32."""
    whole = msgspec.json.decode(data)
    try:
        for item in whole["data"]:
            item["embedding"] = base64.b64encode(struct.pack(f"<{len(item['embedding'])}f", *item["embedding"])).decode()
    except (TypeError, KeyError, OverflowError, struct.error):
        raise UpstreamMalformed("the provider's embeddings are not lists of numbers") from None
    return _encode(whole)


def _headers(request: Request, answer: Answer) -> Headers:
    """What Farthing says about an answer. What a live stream costs is not known yet: it comes in the stream's last comment."""
    headers = id_headers(request.id)
    headers.append((b"x-farthing-source", answer.source.encode()))
    headers.append((b"x-farthing-model", (answer.model or "").encode()))
    headers.append((b"x-farthing-mode", answer.mode.encode()))
    headers.append((b"x-farthing-route", answer.route.encode()))
    if answer.stream is None or answer.source is not Source.MODEL:
        headers.append((b"x-farthing-cost-usd", dollars(answer.cost_microusd).encode()))
        headers.append((b"x-farthing-saved-usd", dollars(answer.saved_microusd).encode()))
    return headers
