"""The gateway's ASGI application: one table of doors, one way in, one way for errors out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial

import msgspec

from farthing.errors import FarthingError, MethodNotAllowed, NotAllowed, NotFound, Overloaded
from farthing.http.asgi import (
    DIRECT,
    LIFELINE,
    ClientLeft,
    Headers,
    Receive,
    Scope,
    Send,
    error_body,
    error_headers,
    header,
    id_headers,
    refuse_handshake,
    send_early,
    send_whole,
)
from farthing.http.auth import KeyRing, bearer
from farthing.http.quota import quota_headers
from farthing.logs import REQUEST_ID
from farthing.ports import Meter
from farthing.types import ANONYMOUS, Extras, Lifeline, Operation, Request, new_id

_log = logging.getLogger("farthing.http")
_NO_EXTRAS = Extras()

Door = Callable[[Request, Scope, Receive, Send], Awaitable[None]]
Entrance = Callable[[Lifeline], AbstractAsyncContextManager[Request]]
"""Makes a request of a message that came over an open socket; raises what refuses it."""
SocketDoor = Callable[[Request, Entrance, Scope, Receive, Send], Awaitable[None]]
"""A WebSocket door. The request is the handshake: who it is that connects. Errors may be raised until it has been accepted."""
Refusal = Callable[[Request, FarthingError], tuple[int, Headers, bytes]]
"""Status, headers and body of an error, as the clients of a door know it."""


def openai_refusal(request: Request, error: FarthingError) -> tuple[int, Headers, bytes]:
    """The error as OpenAI's clients know it."""
    status, body = error_body(error)
    return status, [*id_headers(request.id), *error_headers(error)], body


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """A door: its methods, who may pass, whether refusals belong in the ledger (doors that spend), and what refusals look like."""

    door: Door
    methods: frozenset[str]
    needs_key: bool = True
    needs_admin: bool = False
    spends: bool = False
    refusal: Refusal = openai_refusal


