"""`farthing up`: one process that keeps the others alive.

It holds the listening socket, the embedded PostgreSQL and the local chat model, and starts N gateway workers that share the socket. What
dies is started again. SIGTERM and SIGINT drain the workers and stop the engines; the exit status is then 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from farthing.app_catalogue import price_questions
from farthing.errors import SettingsError
from farthing.http.auth import digest_of, new_key
from farthing.orders import LocalEndpoint, Orders, Runtime
from farthing.postgres.embedded import EmbeddedPostgres
from farthing.postgres.keys import PostgresKeys
from farthing.postgres.migrate import migrate
from farthing.postgres.pool import Database
from farthing.providers.local.supervisor import ChatEngine, ChatServer
from farthing.providers.local.weights import SMOLLM2, locate
from farthing.settings import Settings
from farthing.spend.price_book import open_book
from farthing.types import KeyRecord, new_id, utc_now

_log = logging.getLogger("farthing.supervisor")
_BACKLOG = 2048
_RESTART_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_KILL_AFTER_S = 5.0
_CHAT_CONNECTIONS = 64
_SPARE_CONNECTIONS = 8
"""Kept free for health checks."""
ADMIN_TENANT = "default"


class Supervisor:
    """`on_ready(url, key)` is called once, when requests can be answered; `key` is the admin key if this start made it, else None."""

    def __init__(
        self,
        settings: Settings,
        settings_path: Path | None,
        overrides: dict[str, Any],
        on_ready: Callable[[str, str | None], None],
    ) -> None:
        self._settings = settings
        self._settings_path = settings_path
        self._overrides = overrides
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._workers: dict[int, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._chat: ChatServer | None = None
        self._postgres: EmbeddedPostgres | None = None

    async def run(self) -> None:
        """Start everything, keep it alive, and stop it on a signal. Raises `FarthingError` when it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        lock = _lock(self._settings.data)
        listener = _listen(self._settings.server.host, self._settings.server.port)
        try:
            await self._start(listener)
            await self._stopping.wait()
        finally:
            listener.close()  # the workers close theirs: who comes now is refused, not kept waiting
            await self._stop()
            lock.close()

    async def _start(self, listener: socket.socket) -> None:
        """The workers load their modules while the engines start; then they get their orders."""
        settings = self._settings
        ready: asyncio.Future[Runtime] = asyncio.get_running_loop().create_future()
        for slot in range(settings.server.workers):
            self._tasks.append(asyncio.create_task(self._keep_worker(slot, listener, ready)))
        if settings.local.enabled:
            self._chat = await self._start_chat()
        prices = asyncio.create_task(asyncio.to_thread(open_book, settings.data / "prices.json", price_questions(settings)))
        if settings.database.url is None:
            self._postgres = EmbeddedPostgres(settings.data / "postgres")
            await self._postgres.start()
            self._tasks.append(asyncio.create_task(self._postgres.supervise()))
            url = self._postgres.uri
        else:
            url = settings.database.url.get_secret_value()
        made = await self._prepare(url)
        await prices
        address = f"http://{_printable(listener)}"
        _write_run_file(settings.data, address)
        ready.set_result(self._runtime(url))
        self._tasks.append(asyncio.create_task(self._announce(address, made)))

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

    async def _prepare(self, url: str) -> str | None:
        """Bring the schema up to date and see that the admin key in the data folder is valid. Returns the key if it was made now."""
        await migrate(url)
        path = self._settings.data / "admin.key"
        made = None
        if not path.exists():
            made = new_key()
            _write_secret(path, made)
        key = path.read_text(encoding="utf-8").strip()
        database = Database(url, connect_timeout_s=self._settings.database.connect_timeout_s)
        await database.open()
        try:
            record = KeyRecord(
                id=new_id(),
                tenant=ADMIN_TENANT,
                tier="admin",
                name="bootstrap",
                digest=digest_of(key),
                hint=key[-4:],
                admin=True,
                created_at=utc_now(),
            )
            await PostgresKeys(database).add(record)
        finally:
            await database.close()
        return made

    def _runtime(self, url: str) -> Runtime:
        local = None
        if self._chat is not None:
            share = max(1, (self._chat.max_connections - _SPARE_CONNECTIONS) // self._settings.server.workers)
            local = LocalEndpoint(base_url=self._chat.base_url, api_key=self._chat.api_key, connections=share)
        return Runtime(worker="", database_url=url, local=local)

    async def _keep_worker(self, slot: int, listener: socket.socket, ready: asyncio.Future[Runtime]) -> None:
        pause = _RESTART_PAUSE_S
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            process = await self._spawn(listener)
            self._workers[slot] = process
            self._order(process, listener, await asyncio.shield(ready))
            status = await process.wait()
            del self._workers[slot]
            if self._stopping.is_set():
                return
            pause = _RESTART_PAUSE_S if loop.time() - began > _LONGEST_PAUSE_S else min(pause * 2, _LONGEST_PAUSE_S)
            _log.error("worker %d ended with status %s and is started again in %.1f s", slot, status, pause)
            await asyncio.sleep(pause)

    async def _spawn(self, listener: socket.socket) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "farthing.worker"),
            stdin=asyncio.subprocess.PIPE,
            env={
                "MALLOC_ARENA_MAX": "2",
                **os.environ,
            },  # glibc gives each thread a heap of its own, which a worker's few threads do not need
            pass_fds=(listener.fileno(),),
            start_new_session=True,  # Ctrl-C in the terminal is for this process, which lets them drain
        )

    def _order(self, process: asyncio.subprocess.Process, listener: socket.socket, runtime: Runtime) -> None:
        """Tell a worker to begin. Its standard input stays open as long as this process lives."""
        orders = Orders(
            settings=str(self._settings_path) if self._settings_path else None,
            overrides=self._overrides,
            socket=listener.fileno(),
            runtime=msgspec.structs.replace(runtime, worker=f"{process.pid}-{secrets.token_hex(4)}"),
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(orders) + b"\n")

    async def _announce(self, address: str, made: str | None) -> None:
        while not await _is_ready(address):  # noqa: ASYNC110 - another process; nothing here can tell
            await asyncio.sleep(0.05)
        self._on_ready(address, made)

    async def _stop(self) -> None:
        self._stopping.set()
        processes = list(self._workers.values())
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        if processes:
            waits = [asyncio.create_task(process.wait()) for process in processes]
            _, late = await asyncio.wait(waits, timeout=self._settings.server.drain_s + _KILL_AFTER_S)
            if late:
                for process in processes:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                await asyncio.wait(late)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._chat is not None:
            await self._chat.aclose()
        if self._postgres is not None:
            await self._postgres.stop()
        (self._settings.data / "run.json").unlink(missing_ok=True)


def _lock(data: Path) -> Any:
    """One `farthing up` per data folder."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / "lock").open("w")
    except OSError as error:
        raise SettingsError(f"the data folder {data} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SettingsError(f"another `farthing up` is running on {data}: stop it, or give this one its own --data") from None
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


def _write_secret(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _write_run_file(data: Path, address: str) -> None:
    for stale in (data / "run").glob("metrics-*.json"):
        stale.unlink(missing_ok=True)
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
