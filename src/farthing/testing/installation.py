"""A whole Farthing as a user runs it: `farthing up` in a process of its own, on a free port, in a folder of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

_START_S = 60.0
_STOP_S = 45.0


class Installation:
    """`with Installation(folder, settings) as farthing:` starts it and waits until it is ready; leaving stops it by SIGTERM.

    `settings` are those of `farthing.yaml`; `environ` adds environment variables. The data are in `folder/data_name`. The folder must not
    lie below /root, which the embedded PostgreSQL cannot read. Output is in `log`.

    `background`: how many background processes (setting `jobs.workers`). 0 by default, so that a test has no process that it does not
    need: the gateway workers then do that work. None leaves it to the settings.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any] | None = None,
        *,
        workers: int = 1,
        background: int | None = 0,
        environ: Mapping[str, str] | None = None,
        data_name: str = "data",
    ) -> None:
        self.folder = folder
        self.data = folder / data_name
        self.log = folder / "farthing.log"
        self.settings = folder / "farthing.yaml"
        self.workers = workers
        self.port = free_port()
        chosen = {} if background is None else {"FARTHING_JOBS__WORKERS": str(background)}
        self._environ = {**os.environ, **chosen, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.settings.write_text(yaml.safe_dump(dict(settings or {})), encoding="utf-8")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """For OpenAI's SDK."""
        return f"{self.url}/v1"

    @property
    def key(self) -> str:
        """The bootstrap admin key."""
        return (self.data / "admin.key").read_text(encoding="utf-8").strip()

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def worker_pids(self) -> list[int]:
        """The gateway workers that live now."""
        return [pid for pid, command in _children(self.pid) if "farthing.worker" in command]

    def background_pids(self) -> list[int]:
        """The background processes that live now."""
        return [pid for pid, command in _children(self.pid) if "farthing.job_worker" in command]

    def chat_pids(self) -> list[int]:
        """The local chat model's process, if it lives."""
        return [pid for pid, command in _children(self.pid) if "chat_server" in command]

    def postmaster_pid(self) -> int:
        """The embedded PostgreSQL. Raises OSError while it is not running."""
        return int((self.data / "postgres" / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])

    @property
    def database_url(self) -> str:
        """The embedded PostgreSQL, for whoever wants to look for himself. See docs/schema.md."""
        return f"postgresql://postgres@/postgres?host={self.data / 'postgres'}"

    def start(self) -> None:
        """Start it and wait until /readyz says 200. Raises `RuntimeError` with its output when it does not get there."""
        command = [sys.executable, "-m", "farthing.cli.main", "up", "--port", str(self.port), "--workers", str(self.workers)]
        command += ["--data", str(self.data), "--settings", str(self.settings)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environ, cwd=self.folder)  # noqa: S603 - our own command
        deadline = time.monotonic() + _START_S
        while self.get("/readyz")[0] != http.client.OK:
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(encoding="utf-8", errors="replace")[-4000:]
                self.stop()
                raise RuntimeError(f"farthing up did not become ready:\n{said}")
            time.sleep(0.05)

    def stop(self) -> int:
        """Stop it as an operator would. Returns its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """`kill -9` of the supervisor alone. What it started is left to itself."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait()

    def get(self, path: str, *, key: str | None = None) -> tuple[int, bytes]:
        """A GET on a connection of its own: (status, body); status 0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def report(self, **query: str) -> dict[str, Any]:
        """The report over the last hour, once the ledger's writer has had its turn."""
        text = "&".join(f"{name}={value}" for name, value in {"since": "1h", **query}.items())
        status, body = self.get(f"/admin/v1/report?{text}", key=self.key)
        assert status == http.client.OK, body
        found: dict[str, Any] = json.loads(body)
        return found

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `farthing` command against this installation."""
        command = [sys.executable, "-m", "farthing.cli.main", *arguments]
        environ = {**self._environ, "FARTHING_DATA": str(self.data), "FARTHING_SETTINGS": str(self.settings)}
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60, env=environ, cwd=self.folder)  # noqa: S603 - our own command

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _children(pid: int) -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int(entry.joinpath("stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            command = entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            found.append((int(entry.name), command))
    return found
