"""Our own door: the caller says what it wants and not which model. Settings choose the model; headers and the ledger say which it was."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from farthing.errors import FarthingError, InvalidRequest
from farthing.http import parse
from farthing.http.asgi import Receive, Scope, Send, send_whole
from farthing.http.generate_types import GenerateBody
from farthing.http.passage import Passage, answer_headers
from farthing.http.sse import send_events
from farthing.pipeline.message import text_of
from farthing.types import Answer, Json, Principal, Request, Usage, dollars

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_HANDED_ON = ("max_tokens", "temperature", "response_format")

Choose = Callable[[Principal, str | None], str]
"""The catalogue name of the model for a caller and a task type."""


class GenerateDoors:
    """Reads what is asked for, lets it through the flow, and says what came of it."""

    def __init__(self, passage: Passage, choose: Choose) -> None:
        self.passage = passage
        self._choose = choose

    async def generate(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /api/v1/generate."""
        with self.passage.entering(request):
            body = parse.json_object(await self.passage.body(request, scope, receive))
            self.read(request, body, scope)
        answer = await self.passage.flow(request)
        headers = answer_headers(request, answer)
        if answer.stream is not None:
            await send_events(scope, send, headers, answer, GenerateEvents(request))
        else:
            await send_whole(scope, send, 200, headers, _encode({"id": str(request.id), **whole(request, answer)}))

    async def not_a_socket(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /api/v1/generate/ws without the wish to become a WebSocket."""
        del request, receive, send
        raise InvalidRequest(f"{scope['path']} speaks WebSocket: connect with a WebSocket client, or POST to /api/v1/generate.")

    def read(self, request: Request, body: Json, scope: Scope) -> None:
        """Make a chat request of a body, choose its model, and see that the caller may use it."""
        typed = parse.generate(body)
        request.stream = bool(typed.stream)
        request.foreign = True
        request.body = chat_body(typed, body)
        task_type = parse.extras(request.body["farthing"], scope["headers"]).task_type
        self.passage.admit(request, self._choose(request.principal, task_type), scope)


def chat_body(typed: GenerateBody, body: Json) -> Json:
    """The canonical chat request. Raises `InvalidRequest` when there is nothing to answer, or two things."""
    if (typed.prompt is None) == (typed.messages is None):
        raise InvalidRequest("send either prompt (a text) or messages (a conversation)", param="prompt")
    if typed.prompt == "" or typed.messages == []:
        name = "messages" if typed.prompt is None else "prompt"
        raise InvalidRequest(f"{name} is empty", param=name)
    messages = [{"role": "user", "content": typed.prompt}] if typed.messages is None else body["messages"]
    system = [] if typed.system is None else [{"role": "system", "content": typed.system}]
    chat: Json = {name: body[name] for name in _HANDED_ON if body.get(name) is not None}
    named = {name: body[name] for name in ("task_type", "user") if body.get(name) is not None}
    return {**chat, "messages": [*system, *messages], "farthing": {**(typed.farthing or {}), **named}}


def whole(request: Request, answer: Answer) -> Json:
    """What a whole answer says."""
    body: Json = answer.completion.body if answer.completion is not None else _decode(answer.body or b"")
    choice = body["choices"][0]
    message = choice["message"]
    text = text_of(message.get("content")) or text_of(message.get("refusal"))
    return {"text": text, "finish_reason": choice.get("finish_reason"), **account(request, answer, body.get("usage"))}


def account(request: Request, answer: Answer, usage: object) -> Json:
    """What an answer used and cost. Dollars are exact decimals."""
    counts = Usage.of(usage) or Usage()
    used: Json = {"input_tokens": counts.input, "output_tokens": counts.output}
    if counts.source == "estimated":
        used["estimated"] = True
    return {
        "usage": used,
        "cost_usd": msgspec.Raw(dollars(answer.cost_microusd).encode()),
        "saved_usd": msgspec.Raw(dollars(answer.saved_microusd).encode()),
        "source": answer.source,
        "task_type": request.extras.task_type,
    }


class Pieces:
    """Reads a stream's chunks as pieces of one text."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None

    def text(self, chunk: Json) -> str:
        """What a chunk adds to the text of the first choice."""
        found = ""
        for choice in chunk["choices"]:
            if choice["index"] == 0:
                delta = choice["delta"]
                found += text_of(delta.get("content")) + text_of(delta.get("refusal"))
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return found


class GenerateEvents:
    """A stream as events `delta`, and `done` or `error`. See `sse.Events`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pieces = Pieces()

    def chunk(self, chunk: Json) -> bytes:
        """A piece of the text."""
        text = self._pieces.text(chunk)
        return self._event({"type": "delta", "text": text}) if text else b""

    async def end(self, answer: Answer) -> bytes:
        """What it used and cost."""
        return self._event({"type": "done", "finish_reason": self._pieces.finish_reason, **account(self._request, answer, answer.usage)})

    def error(self, error: FarthingError) -> bytes:
        """OpenAI's error object."""
        return self._event({"type": "error", "error": error.wire()[1]})

    def _event(self, fields: Json) -> bytes:
        kind = fields.pop("type")
        return b"data: %s\n\n" % _encode({"type": kind, "id": str(self._request.id), **fields})
