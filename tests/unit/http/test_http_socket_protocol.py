"""The WebSocket protocol on a transport that only remembers: what is read when, what stays in memory, what is logged."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from farthing.http.asgi import DRAIN, Message
from farthing.http.socket_protocol import SocketProtocol

KEY = base64.b64encode(b"0" * 16).decode()
HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer fk-canary\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


class Wire(asyncio.Transport):
    """A transport to nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True
        self.closed = self.aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        del name
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


App = Callable[[Callable[[], Awaitable[Message]]], Awaitable[None]]


async def line(app: App) -> tuple[SocketProtocol, Wire]:
    """A connection whose application has accepted the handshake and then does as given."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        del scope
        await receive()
        await send({"type": "websocket.accept"})
        await app(receive)

    config = Config(
        cast("Any", asgi), ws_per_message_deflate=False, ws_max_size=10_000, ws_ping_interval=None, lifespan="off", log_config=None
    )
    config.load()
    protocol = SocketProtocol(config=config, server_state=ServerState(), app_state={})
    wire = Wire()
    protocol.connection_made(wire)
    protocol.data_received(HANDSHAKE)
    await asyncio.sleep(0.01)
    assert wire.written.startswith(b"HTTP/1.1 101 ")
    wire.written.clear()
    return protocol, wire


def frame(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, 0x80 | len(payload)]) + b"\0" * 4 + payload


async def listen(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def test_while_a_client_does_not_read_nothing_is_read_from_it() -> None:
    protocol, wire = await line(listen)
    protocol.pause_writing()
    assert not wire.reading
    protocol.data_received(frame(0x81, b"was on its way"))
    await asyncio.sleep(0.01)
    assert not wire.reading, "also when the application has taken what was there"
    protocol.resume_writing()
    assert wire.reading
    protocol.connection_lost(None)


async def test_reading_goes_on_only_when_the_application_is_ready_too() -> None:
    taking = asyncio.Event()

    async def slow(receive: Callable[[], Awaitable[Message]]) -> None:
        await taking.wait()
        await listen(receive)

    protocol, wire = await line(slow)
    protocol.data_received(frame(0x81, b"one"))
    assert not wire.reading
    protocol.pause_writing()
    protocol.resume_writing()
    assert not wire.reading, "nobody has taken the message yet"
    taking.set()
    await asyncio.sleep(0.01)
    assert wire.reading
    protocol.connection_lost(None)


async def test_a_message_in_countless_pieces_is_one_piece_of_memory() -> None:
    heard: list[Message] = []

    async def app(receive: Callable[[], Awaitable[Message]]) -> None:
        heard.append(await receive())

    protocol, wire = await line(app)
    protocol.data_received(frame(0x01, b"a"))
    for _ in range(5000):
        protocol.data_received(frame(0x00))
    protocol.data_received(frame(0x00, b"b"))
    assert len(protocol.frames) == 1
    protocol.data_received(frame(0x80, b"c"))
    await asyncio.sleep(0.01)
    assert heard == [{"type": "websocket.receive", "text": "abc"}]
    assert wire.closed, "the application is done"
    protocol.connection_lost(None)


async def test_the_end_of_the_process_is_for_the_application_to_handle() -> None:
    heard: list[str] = []

    async def app(receive: Callable[[], Awaitable[Message]]) -> None:
        heard.append((await receive())["type"])
        heard.append((await receive())["type"])

    protocol, wire = await line(app)
    protocol.shutdown()
    await asyncio.sleep(0.01)
    assert (heard, wire.closed) == ([DRAIN], False)
    protocol.connection_lost(None)
    await asyncio.sleep(0.01)
    assert heard == [DRAIN, "websocket.disconnect"]


async def test_neither_the_key_nor_a_message_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        protocol, _ = await line(listen)
        protocol.data_received(frame(0x81, b"canary prompt"))
        protocol.data_received(frame(0x81, b"\xff canary prompt"))
        await asyncio.sleep(0.01)
        protocol.connection_lost(None)
    assert "canary" not in caplog.text
