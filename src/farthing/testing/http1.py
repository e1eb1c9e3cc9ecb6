"""The least HTTP/1.1 that a scripted server needs: requests in, exact bytes out, and noticing that the client has gone.

Not for production: it reads whole bodies and knows no trailers, upgrades or compression.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

import msgspec

_MAX_HEAD: Final = 65_536
_READ: Final = 65_536


class BadRequest(Exception):
    """The client does not speak HTTP/1.1 as this server reads it, or sent more than its bound."""


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as read from the wire. Header names are in lower case; of repeated headers the last one counts."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class Wire:
    """One accepted connection. A task reads all the time, so that a close by the client is seen while an answer is being sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, max_body_bytes: int) -> None:
        self._reader = reader
        self._writer = writer
        self._bound = max_body_bytes + _MAX_HEAD
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.gone = asyncio.Event()
        self._pump = asyncio.ensure_future(self._read_on())

    async def request(self) -> RawRequest | None:
        """The next request; None when the client closed instead of sending one."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise BadRequest("the head is too long")
            if not await self._more():
                return None
        head = self._take(end + 4)[:-4].decode("latin-1").split("\r\n")
        try:
            method, target, version = head[0].split(" ")
        except ValueError:
            raise BadRequest(f"not a request line: {head[0][:80]!r}") from None
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if headers.get("expect", "").lower() == "100-continue":
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._body(headers)
        if body is None:
            return None
        keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return RawRequest(method=method, target=target, headers=headers, body=body, keep_alive=keep_alive)

    async def send(self, data: bytes) -> None:
        """Write and wait until the peer takes it. Raises `ConnectionError` when it has gone."""
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Break the connection with a TCP RST: what closing with a linger time of zero does."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """Send what was written, close and stop reading."""
        self._pump.cancel()
        self._writer.close()

    async def _body(self, headers: dict[str, str]) -> bytes | None:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return await self._chunked_body()
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise BadRequest(f"not a content-length: {length!r}")
        return await self._exactly(int(length))

    async def _chunked_body(self) -> bytes | None:
        body = bytearray()
        while True:
            if (line := await self._line()) is None:
                return None
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise BadRequest(f"not a chunk size: {line[:40]!r}") from None
            if len(body) + size > self._bound:
                raise BadRequest("the body is too long")
            if (piece := await self._exactly(size + 2)) is None:
                return None
            if size == 0:
                return bytes(body)
            body += piece[:-2]

    async def _line(self) -> bytes | None:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not await self._more():
                return None
        return self._take(end + 2)[:-2]

    async def _exactly(self, size: int) -> bytes | None:
        if size > self._bound:
            raise BadRequest("the body is too long")
        while len(self._buffer) < size:
            if not await self._more():
                return None
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._room.set()
        return taken

    async def _more(self) -> bool:
        """Wait for more bytes; False when none will come."""
        before = len(self._buffer)
        self._news.clear()
        if not self.gone.is_set():
            await self._news.wait()
        return len(self._buffer) > before

    async def _read_on(self) -> None:
        try:
            while data := await self._reader.read(_READ):
                self._buffer += data
                self._news.set()
                while len(self._buffer) > self._bound:
                    self._room.clear()
                    await self._room.wait()
        except ConnectionError:
            pass
        finally:
            self.gone.set()
            self._news.set()
