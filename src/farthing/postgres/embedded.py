"""The embedded PostgreSQL: a real server in the data folder, started, watched, restarted and stopped by one supervising process.

It listens on a Unix socket inside its folder and nowhere else. As root it runs as the system user `embedded_postgres`, which is made
where it does not exist, and every folder above the data and above this installation is opened to reading for all users, because that
user must pass through them: keep both out of root's home.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg

from farthing.errors import FarthingError, SettingsError, Unavailable
from farthing.postgres import server_process

_LOG = logging.getLogger(__name__)

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "''",
    "unix_socket_permissions": "0700",  # root and the server's own user; there is no password
    "max_connections": "64",
    "shared_buffers": "64MB",
    "effective_cache_size": "512MB",
    "maintenance_work_mem": "64MB",
    "min_wal_size": "64MB",
    "max_wal_size": "512MB",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "jit": "off",  # our statements are short
    "synchronous_commit": "on",  # the ledger is money
    "max_worker_processes": "4",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "2",
    # Errors of statements may quote values, prompts among them. They go to us and not into the log; what befalls the server does.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
}
"""Tuned for a small share of a machine that others use too."""

_SAFE_PATH = re.compile(r"[A-Za-z0-9/._+@=,~-]+")


class EmbeddedPostgres:
    """The server in one data folder (`DIR/postgres`).

    One process at a time may hold it: a second `start` raises `SettingsError`. A server left running by a holder that was killed is
    taken over. `settings` go on top of `SETTINGS` (values as in postgresql.conf). `start_s` bounds start and crash recovery, in
    seconds; the server's log keeps between `max_log_bytes` and twice that. Bound to no event loop; blocking work runs in threads.
    """

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] | None = None, start_s: float = 60.0, max_log_bytes: int = 4_000_000
    ) -> None:
        self._folder = folder.expanduser().absolute()
        self._settings = {**SETTINGS, **(settings or {})}
        self._start_s = start_s
        self._max_log_bytes = max_log_bytes
        self._lock: int | None = None
        self._server: server_process.Server | None = None

    @property
    def uri(self) -> str:
        """Where workers connect. Raises `Unavailable` before the first start."""
        if self._server is None or self._server.socket_folder is None:
            raise Unavailable("The embedded PostgreSQL was not started.")
        return _uri(self._server.socket_folder)

    @property
    def expected_uri(self) -> str:
        """`uri`, and before a start where it will be: for those who are to try until somebody answers. Blocks on the disk."""
        if self._server is not None and self._server.socket_folder is not None:
            return self.uri
        return _uri(server_process.expected_socket_folder(self._folder.resolve()))

    @property
    def pid(self) -> int | None:
        """The process id of the server; None when it is not running."""
        return server_process.postmaster_pid(self._folder)

    async def start(self) -> None:
        """Make the data folder where there is none, start the server, and return when it answers. A no-op when it runs.

        Cold 1.5 s, warm 0.3 s. Raises `SettingsError` when the folder cannot be used, `Unavailable` when the server does not come up;
        the folder is then still held for another try, until `stop`.
        """
        if self._lock is None:
            self._folder = self._checked(self._folder)
            self._lock = await asyncio.to_thread(_hold, self._folder)
        await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        """Stop the server (open connections are ended) and let go of the folder. A no-op when stopped."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.stop)
        self._let_go()

    async def healthy(self, timeout_s: float = 2.0) -> bool:
        """Whether the server answers a query within so many seconds."""
        try:
            async with asyncio.timeout(timeout_s), await psycopg.AsyncConnection.connect(self.uri, connect_timeout=2) as connection:
                await connection.execute("SELECT 1")
        except (psycopg.Error, TimeoutError, Unavailable):
            return False
        return True

    async def ensure(self) -> bool:
        """Bring the server back when its process has died, and keep its log small. True when it had to be restarted."""
        await asyncio.to_thread(server_process.shorten, self._folder / "log", self._max_log_bytes)
        if self.pid is not None:
            return False
        _LOG.error("the embedded PostgreSQL has died and is restarted")
        await self.start()
        return True

    async def supervise(self, interval_s: float = 0.5) -> None:
        """Look after the server until cancelled. A restart that fails is tried again, after pauses of up to 30 s."""
        pause = interval_s
        while True:
            await asyncio.sleep(pause)
            try:
                await self.ensure()
            except FarthingError:
                _LOG.exception("the embedded PostgreSQL could not be restarted")
                pause = min(pause * 2, 30.0)
            else:
                pause = interval_s

    def _start(self) -> None:
        deadline = time.monotonic() + self._start_s
        if self._server is None:
            self._server = server_process.Server(self._folder, self._settings)
        self._server.start(deadline)

    def _checked(self, folder: Path) -> Path:
        """The real path of the folder. Raises `SettingsError` when no server can live there."""
        folder = folder.resolve()
        if not _SAFE_PATH.fullmatch(str(folder)):
            raise SettingsError(f"The data folder {folder} has a character in its path that PostgreSQL's starter cannot take.")
        if os.geteuid() == 0:
            home = Path("~root").expanduser().resolve()
            for path, what in ((folder, "The data folder"), (server_process.installation(), "The environment of Farthing")):
                if path.is_relative_to(home):
                    raise SettingsError(
                        f"{what} ({path}) is in root's home, which the user embedded_postgres may not enter. "
                        "Use another place, another user than root, or set database.url."
                    )
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder

    def _let_go(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(OSError):
                os.close(lock)


def _uri(socket_folder: Path) -> str:
    return f"postgresql://postgres@/postgres?host={quote(str(socket_folder), safe='')}"


def _hold(folder: Path) -> int:
    """Lock the data folder for this process; the system unlocks it when the process ends, however it ends."""
    path = folder.with_name(folder.name + ".lock")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise SettingsError(f"The database in {folder} is already in use by process {holder}.") from error
    os.truncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock
