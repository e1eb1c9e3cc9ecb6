"""Servers that a benchmark starts, waits for, weighs and stops. Only what was started here is ever signalled, by process id."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PROC = Path("/proc")


class NotReady(Exception):
    """A server ended, or did not answer as it should in time. The message holds the end of its log."""


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server and all its descendants.

    `ready_url` is polled until it answers `ready_status`; it may be a function of the log so far. Processes below the first whose
    command holds `worker_mark` are the gateway workers; without a mark the first process is. A daemon that the server leaves its tree
    (a database) is known by `daemon_mark` in its command: choose something that only this run can have, such as its own new directory.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        ready_url: str | Callable[[str], str | None],
        env: Mapping[str, str] | None = None,
        worker_mark: str | None = None,
        daemon_mark: str | None = None,
        ready_status: int = 200,
        timeout_s: float = 120.0,
    ) -> None:
        self.name = name
        self.url = ""
        self._argv = list(argv)
        self._log = log
        self._ready_url = ready_url
        self._env = {**os.environ, **(env or {})}
        self._worker_mark = worker_mark
        self._daemon_mark = daemon_mark
        self._ready_status = ready_status
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start and wait. Returns the seconds until ready."""
        started = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self._env, start_new_session=True
            )
        while time.perf_counter() - started < self._timeout_s:
            if self._process.poll() is not None:
                raise NotReady(f"{self.name} ended with {self._process.returncode}: {self.log_end()}")
            url = self._ready_url if isinstance(self._ready_url, str) else self._ready_url(self._log.read_text(errors="replace"))
            if url and _status(url) == self._ready_status:
                self.url = url
                return time.perf_counter() - started
            time.sleep(0.005)
        self.stop()
        raise NotReady(f"{self.name} was not ready after {self._timeout_s:.0f} s: {self.log_end()}")

    def log_end(self) -> str:
        """The last of what the server wrote."""
        return self._log.read_text(errors="replace")[-1500:]

    def stop(self, grace_s: float = 15.0) -> None:
        """SIGTERM, and after `grace_s` SIGKILL to what is left of the tree."""
        if self._process is None:
            return
        tree = descendants(self._process.pid)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(grace_s)
        for pid, started_at in tree.items():
            if _start_time(pid) == started_at:
                os.kill(pid, signal.SIGKILL)
        self._process = None

    def daemons(self) -> list[int]:
        """Processes outside of the tree that carry the daemon mark, parents before children."""
        if self._daemon_mark is None:
            return []
        tree = {os.getpid(), *([self._process.pid, *descendants(self._process.pid)] if self._process else [])}
        return sorted(pid for pid in _pids() if pid not in tree and self._daemon_mark in _command(pid))

    def memory(self) -> dict[str, Any]:
        """Resident and proportional megabytes of the tree and of its gateway workers, and what each process is."""
        assert self._process is not None
        root = self._process.pid
        pids = dict.fromkeys(pid for top in (root, *self.daemons()) for pid in (top, *descendants(top)))
        rows = [row for pid in pids if (row := _weigh(pid)) is not None]
        workers = [row for row in rows if row["pid"] != root and self._worker_mark and self._worker_mark in row["command"]] or rows[:1]
        return {
            "processes": rows,
            "pss_mb": round(sum(row["pss_mb"] for row in rows), 1),
            "worker_rss_mb": max(row["rss_mb"] for row in workers),
            "worker_pss_mb": max(row["pss_mb"] for row in workers),
            "workers": len(workers),
        }


def end_daemons(mark: str, grace_s: float = 10.0) -> list[str]:
    """End what servers left running: processes with `mark` in their command, which must be something that only this run can have.

    SIGINT (to PostgreSQL: disconnect all and shut down), then SIGKILL. Returns their commands.
    """
    left = {pid: _command(pid) for pid in _pids() if pid != os.getpid() and mark in _command(pid)}
    started_at = {pid: _start_time(pid) or 0 for pid in left}
    for pid in left:
        os.kill(pid, signal.SIGINT)
    until = time.monotonic() + grace_s
    while time.monotonic() < until and any(_start_time(pid) == started_at[pid] for pid in left):
        time.sleep(0.05)
    for pid in left:
        if _start_time(pid) == started_at[pid]:
            os.kill(pid, signal.SIGKILL)
    return list(left.values())


def descendants(root: int) -> dict[int, int]:
    """Process ids below `root`, each with its start time (which tells a reused id apart)."""
    parents: dict[int, int] = {}
    for pid in _pids():
        if fields := _stat(pid):
            parents[pid] = int(fields[1])
    found: dict[int, int] = {}
    frontier = {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found |= {pid: started for pid in frontier if (started := _start_time(pid)) is not None}
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def _command(pid: int) -> str:
    """The command line; nothing when the process has gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command; nothing when the process has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _start_time(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _weigh(pid: int) -> dict[str, Any] | None:
    try:
        rollup = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return None
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:] if line.endswith("kB")}
    return {"pid": pid, "command": _command(pid)[:160], "rss_mb": round(sizes["Rss"] / 1024, 1), "pss_mb": round(sizes["Pss"] / 1024, 1)}


def _status(url: str) -> int | None:
    """The status that a GET gets; None when there is no answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=2)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
