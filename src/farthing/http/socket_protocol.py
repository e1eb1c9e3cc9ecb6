"""uvicorn's WebSocket protocol, with what a door to the street needs: nothing that a client does or leaves undone grows or stays."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from farthing.http.asgi import DRAIN

_CLOSE_S = 2.0
"""For the client's half of the closing handshake, and for what it has not read yet."""

_LINGER_S = 0.5
"""For what a client that broke the rules still sends."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """While a client does not read, nothing more is read from it, its pings included. One that does not answer pings is cut off.

    On `shutdown` the application is told (`asgi.DRAIN`) and closes the connection itself. Nothing is logged: the handshake holds the key,
    the frames hold prompts, and broken frames are the client's business.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = _CLOSE_S
        self.logger = self.conn.logger = logging.Logger("silent", level=logging.CRITICAL + 1)  # noqa: LOG001 - one that nobody can turn on
        self.conn.debug = False

    def shutdown(self) -> None:
        """The process is about to end."""
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": DRAIN})  # type: ignore[arg-type, misc]  # a message of ours
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """See the class."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """See the class."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    async def receive(self) -> ASGIReceiveEvent:
        """The next message. uvicorn resumes reading here."""
        message = await super().receive()
        if not self.writable.is_set() and not self.disconnected:
            self.transport.pause_reading()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send; after a close, do not wait for ever."""
        await super().send(message)
        if message["type"] == "websocket.close":
            self._abort_soon()

    def handle_cont(self, event: Frame) -> None:
        """Join the pieces as they come: there may be millions of them, which together are no more than a message may have."""
        if not isinstance(self.frames[0], bytearray):
            self.frames = [bytearray(self.frames[0])]  # type: ignore[list-item]  # bytes that can grow
        self.frames[0] += event.data
        if event.fin:
            self.send_receive_event_to_app()

    def keepalive_timeout(self) -> None:
        """The client has not answered a ping."""
        super().keepalive_timeout()
        self.transport.abort()

    def handle_close(self, event: Frame) -> None:
        """The client closes."""
        super().handle_close(event)
        self._abort_soon()

    def data_received(self, data: bytes) -> None:
        """Parse, unless what came before was broken."""
        if self.conn.parser_exc is None:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """The client broke the rules and is told how.

        What it still sends is read and dropped for a while: closing a socket on unread data resets it, and the client would not be told.
        """
        close = self.conn.close_sent
        assert close is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_LINGER_S, self.transport.close)
        self._abort_soon()

    def _abort_soon(self) -> None:
        self.loop.call_later(_CLOSE_S + 1, self.transport.abort)