class Gateway:
    """Raw ASGI. `doors` maps exact paths, `prefixes` path beginnings (longest first); a path in neither is a 404.

    Every door needs a key unless its opening says otherwise, so a new door is closed until somebody opens it on purpose. `trace` turns
    the caller's `traceparent` into what may be handed on, None where it is not valid.
    """

    def __init__(
        self,
        doors: Mapping[str, Opening],
        prefixes: Mapping[str, Opening],
        keys: KeyRing,
        meter: Meter,
        trace: Callable[[str | None], str | None],
        *,
        max_in_flight: int,
        sockets: Mapping[str, SocketDoor] | None = None,
    ) -> None:
        self._doors = doors
        self._prefixes = sorted(prefixes.items(), key=lambda item: -len(item[0]))
        self._keys = keys
        self._meter = meter
        self._trace = trace
        self._max_in_flight = max_in_flight
        self._sockets = sockets or {}
        self.in_flight = 0
        self._lifelines: set[Lifeline] = set()

    def cut(self, error: FarthingError) -> int:
        """End all requests under way with this error. Returns how many there were."""
        for lifeline in self._lifelines:
            lifeline.cut(error)
        return len(self._lifelines)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "http":
            self.in_flight += 1
            try:
                await self._http(scope, receive, send)
            except asyncio.CancelledError:
                if not _over(scope):
                    raise
            except ClientLeft:
                return
            finally:
                self.in_flight -= 1
                self._lifelines.discard(scope.pop(LIFELINE))
                scope.pop(DIRECT, None)  # both lead back to the scope: left there, each request would wait for the garbage collector
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)

    def _request(self, scope: Scope, lifeline: Lifeline) -> Request:
        request_id = new_id()
        REQUEST_ID.set(request_id)
        return Request(
            id=request_id,
            principal=ANONYMOUS,
            operation=Operation.CHAT,
            body={},
            model="",
            extras=_NO_EXTRAS,
            started_ns=time.perf_counter_ns(),
            traceparent=self._trace(header(scope, b"traceparent")),
            lifeline=lifeline,
        )

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        lifeline = scope[LIFELINE] = Lifeline(asyncio.current_task())
        self._lifelines.add(lifeline)
        request = self._request(scope, lifeline)
        started = False
        refusal: Refusal = openai_refusal

        async def sending(message: object) -> None:
            nonlocal started
            started = True
            await send(message)  # type: ignore[arg-type]  # handed on as it came

        try:
            opening = self._opening(scope["path"])
            refusal = opening.refusal
            await self._enter(opening, request, scope)
            await opening.door(request, scope, receive, sending)
        except asyncio.CancelledError as error:
            if lifeline.cut_by is None or started:
                raise
            lifeline.told(error)
            await _refuse(request, refusal(request, lifeline.cut_by), scope, receive, send)
        except FarthingError as error:
            if started:
                raise
            await _refuse(request, refusal(request, error), scope, receive, send)
        except ClientLeft:
            raise
        except Exception:
            _log.exception("a request failed inside Farthing")
            if started:
                raise
            internal = FarthingError("internal error; see Farthing's log", retry_after_s=1.0)
            await _refuse(request, refusal(request, internal), scope, receive, send)

    def _opening(self, path: str) -> Opening:
        opening = self._doors.get(path)
        if opening is not None:
            return opening
        for prefix, candidate in self._prefixes:
            if path.startswith(prefix):
                return candidate
        raise NotFound(f"There is no {path[:200]!r} here. Doors: {', '.join(self._doors)}.")

    async def _enter(self, opening: Opening, request: Request, scope: Scope) -> None:
        """Check the key, the rights and the method, in this order: who has no key learns nothing else."""
        if opening.needs_key:
            try:
                request.principal = await self._keys.authenticate(bearer(scope))
            except FarthingError as error:
                if opening.spends:
                    self._meter.outcome(request, None, error)
                raise
        if opening.needs_admin and not request.principal.admin:
            raise NotAllowed("This door needs an admin key.")
        if scope["method"] not in opening.methods:
            allowed = ", ".join(sorted(opening.methods))
            raise MethodNotAllowed(f"{scope['path']} takes {allowed}, not {scope['method'][:16]}.", allowed=allowed)
        if opening.spends:
            self._make_room(request)

    def _make_room(self, request: Request) -> None:
        if self.in_flight > self._max_in_flight:
            refusal = Overloaded(
                f"this worker has {self._max_in_flight} requests under way (setting server.max_in_flight)", retry_after_s=1.0
            )
            self._meter.outcome(request, None, refusal)
            raise refusal

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket. Whoever may not pass is told by HTTP, before the handshake."""
        request = self._request(scope, Lifeline(None))
        try:
            token = bearer(scope)
            request.principal = await self._keys.authenticate(token)
            door = self._sockets.get(scope["path"])
            if door is None:
                raise NotFound(f"There is no WebSocket at {scope['path'][:200]!r}. Doors: {', '.join(self._sockets)}.")
            await door(request, partial(self._entrance, scope, token), scope, receive, send)
        except FarthingError as error:
            with suppress(OSError):  # the client may have gone meanwhile, in ASGI's words
                await refuse_handshake(send, *openai_refusal(request, error))
        except OSError:
            return
        except Exception:
            _log.exception("a WebSocket failed inside Farthing")
            raise

    @asynccontextmanager
    async def _entrance(self, scope: Scope, token: str, lifeline: Lifeline) -> AsyncIterator[Request]:
        """What comes over an open socket: each request has an id, a lifeline and a ledger row of its own, and the key is checked anew."""
        self.in_flight += 1
        self._lifelines.add(lifeline)
        try:
            request = self._request(scope, lifeline)
            try:
                request.principal = await self._keys.authenticate(token)
            except FarthingError as error:
                self._meter.outcome(request, None, error)
                raise
            self._make_room(request)
            yield request
        finally:
            self.in_flight -= 1
            self._lifelines.discard(lifeline)


async def _refuse(request: Request, refused: tuple[int, Headers, bytes], scope: Scope, receive: Receive, send: Send) -> None:
    status, headers, body = refused
    headers = [*headers, *quota_headers(request)]
    direct = scope.get(DIRECT)
    if direct is not None and direct.unfinished:
        await send_early(receive, send, status, headers, body)
    else:
        await send_whole(scope, send, status, headers, b"" if scope["method"] == "HEAD" else body)


def _over(scope: Scope) -> bool:
    """Whether nobody waits for the answer any more, or it was cut where its client could not be told."""
    lifeline = scope.get(LIFELINE)
    return isinstance(lifeline, Lifeline) and (lifeline.dropped or lifeline.cut_by is not None)
