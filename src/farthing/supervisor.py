"""`farthing up`: one process that keeps the others alive.

It holds the listening socket, the embedded PostgreSQL and the local chat model, and starts N gateway workers that share the socket, and
the background processes behind them. What dies is started again. SIGHUP reloads the settings. SIGTERM and SIGINT drain the workers and
stop the engines; the exit status is then 0. `farthing worker` is the same without a socket: background processes alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from farthing.app_catalogue import price_questions
from farthing.errors import SettingsError
from farthing.orders import LocalEndpoint, Orders, Runtime
from farthing.providers.local.supervisor import ChatEngine, ChatServer
from farthing.providers.local.weights import SMOLLM2, locate
from farthing.settings import Settings
from farthing.spend.price_book import open_book
from farthing.supervisor_database import HomeDatabase
from farthing.supervisor_reload import Fleet

_log = logging.getLogger("farthing.supervisor")
_BACKLOG = 2048
_CHAT_CONNECTIONS = 64
_SPARE_CONNECTIONS = 8
"""Kept free for health checks."""


class Supervisor:
    """`on_ready(url, key)` is called once, when requests can be answered; `key` is the admin key if this start made it, else None.

    `secrets` is what references in the settings file stood for (`Secrets.found`). Without `doors` it is background processes alone: they
    share nothing with other hosts but the database at `database.url`, and `url` is then "" and `key` None.
    """

    def __init__(
        self,
        settings: Settings,
        settings_path: Path | None,
        overrides: dict[str, Any],
        on_ready: Callable[[str, str | None], None],
        secrets: dict[str, str] | None = None,
        *,
        doors: bool = True,
    ) -> None:
        self._settings = settings
        self._settings_path = settings_path
        self._overrides = overrides
        self._secrets = secrets or {}
        self._on_ready = on_ready
        self._doors = doors
        self._stopping = asyncio.Event()
        self._asked_to_reload = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._fleet: Fleet | None = None
        self._chat: ChatServer | None = None
        self._database = HomeDatabase(settings, settings.data / "snapshot", with_key=doors)

    async def run(self) -> None:
        """Start everything, keep it alive, and stop it on a signal. Raises `FarthingError` when it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload.set)
        lock = _lock(self._settings.data)
        listener = _listen(self._settings.server.host, self._settings.server.port) if self._doors else None
        try:
            await self._start(listener)
            await self._stopping.wait()
        except OSError as error:  # a full disk, most likely, or no more processes
            raise SettingsError(f"Farthing cannot start on the data folder {self._settings.data}: {error.strerror or error}") from error
        finally:
            if listener is not None:
                listener.close()  # the workers close theirs: who comes now is refused, not kept waiting
            await self._stop()
            lock.close()

    async def _start(self, listener: socket.socket | None) -> None:
        """The workers load their modules while the engines start; then they get their orders."""
        settings = self._settings
        _tidy(settings.data)
        self._fleet = Fleet(listener, settings, self._settings_path, self._overrides, self._orders, self._secrets)
        self._fleet.start()
        if settings.local.enabled:
            self._chat = await self._start_chat()
        prices = asyncio.create_task(asyncio.to_thread(open_book, settings.data / "prices.json", price_questions(settings)))
        await self._database.start()
        await prices
        address = f"http://{_printable(listener)}" if listener is not None else ""
        _write_run_file(settings.data, address)
        self._fleet.begin()
        self._tasks.append(asyncio.create_task(self._follow(self._fleet)))
        if listener is not None:
            self._tasks.append(asyncio.create_task(self._announce(address)))
        self._tasks.append(asyncio.create_task(self._fleet.run(self._asked_to_reload)))

    async def _start_chat(self) -> ChatServer:
        local = self._settings.local
        engine = ChatEngine(
            model=locate(SMOLLM2),
            alias=SMOLLM2.name,
            parallel=local.parallel,
            context=local.context_tokens,
            # Its threads wait for each other by spinning: with one on a core that is busy otherwise, all become 20 times slower.
            threads=local.threads or max(1, (os.cpu_count() or 1) // 2),
            connections=_CHAT_CONNECTIONS,
        )
        chat = ChatServer(engine)
        await chat.start()
        return chat

    def _orders(self, settings: Settings, text: str | None, fixed: dict[str, Any]) -> Orders:
        """For workers under these settings; `fixed` is what the settings may say otherwise and the engines do not."""
        local = None
        if self._chat is not None:
            workers = settings.jobs.workers + (settings.server.workers if self._doors else 0)
            share = max(1, (self._chat.max_connections - _SPARE_CONNECTIONS) // max(1, workers))
            local = LocalEndpoint(base_url=self._chat.base_url, api_key=self._chat.api_key, connections=share)
        runtime = Runtime(worker="", database_url=self._database.url, handles=not settings.jobs.workers, local=local)
        return Orders(settings=text, overrides={**self._overrides, **fixed}, runtime=runtime)

    async def _follow(self, fleet: Fleet) -> None:
        await fleet.follow()
        if not self._doors:
            self._on_ready("", None)

    async def _announce(self, address: str) -> None:
        while not await _is_ready(address):  # noqa: ASYNC110 - another process; nothing here can tell
            await asyncio.sleep(0.05)
        self._on_ready(address, self._database.made)

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._fleet is not None:
            await self._fleet.stop()
        if self._chat is not None:
            await self._chat.aclose()
        await self._database.stop()
        (self._settings.data / "run.json").unlink(missing_ok=True)


def _lock(data: Path) -> Any:
    """One `farthing up` or `farthing worker` per data folder."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / "lock").open("w")
    except OSError as error:
        raise SettingsError(f"the data folder {data} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SettingsError(
            f"another `farthing up` is running on {data}, or a `farthing worker`: stop it, or give this one its own --data"
        ) from None
    return file


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port or --host") from None
    listener.listen(_BACKLOG)
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener


def _printable(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - translated for people
    return f"{host}:{port}"


def _tidy(data: Path) -> None:
    """Remove what a supervisor that was killed has left: its address, which nobody answers for, and files half made."""
    for stale in (data / "run.json", *(data / "run").glob("metrics-*.json"), *(data / "snapshot").glob("*.new")):
        stale.unlink(missing_ok=True)


def _write_run_file(data: Path, address: str) -> None:
    (data / "run.json").write_bytes(msgspec.json.encode({"url": address, "pid": os.getpid()}))


async def _is_ready(address: str) -> bool:
    host, _, port = address.removeprefix("http://").rpartition(":")
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(f"GET /readyz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            line = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in line
