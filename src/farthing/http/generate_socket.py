"""Our own door as a WebSocket: many requests over one connection, each under an id that the client chooses.

The client sends `{"type": "generate", "id", …}` with the fields of `generate_types`, or `{"type": "cancel", "id"}`. Each request ends in
exactly one `{"type": "done", "id", …}` or `{"type": "error", "id", "error"}`, after any number of `{"type": "delta", "id", "text"}`. What
cannot be understood gets an error too (`id` null where there is none), and the connection goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from farthing.errors import FarthingError, InvalidRequest, NotAllowed, Overloaded, Unavailable
from farthing.http import parse
from farthing.http.asgi import DRAIN, Message, Receive, Scope, Send, header
from farthing.http.generate import GenerateDoors, Pieces, account, whole
from farthing.http.server import Entrance
from farthing.settings import SocketSettings
from farthing.types import Answer, Json, Lifeline, Request

_log = logging.getLogger("farthing.http")
_encode = msgspec.json.Encoder().encode
_SUBPROTOCOL = "farthing"
_LONGEST_ID = 128
_NORMAL, _GOING_AWAY = 1000, 1001
"""Closing codes (RFC 6455, section 7.4.1)."""
_CANCELLED = {"message": "Cancelled by the client.", "type": "client_error", "param": None, "code": "cancelled"}


class GenerateSocket:
    """The door: who may connect, and how many."""

    def __init__(self, doors: GenerateDoors, settings: SocketSettings) -> None:
        self._doors = doors
        self._settings = settings
        self._origins = frozenset(origin.lower().rstrip("/") for origin in settings.allowed_origins)
        self._open: Counter[UUID] = Counter()

    async def __call__(self, request: Request, entrance: Entrance, scope: Scope, receive: Receive, send: Send) -> None:
        """See `server.SocketDoor`."""
        self._check_origin(scope)
        key = request.principal.key_id
        self._check_room(key)
        self._open[key] += 1
        try:
            await receive()
            chosen = _SUBPROTOCOL if _SUBPROTOCOL in scope["subprotocols"] else None
            await send({"type": "websocket.accept", "subprotocol": chosen})
            await _Conversation(self._doors, self._settings, entrance, scope, receive, send).run()
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def _check_room(self, key: UUID) -> None:
        for here, name in ((self._open.total(), "max_connections"), (self._open[key], "max_connections_per_key")):
            if here >= getattr(self._settings, name):
                whose = "this worker has" if name == "max_connections" else "this key has, in this worker,"
                raise Overloaded(f"{whose} {here} WebSockets open (setting generate.socket.{name})", retry_after_s=1.0)

    def _check_origin(self, scope: Scope) -> None:
        """A page of another site must not use a key that it has got hold of: browsers say where a page is from."""
        origin = header(scope, b"origin")
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return
        host = header(scope, b"host")
        if host is None or urlsplit(origin.lower()).netloc != host.lower():
            raise NotAllowed(f"Pages from {origin[:200]!r} may not connect (setting generate.socket.allowed_origins).")


class _Run:
    """One request under way. `silent`: the client has been told of its end already."""

    def __init__(self, key: str) -> None:
        self.id = key
        self.lifeline = Lifeline(None)
        self.silent = False

    def drop(self) -> None:
        """Nobody waits for it any more, unless other requests wait for the same answer."""
        self.silent = True
        self.lifeline.release()


class _Conversation:
    """One connection. It listens until the client goes, is idle for too long, or the process ends."""

    def __init__(
        self, doors: GenerateDoors, settings: SocketSettings, entrance: Entrance, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._doors = doors
        self._settings = settings
        self._entrance = entrance
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._active_at = self._loop.time()
        self._by_id: dict[str, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until the connection has ended and all of its requests have."""
        try:
            while (message := await self._next()) is not None:
                if message["type"] == "websocket.disconnect":
                    break
                await self._heard(message)
            else:
                await self._close(_NORMAL, "idle")
        finally:
            for run in list(self._by_id.values()):
                run.drop()
            await asyncio.gather(*self._tasks, *([self._draining] if self._draining else []), return_exceptions=True)

    async def _next(self) -> Message | None:
        """The next message; None when nothing was said or answered for too long."""
        while True:
            left = self._active_at + self._settings.idle_s - self._loop.time()
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    message = await self._receive()
            except TimeoutError:
                if not self._tasks and self._loop.time() - self._active_at >= self._settings.idle_s:
                    return None
                if self._tasks:
                    self._active_at = self._loop.time()
                continue
            self._active_at = self._loop.time()
            return message

    async def _heard(self, message: Message) -> None:
        if message["type"] == DRAIN:
            self._draining = self._draining or asyncio.create_task(self._drain())
            return
        key: str | None = None
        try:
            data = _data(message)
            body = parse.json_object(data)
            key = _id_of(body)
            match body.pop("type", None):
                case "generate":
                    await self._begin(key, body, len(data))
                case "cancel":
                    await self._cancel(key)
                case other:
                    raise InvalidRequest(f"type must be 'generate' or 'cancel', not {str(other)[:64]!r}", param="type")
        except FarthingError as error:
            await self._say({"type": "error", "id": key, "error": error.wire()[1]})

    async def _begin(self, key: str, body: Json, size: int) -> None:
        refusal = self._refusal(key)
        if refusal is not None:
            async with self._entrance(Lifeline(None)) as request:
                with self._doors.passage.entering(request):
                    raise refusal
        run = self._by_id[key] = _Run(key)
        task = asyncio.create_task(self._run(run, body, size))
        run.lifeline = Lifeline(task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.sleep(0)  # so that it has begun, and is in the ledger, before a message behind it can end it

    def _refusal(self, key: str) -> FarthingError | None:
        if self._draining is not None:
            return Unavailable("Farthing is about to stop: connect again.", retry_after_s=1.0)
        if key in self._by_id:
            return InvalidRequest(f"the id {key!r} is in use: a request of that id is under way", param="id")
        most = self._settings.max_requests
        if len(self._tasks) >= most:
            return Overloaded(f"{most} requests are under way on this connection (setting generate.socket.max_requests)", retry_after_s=1.0)
        return None

    async def _cancel(self, key: str) -> None:
        """A no-op for a request that has ended."""
        run = self._by_id.pop(key, None)
        if run is not None:
            run.drop()
            await self._say({"type": "error", "id": key, "error": _CANCELLED})

    async def _run(self, run: _Run, body: Json, size: int) -> None:
        """One request from its message to its end. Whatever happens, the client is told once."""
        try:
            async with self._entrance(run.lifeline) as request:
                await self._answer(run, request, body, size)
        except asyncio.CancelledError as error:
            if run.lifeline.cut_by is not None:
                run.lifeline.told(error)
                await self._end(run, {"type": "error", "error": run.lifeline.cut_by.wire()[1]})
            elif not run.silent:
                raise
        except FarthingError as error:
            await self._end(run, {"type": "error", "error": error.wire()[1]})
        except Exception:  # noqa: BLE001 - the client must see an end, and the log the cause
            _log.exception("a request failed inside Farthing")
            await self._end(run, {"type": "error", "error": FarthingError("internal error; see Farthing's log").wire()[1]})
        finally:
            self._active_at = self._loop.time()
            if self._by_id.get(run.id) is run:
                del self._by_id[run.id]

    async def _answer(self, run: _Run, request: Request, body: Json, size: int) -> None:
        passage = self._doors.passage
        with passage.entering(request):
            request.size = size
            self._doors.read(request, {"stream": True, **body}, self._scope)
        answer = await passage.flow(request)
        end = await self._relay(run, request, answer) if answer.stream is not None else whole(request, answer)
        await self._end(run, {"type": "done", **end, "model": answer.model, "request_id": str(request.id)})

    async def _relay(self, run: _Run, request: Request, answer: Answer) -> Json:
        """Pass a stream on as the client reads it."""
        stream, pieces = answer.stream, Pieces()
        assert stream is not None
        try:
            async for chunk in stream:
                text = pieces.text(chunk)
                if text and not run.silent:
                    await self._say({"type": "delta", "id": run.id, "text": text})
        finally:
            answer.stream = None  # see `sse.send_events`
            await stream.aclose()
        return {"finish_reason": pieces.finish_reason, **account(request, answer, answer.usage)}

    async def _end(self, run: _Run, fields: Json) -> None:
        """The last word on a request."""
        if not run.silent:
            run.silent = True
            if self._by_id.get(run.id) is run:
                del self._by_id[run.id]
            kind = fields.pop("type")
            await self._say({"type": kind, "id": run.id, **fields})

    async def _drain(self) -> None:
        """Let what is under way come to its end, and say good-bye."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._close(_GOING_AWAY, "Farthing is about to stop: connect again")

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):
            return  # see `_say`

    async def _say(self, message: Json) -> None:
        """Waits while the client does not read. A client that has gone is heard of in `run`."""
        try:
            await self._send({"type": "websocket.send", "text": _encode(message).decode()})
        except (OSError, RuntimeError):
            return  # ASGI's words for: the connection is closed, or is about to be


def _data(message: Message) -> bytes:
    text = message.get("text")
    if text is None:
        raise InvalidRequest("send text frames that hold JSON; this one was binary")
    return bytes(text.encode())


def _id_of(body: Json) -> str:
    key = body.pop("id", None)
    if not isinstance(key, str) or not (1 <= len(key) <= _LONGEST_ID and key.isprintable()):
        raise InvalidRequest(f"id must be a string of 1 to {_LONGEST_ID} printable characters", param="id")
    return key
