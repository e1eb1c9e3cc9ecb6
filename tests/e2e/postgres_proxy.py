"""A PostgreSQL that can be taken away: a TCP port in front of an installation's embedded server, with moods."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from farthing.testing.installation import Installation

Result = TypeVar("Result")

_HEAD = 5
_NOTIFICATION = b"A"


class PostgresProxy:
    """`away()`: connections are cut and refused, as by a server that was stopped. `hang()`: nothing gets through in either direction, as
    by a server that froze. `back()`: as at first. `deaf`: notifications are left out, as by a pooler in transaction mode.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self.deaf = False
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        self.back()

    def stop(self) -> None:
        self.away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def away(self) -> None:
        self._call(self._away)

    def hang(self) -> None:
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def back(self) -> None:
        self._call(self._back)

    def _call(self, function: Callable[[], Any]) -> None:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(function(), self._loop)
        future.result(10)

    async def _away(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _back(self) -> None:
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._link, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        upward: asyncio.StreamWriter | None = None
        try:
            answers, upward = await asyncio.open_unix_connection(str(self._socket))
            there = asyncio.create_task(self._bytes(reader, upward))
            here = asyncio.create_task(self._messages(answers, writer))
            try:
                await asyncio.wait({there, here}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                here.cancel()
                await asyncio.gather(there, here, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._links.discard(task)
            for end in (writer, upward):
                if end is not None:
                    end.transport.abort()

    async def _bytes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()

    async def _messages(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(_HEAD)
                body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                await self._flowing.wait()
                if not (self.deaf and head[:1] == _NOTIFICATION):
                    writer.write(head + body)
                    await writer.drain()


@contextmanager
def database_behind(host: Installation, name: str) -> Iterator[tuple[PostgresProxy, str]]:
    """A database of its own in the server of `host`, and the URL that leads there through a proxy."""
    with psycopg.connect(host.database_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    proxy = PostgresProxy(host.data / "postgres" / ".s.PGSQL.5432")
    proxy.start()
    try:
        yield proxy, f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}?sslmode=disable&gssencmode=disable"
    finally:
        proxy.stop()


class Outpost(Installation):
    """An installation whose database is behind a proxy. `database_url`, for the test itself, leads around it."""

    def __init__(self, folder: Path, settings: dict[str, Any], host: Installation, url: str, name: str, *, workers: int = 1) -> None:
        self._direct = f"postgresql://postgres@/{name}?host={host.data / 'postgres'}"
        super().__init__(folder, {**settings, "database": {"url": url, **settings.get("database", {})}}, workers=workers)

    @property
    def database_url(self) -> str:
        return self._direct
