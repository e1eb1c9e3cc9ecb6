"""The door: POST /v1/completions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

import msgspec

from farthing.errors import FarthingError
from farthing.http import parse
from farthing.http.asgi import Receive, Scope, Send, send_whole
from farthing.http.completions.merged import Merged
from farthing.http.completions.translate import Texts, chat_body, check, prompts_of, usage_sum
from farthing.http.passage import Passage, answer_headers
from farthing.http.sse import cost_comment, send_events
from farthing.settings import CompletionsSettings
from farthing.types import Answer, Json, Request, Source, new_id

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class CompletionsDoor:
    """Turns prompts into chat requests, lets each through the flow, and makes one completion out of the answers."""

    def __init__(self, passage: Passage, settings: CompletionsSettings) -> None:
        self._passage = passage
        self._settings = settings

    async def create(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/completions."""
        with self._passage.entering(request):
            typed, request.body = parse.completions(await self._passage.body(request, scope, receive))
            request.stream, request.foreign = bool(typed.stream), True
            self._passage.admit(request, typed.model, scope)
            check(typed, request.body)
            prompts = prompts_of(typed, self._settings.max_prompts)
            bodies = [chat_body(typed, request.body, prompt) for prompt in prompts]
        texts = Texts(prompts, n=typed.n or 1, echo=bool(typed.echo))
        requests = _each(request, bodies)
        if request.stream:
            usage = bool(typed.stream_options and typed.stream_options.include_usage)
            await self._stream(request, requests, scope, send, CompletionEvents(request.id, typed.model, texts, include_usage=usage))
        else:
            await self._whole(request, requests, scope, send, texts)

    async def _whole(self, request: Request, requests: Sequence[Request], scope: Scope, send: Send, texts: Texts) -> None:
        answers = await self._answers(requests)
        wholes = [answer.completion.body if answer.completion else _decode(answer.body or b"") for answer in answers]
        choices = [texts.whole(number, choice) for number, whole in enumerate(wholes) for choice in whole["choices"]]
        body = {
            **_head(request.id, request.model, wholes[0]),
            "choices": sorted(choices, key=lambda choice: int(choice["index"])),
            "usage": usage_sum(whole.get("usage") for whole in wholes),
        }
        await send_whole(scope, send, 200, answer_headers(request, _sum(answers)), _encode(body))

    async def _answers(self, requests: Sequence[Request]) -> list[Answer]:
        """All answers. After an error no further prompt is begun, but those under way are finished: a retry finds them in the cache."""
        limit = asyncio.Semaphore(self._settings.concurrency)
        errors: list[FarthingError] = []
        answers: dict[int, Answer] = {}

        async def one(number: int, request: Request) -> None:
            async with limit:
                if errors:
                    return
                try:
                    answers[number] = await self._passage.flow(request)
                except FarthingError as error:
                    errors.append(error)

        async with asyncio.TaskGroup() as group:
            for number, request in enumerate(requests):
                group.create_task(one(number, request))
        if errors:
            raise errors[0]
        return [answers[number] for number in range(len(requests))]

    async def _stream(self, request: Request, requests: Sequence[Request], scope: Scope, send: Send, events: CompletionEvents) -> None:
        merged = Merged(self._passage.flow, requests, self._settings.concurrency)
        await merged.begin()
        events.answers = merged.answers
        first = merged.answers[0]
        source = first.source if len(requests) == 1 else Source.MODEL
        answer = msgspec.structs.replace(first, source=source, stream=merged)
        await send_events(scope, send, answer_headers(request, answer), answer, events)


def _each(request: Request, bodies: Sequence[Json]) -> list[Request]:
    """One request for each prompt, each with a ledger entry of its own. The first has the id that the client is told."""
    request.body = bodies[0]
    return [request, *(msgspec.structs.replace(request, id=new_id(), body=body) for body in bodies[1:])]


def _sum(answers: Sequence[Answer]) -> Answer:
    """What the headers and the end of a stream say of several answers."""
    sources = {answer.source for answer in answers}
    return msgspec.structs.replace(
        answers[0],
        source=answers[0].source if len(sources) == 1 else Source.MODEL,
        cost_microusd=sum(answer.cost_microusd for answer in answers),
        saved_microusd=sum(answer.saved_microusd for answer in answers),
        usage=usage_sum(answer.usage for answer in answers),
        checks=next((answer.checks for answer in answers if answer.checks not in {None, "passed"}), answers[0].checks),
    )


def _head(request_id: UUID, model: str, chat: Json) -> Json:
    fingerprint = chat.get("system_fingerprint")
    return {
        "id": f"cmpl-{request_id.hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": chat["model"] if isinstance(chat.get("model"), str) else model,
        **({"system_fingerprint": fingerprint} if fingerprint else {}),
    }


class CompletionEvents:
    """See `http.sse.Events`. `answers` are those that the chunks came from."""

    def __init__(self, request_id: UUID, model: str, texts: Texts, *, include_usage: bool) -> None:
        self._request_id = request_id
        self._model = model
        self._texts = texts
        self._include_usage = include_usage
        self._head: Json | None = None
        self.answers: Sequence[Answer] = ()

    def chunk(self, chunk: Json) -> bytes:
        """A text_completion chunk; nothing for a chunk without text."""
        found = [self._texts.piece(chunk["prompt"], choice) for choice in chunk["choices"]]
        choices = [choice for choice in found if choice is not None]
        return self._event({"choices": choices, **({"usage": None} if self._include_usage else {})}, chunk) if choices else b""

    async def end(self, answer: Answer) -> bytes:
        """The usage if it was asked for, the cost, the end mark."""
        del answer
        total = _sum(self.answers)
        usage = self._event({"choices": [], "usage": total.usage}, {}) if self._include_usage else b""
        return usage + cost_comment(total) + b"data: [DONE]\n\n"

    def error(self, error: FarthingError) -> bytes:
        """OpenAI's error object."""
        return b"data: %s\n\n" % _encode({"error": error.wire()[1]})

    def _event(self, fields: Json, chunk: Json) -> bytes:
        if self._head is None:
            self._head = _head(self._request_id, self._model, chunk)
        return b"data: %s\n\n" % _encode({**self._head, **fields})
