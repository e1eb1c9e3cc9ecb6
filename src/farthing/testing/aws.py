"""AWS on this machine: the emulator `ministack` in a process of its own, on a free port of 127.0.0.1, without Docker.

What it is good for and where it lies is in the project's notes: assert effects, never statuses. With `auth` it verifies signatures.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from farthing.testing.installation import free_port

_START_S = 30.0
_STOP_S = 10.0


class Ministack:
    """`with Ministack(services="secretsmanager") as aws:` starts it; `aws.url` is the endpoint of all its services.

    `chat_url` is an OpenAI-compatible server (without `/v1`) that answers what Bedrock is asked. `environ` adds variables.
    """

    def __init__(self, services: str, *, auth: bool = False, chat_url: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="ministack-", dir="/tmp"))
        own = {
            "IOT_MTLS_ENABLED": "0",  # else it listens on all addresses
            "SFTP_ENABLED": "0",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "TMPDIR": str(self.folder),
            "SERVICES": services,
            "AUTH": "true" if auth else "false",
            "LOG_LEVEL": "WARNING",
            "MINISTACK_BEDROCK_PROXY_URL": chat_url or "",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FARTHING_"))}
        self._environ = {**inherited, **own, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "ministack"], stdout=log, stderr=log, env=self._environ)
        deadline = time.monotonic() + _START_S
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-4000:]
                self.__exit__()
                raise RuntimeError(f"ministack did not start:\n{said}")
            time.sleep(0.05)
        return self

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop it. A no-op the second time."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
