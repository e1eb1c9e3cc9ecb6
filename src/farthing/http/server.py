"""The gateway's ASGI application: one table of doors, one way in, one way for errors out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from farthing.errors import FarthingError, MethodNotAllowed, NotAllowed, NotFound, Overloaded
from farthing.http.asgi import (
    DIRECT,
    LIFELINE,
    ClientLeft,
    Receive,
    Scope,
    Send,
    error_body,
    error_headers,
    header,
    id_headers,
    send_early,
    send_whole,
)
from farthing.http.auth import KeyRing, bearer
from farthing.logs import REQUEST_ID
from farthing.ports import Meter
from farthing.types import ANONYMOUS, Extras, Lifeline, Operation, Request, new_id

_log = logging.getLogger("farthing.http")
_NO_EXTRAS = Extras()

Door = Callable[[Request, Scope, Receive, Send], Awaitable[None]]


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """A door: its methods, who may pass, and whether refusals belong in the ledger (doors that spend)."""

    door: Door
    methods: frozenset[str]
    needs_key: bool = True
    needs_admin: bool = False
    spends: bool = False


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
    ) -> None:
        self._doors = doors
        self._prefixes = sorted(prefixes.items(), key=lambda item: -len(item[0]))
        self._keys = keys
        self._meter = meter
        self._trace = trace
        self._max_in_flight = max_in_flight
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "http":
            self.in_flight += 1
            try:
                await self._http(scope, receive, send)
            except asyncio.CancelledError:
                if not _left(scope):
                    raise
            except ClientLeft:
                return
            finally:
                self.in_flight -= 1
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_id()
        REQUEST_ID.set(request_id)
        lifeline = scope[LIFELINE] = Lifeline(asyncio.current_task())
        request = Request(
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
        started = False

        async def sending(message: object) -> None:
            nonlocal started
            started = True
            await send(message)  # type: ignore[arg-type]  # handed on as it came

        try:
            opening = self._opening(scope["path"])
            await self._enter(opening, request, scope)
            await opening.door(request, scope, receive, sending)
        except FarthingError as error:
            if started:
                raise
            await self._refuse(request, scope, receive, send, error)
        except ClientLeft:
            raise
        except Exception:
            _log.exception("a request failed inside Farthing")
            if started:
                raise
            await self._refuse(request, scope, receive, send, FarthingError("internal error; see Farthing's log", retry_after_s=1.0))

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
        if opening.spends and self.in_flight > self._max_in_flight:
            refusal = Overloaded(
                f"this worker has {self._max_in_flight} requests under way (setting server.max_in_flight)", retry_after_s=1.0
            )
            self._meter.outcome(request, None, refusal)
            raise refusal

    async def _refuse(self, request: Request, scope: Scope, receive: Receive, send: Send, error: FarthingError) -> None:
        """The error as OpenAI's clients know it."""
        status, body = error_body(error)
        headers = [*id_headers(request.id), *error_headers(error)]
        direct = scope.get(DIRECT)
        if direct is not None and direct.unfinished:
            await send_early(receive, send, status, headers, body)
        else:
            await send_whole(scope, send, status, headers, b"" if scope["method"] == "HEAD" else body)


def _left(scope: Scope) -> bool:
    lifeline = scope.get(LIFELINE)
    return isinstance(lifeline, Lifeline) and lifeline.dropped
