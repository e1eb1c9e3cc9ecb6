"""A client on a bare socket: sends what no SDK would, leaves when it wants, and compares answers byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Self, TypeVar

import msgspec

from farthing.testing.replies import Json

_T = TypeVar("_T")


class RawClient:
    """One connection to 127.0.0.1. Every read has a deadline of `timeout` seconds and raises `TimeoutError` after it."""

    def __init__(self, port: int, *, headers: Mapping[str, str] | None = None, timeout: float = 5.0) -> None:
        self._port = port
        self._headers = {"host": "127.0.0.1", **(headers or {})}
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        """Connect."""
        self.reader, self.writer = await self._timely(asyncio.open_connection("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close without ceremony."""
        self.writer.close()

    async def post(self, body: Json | bytes, path: str = "/v1/chat/completions") -> None:
        """Send a whole POST request."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        await self.request("POST", path, data)

    async def request(self, method: str, path: str, body: bytes = b"") -> None:
        """Send a whole request with a content-length."""
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in self._headers.items())]
        await self.send("\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1") + body)

    async def send(self, *pieces: bytes) -> None:
        """Send bytes as they are, each piece on its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self._timely(self.writer.drain())

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case). Raises `ValueError` when this is not HTTP."""
        lines = (await self._timely(self.reader.readuntil(b"\r\n\r\n"))).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        _, status, _ = lines[0].split(" ", 2)
        return int(status), headers

    async def chunk(self) -> bytes:
        """The data of the next HTTP chunk; nothing at the end of the body."""
        size = int(await self._timely(self.reader.readuntil(b"\r\n")), 16)
        return (await self._timely(self.reader.readexactly(size + 2)))[:-2]

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and the whole body."""
        status, headers = await self.head()
        if "chunked" not in headers.get("transfer-encoding", ""):
            return status, headers, await self._timely(self.reader.readexactly(int(headers["content-length"])))
        body = b""
        while piece := await self.chunk():
            body += piece
        return status, headers, body

    async def events(self) -> list[Any]:
        """The JSON events of a whole stream, which must end with `[DONE]`; comments are left out."""
        _, _, body = await self.answer()
        data = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event.startswith(b"data: ")]
        assert data[-1] == b"[DONE]", f"the stream ends with {data[-1]!r}"
        return [msgspec.json.decode(event) for event in data[:-1]]

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        return await self._timely(self.reader.read())

    async def _timely(self, awaitable: Awaitable[_T]) -> _T:
        async with asyncio.timeout(self._timeout):
            return await awaitable
