"""OpenAI's doors: chat completions, embeddings, models."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Sequence

import msgspec

from farthing.errors import ModelNotFound, UpstreamMalformed
from farthing.http import parse
from farthing.http.asgi import Receive, Scope, Send, id_headers, send_whole
from farthing.http.passage import Passage, answer_headers
from farthing.http.sse import send_stream
from farthing.types import Operation, Principal, Request

_encode = msgspec.json.Encoder().encode
_CREATED = 1_767_225_600
"""`created` of a catalogue entry, which OpenAI requires and nobody knows: 2026-01-01."""

Visible = Callable[[Principal], Sequence[tuple[str, str]]]
"""(name, owner) of the models that a principal may use."""


class OpenAIDoors:
    """Turns bodies into requests, lets them through the flow, and writes the answers."""

    def __init__(self, passage: Passage, visible: Visible) -> None:
        self._passage = passage
        self._visible = visible

    async def chat(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/chat/completions."""
        with self._passage.entering(request):
            typed, request.body = parse.chat(await self._passage.body(request, scope, receive))
            request.stream = bool(typed.stream)
            request.include_usage = bool(typed.stream_options and typed.stream_options.include_usage)
            self._passage.admit(request, typed.model, scope)
        answer = await self._passage.flow(request)
        if answer.stream is not None:
            await send_stream(scope, send, answer_headers(request, answer), request, answer)
        else:
            await send_whole(scope, send, 200, answer_headers(request, answer), answer.body or b"")

    async def embeddings(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/embeddings.

        The provider is asked for floats whatever the client wants: one canonical form to cache, packed for the client at the end.
        """
        request.operation = Operation.EMBEDDINGS
        with self._passage.entering(request):
            typed, body = parse.embeddings(await self._passage.body(request, scope, receive))
            request.body = {**body, "encoding_format": "float"}
            self._passage.admit(request, typed.model, scope)
        answer = await self._passage.flow(request)
        data = answer.body or b""
        packed = _packed(data) if typed.encoding_format == "base64" else data
        await send_whole(scope, send, 200, answer_headers(request, answer), packed)

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


def _packed(data: bytes) -> bytes:
    """An embeddings answer with its vectors as base64 of little-endian float32."""
    whole = msgspec.json.decode(data)
    try:
        for item in whole["data"]:
            item["embedding"] = base64.b64encode(struct.pack(f"<{len(item['embedding'])}f", *item["embedding"])).decode()
    except (TypeError, KeyError, OverflowError, struct.error):
        raise UpstreamMalformed("the provider's embeddings are not lists of numbers") from None
    return _encode(whole)
