"""Anthropic's doors: messages, and the estimate of their tokens."""

from __future__ import annotations

from typing import NoReturn

import msgspec

from farthing.errors import NotFound
from farthing.http import parse
from farthing.http.asgi import Receive, Scope, Send, id_headers, send_whole
from farthing.http.messages_answer import MessageEvents, message
from farthing.http.messages_request import chat_body
from farthing.http.passage import Passage, answer_headers
from farthing.http.sse import send_events
from farthing.pipeline.tokens import count_request, count_text
from farthing.types import Json, Request

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class MessagesDoors:
    """Translates Messages to chat requests, lets them through the flow, and translates the answers back."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    async def create(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/messages."""
        with self._passage.entering(request):
            typed, body = parse.messages(await self._passage.body(request, scope, receive))
            request.body = chat_body(body)
            request.stream = bool(typed.stream)
            request.foreign = True
            self._passage.admit(request, typed.model, scope)
        stops = typed.stop_sequences or ()
        thinks = (typed.thinking or {}).get("type", "disabled") != "disabled"
        asked = request.body
        answer = await self._passage.flow(request)
        headers = [*answer_headers(request, answer), (b"request-id", str(request.id).encode())]
        if answer.stream is not None:
            events = MessageEvents(request, stops=stops, thinks=thinks, counted=input_tokens(asked))
            await send_events(scope, send, headers, answer, events)
            return
        whole: Json = answer.completion.body if answer.completion is not None else _decode(answer.body or b"")
        await send_whole(scope, send, 200, headers, _encode(message(request, whole, stops=stops, thinks=thinks)))

    async def count_tokens(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/messages/count_tokens: an estimate, and labelled as one."""
        typed, body = parse.count_tokens(await self._passage.body(request, scope, receive))
        request.body = chat_body(body)
        self._passage.admit(request, typed.model, scope)
        found = {"input_tokens": input_tokens(request.body), "estimated": True}
        headers = [*id_headers(request.id), (b"request-id", str(request.id).encode())]
        await send_whole(scope, send, 200, headers, _encode(found))

    async def unknown(self, request: Request, scope: Scope, receive: Receive, send: Send) -> NoReturn:
        """What Anthropic has below /v1/messages and we have not, such as batches."""
        del request, receive, send
        raise NotFound(f"There is no {scope['path'][:200]!r} here. Doors: /v1/messages, /v1/messages/count_tokens.")


def input_tokens(body: Json) -> int:
    """About how many input tokens a chat request has, its tools included. Images and documents are not guessed at."""
    tools = body.get("tools")
    return count_request(body) + (count_text(_encode(tools).decode()) if tools else 0)
