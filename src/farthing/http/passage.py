"""What all doors that spend have in common: read the body, see that the caller may, go through the flow, say what it cost.

Each wire format (OpenAI's, Anthropic's, our own) is a door that translates to the canonical chat request and back; nothing else differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from farthing.errors import ClientGone, FarthingError
from farthing.http import parse
from farthing.http.asgi import ClientLeft, Receive, Scope, id_headers, read_body
from farthing.http.quota import quota_headers
from farthing.pipeline.stage import Next
from farthing.ports import Meter
from farthing.settings import ServerSettings
from farthing.types import Answer, ChunkStream, Json, Lifeline, Request, Source, dollars

Admit = Callable[[Request], str]
"""The fingerprint of all that a request's answer hangs on beside its words; raises `ModelNotFound` or `NotAllowed`, or `InvalidRequest`."""


class _Entering:
    """A context manager. A class and not a generator: it is entered with every request."""

    __slots__ = ("_meter", "_request")

    def __init__(self, meter: Meter, request: Request) -> None:
        self._meter = meter
        self._request = request

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, FarthingError):
            self._meter.outcome(self._request, None, error)
        elif isinstance(error, ClientLeft | asyncio.CancelledError):
            gone = self._request.lifeline.cut_by or ClientGone("the client went away before its request was there")
            self._meter.outcome(self._request, None, gone)


class Passage:
    """The way from a door into the flow. Each method is one step; a refusal on the way is in the ledger by `entering`."""

    def __init__(self, flow: Next, admit: Admit, meter: Meter, settings: ServerSettings) -> None:
        self._flow = flow
        self._admit = admit
        self._meter = meter
        self._settings = settings

    def entering(self, request: Request) -> _Entering:
        """Around all that happens to a request before `flow`: what is refused there is recorded, since the flow never sees it."""
        return _Entering(self._meter, request)

    async def body(self, request: Request, scope: Scope, receive: Receive) -> bytes:
        """The body's bytes, bounded in size and time. Notes their number in `request.size`."""
        data = await read_body(scope, receive, most=self._settings.max_body_bytes, timeout_s=self._settings.body_timeout_s)
        request.size = len(data)
        return data

    def admit(self, request: Request, model: str, scope: Scope) -> None:
        """Take the extras out of `request.body` (or the headers) and see that the caller may use the model for `request.operation`."""
        request.model = model
        request.extras = parse.extras(request.body.pop("farthing", None), scope["headers"])
        request.fingerprint = self._admit(request)

    async def flow(self, request: Request) -> Answer:
        """Through the stages. A process that ends cuts what is left: that comes out as an error which the door can still tell."""
        try:
            answer = await self._flow(request)
        except asyncio.CancelledError as error:
            raise request.lifeline.told(error) from None
        if answer.stream is not None and answer.source is Source.MODEL:
            answer.stream = _Cuttable(answer.stream, request.lifeline)
        return answer


class _Cuttable:
    """A stream in which a cut of its request comes out as an error. See `types.ChunkStream`."""

    def __init__(self, stream: ChunkStream, lifeline: Lifeline) -> None:
        self._stream = stream
        self._lifeline = lifeline

    def __aiter__(self) -> _Cuttable:
        return self

    async def __anext__(self) -> Json:
        try:
            return await self._stream.__anext__()
        except asyncio.CancelledError as error:
            raise self._lifeline.told(error) from None

    async def aclose(self) -> None:
        await self._stream.aclose()


def answer_headers(request: Request, answer: Answer) -> list[tuple[bytes, bytes]]:
    """What Farthing says about an answer. What a live stream costs is not known yet: it comes in the stream's last comment."""
    headers = [*id_headers(request.id), *quota_headers(request)]
    headers.append((b"x-farthing-source", answer.source.encode()))
    headers.append((b"x-farthing-model", (answer.model or "").encode()))
    headers.append((b"x-farthing-mode", request.mode.name.encode()))
    headers.append((b"x-farthing-route", answer.route.encode()))
    if request.recalled is not None:
        headers.append((b"x-farthing-memory", request.recalled.encode()))
    if answer.checks is not None:
        headers.append((b"x-farthing-checks", answer.checks.encode()))
    if request.over_budget:
        headers.append((b"x-farthing-budget", b"soft-exceeded"))
    if answer.stream is None or answer.source is not Source.MODEL:
        headers.append((b"x-farthing-cost-usd", dollars(answer.cost_microusd).encode()))
        headers.append((b"x-farthing-saved-usd", dollars(answer.saved_microusd).encode()))
    return headers
