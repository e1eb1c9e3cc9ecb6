"""uvicorn's HTTP protocol, with what a door to the street needs: bounded heads, and a client that leaves is noticed at once."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from farthing.errors import InvalidRequest
from farthing.http.asgi import DIRECT, JSON_TYPE, LIFELINE, Headers, error_body, error_headers
from farthing.types import Lifeline, new_id

MAX_HEAD_BYTES = 64 * 1024
_MOST_CORKED = 64 * 1024


class Cork:
    """A transport that joins what is written in one turn of the event loop into one write, for streams whose pieces come in bursts."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Keep for the end of this turn, or until there is much."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _MOST_CORKED:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._transport.write(data)

    def close(self) -> None:
        """Write what is kept, and close."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is going down."""
        return self._transport.is_closing()


class Direct:
    """The short way past ASGI's messages, for bodies that are there already and answers that are whole.

    It does what uvicorn's `RequestResponseCycle.receive` and `send` do, with one write instead of two and without a regular expression
    for each header: a third of what a cache hit costs. Each method says when it does not apply; the caller then takes the long way.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def body(self) -> bytes | None:
        """The request's body; None while more of it is to come, or when the client waits for a word first."""
        cycle = self._cycle
        if cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected:
            return None
        body = bytes(cycle.body)
        cycle.body.clear()
        return body

    @property
    def unfinished(self) -> bool:
        """Whether more of the request is to come."""
        return self._cycle.more_body

    def cork(self) -> None:
        """Join the writes of the answer that follows."""
        cycle = self._cycle
        cycle.transport = Cork(cycle.transport, asyncio.get_running_loop())  # type: ignore[assignment]  # as much of one as uvicorn uses

    def respond(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send a whole answer whose header values are ours; False when nothing was done."""
        cycle = self._cycle
        if cycle.response_started or cycle.flow.write_paused or cycle.scope["method"] == "HEAD":
            return False
        if cycle.disconnected:
            return True
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        parts = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
            if name == b"connection":
                cycle.keep_alive = False
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", body)
        cycle.transport.write(b"".join(parts))
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True


class DoorProtocol(HttpToolsProtocol):
    """Closes connections whose request head is too long or too slow, and releases the lifeline of a request whose client has gone.

    Nothing polls for the disconnect and no task waits for it: the transport tells.
    """

    header_timeout_s = 10.0
    socket_paths: frozenset[bytes] = frozenset()
    """Where a connection may become a WebSocket. Elsewhere the wish is overlooked (RFC 9110, section 7.8)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._winding_up = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start the clock for the first head."""
        super().connection_made(transport)
        self._arm()

    def wind_up(self) -> None:
        """From now on each answer is the last one here, and says so. A request that is on its way is still answered."""
        self._winding_up = True
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request under way, which need not be the last one that came, and forget those that wait behind it."""
        self._disarm()
        self.pipeline.clear()
        cycle = self._running
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            lifeline = cycle.scope.get(LIFELINE)
            if isinstance(lifeline, Lifeline):
                lifeline.release()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Count the head's bytes, parse, and start the clock when a head is left unfinished."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The request head is too long.")
            elif self._head_timer is None and self._head_bytes:
                self._arm()

    def _should_upgrade(self) -> bool:
        return self.url.partition(b"?")[0] in self.socket_paths and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, unless an answer is still under way on it: the client's end would not reach that any more."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.send_400_response("A WebSocket must wait for the answers that are under way on its connection.")
        else:
            super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP as all errors are answered, and close. An answer under way is not mixed with this one."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            error = InvalidRequest(msg)
            _, body = error_body(error)
            headers = [(b"x-request-id", str(new_id()).encode()), *error_headers(error), JSON_TYPE, (b"connection", b"close")]
            lines = b"".join(b"%s: %s\r\n" % header for header in headers)
            self.transport.write(b"%s%scontent-length: %d\r\n\r\n%s" % (STATUS_LINE[error.status], lines, len(body), body))
        self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._disarm()
        super().on_headers_complete()
        if self._winding_up and self.cycle is not None:
            self.cycle.keep_alive = False
        self.scope[DIRECT] = Direct(self.cycle)  # type: ignore[literal-required]  # an extension of ours

    def on_message_complete(self) -> None:
        """The next bytes are a head again."""
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0

    def _arm(self) -> None:
        self._head_timer = self.loop.call_later(self.header_timeout_s, self._too_slow)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
