"""Keeps the local chat model's process alive: starts it, asks after its health, and starts it again when it dies or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
from collections import deque
from pathlib import Path

import msgspec

from farthing.errors import Unavailable
from farthing.providers.local.chat_server import KEY_VARIABLE

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL", "HOME")
_STARTING_INTERVAL_S = 0.05
_LOG_LINE_BYTES = 4096
_LOG_LINES_KEPT = 20


class ChatEngine(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told. `context` is in tokens for each of `parallel` requests; a token of context costs 23 KB of memory.

    `connections` bounds the open connections, idle ones included: a client must stay within it, or health checks find no thread.
    """

    model: Path
    alias: str
    parallel: int = 2
    context: int = 4096
    threads: int = 2
    connections: int = 64


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """When the process counts as hung, and how it is brought back. All in seconds but `failed_checks`.

    The pause before a restart doubles from `backoff_s` to `max_backoff_s` while lives stay shorter than `stable_s`.
    """

    start_timeout_s: float = 30.0
    check_interval_s: float = 1.0
    check_timeout_s: float = 2.0
    failed_checks: int = 3
    backoff_s: float = 0.1
    max_backoff_s: float = 10.0
    stable_s: float = 10.0
    grace_s: float = 3.0


def pause_before_restart(short_lives: int, supervision: Supervision) -> float:
    """Seconds to wait after so many lives in a row that ended before `stable_s`."""
    exponent = min(max(short_lives - 1, 0), 30)
    return min(supervision.backoff_s * 2.0**exponent, supervision.max_backoff_s)


class ChatServer:
    """The supervised process. Port and key stay the same over all its lives.

    The port is held by a bound, never listening socket of ours with SO_REUSEPORT, so that between two lives no stranger can take it:
    the kernel lets only processes of the same user share it.
    """

    def __init__(self, engine: ChatEngine, supervision: Supervision | None = None) -> None:
        self._engine = engine
        self._supervision = supervision or Supervision()
        self._reserved: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._pid: int | None = None
        self._last_words: deque[str] = deque(maxlen=_LOG_LINES_KEPT)
        self.api_key = secrets.token_urlsafe(32)
        self.port = 0
        self.restarts = 0

    @property
    def base_url(self) -> str:
        """Where the OpenAI-compatible doors are. Meaningful after `start`."""
        return f"http://{_HOST}:{self.port}/v1"

    @property
    def pid(self) -> int | None:
        """The process of the present life; None between lives."""
        return self._pid

    @property
    def ready(self) -> bool:
        """Whether the process answered its last health check."""
        return self._up.is_set()

    @property
    def max_connections(self) -> int:
        """How many connections a client may hold open, idle ones included."""
        return self._engine.connections

    async def start(self) -> None:
        """Begin to keep the process alive; returns before it is ready. A no-op when begun already."""
        if self._task is not None:
            return
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind((_HOST, 0))
        self.port = self._reserved.getsockname()[1]
        self._task = asyncio.create_task(self._keep_alive(), name="local-chat-supervisor")

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until the process answers. Raises `Unavailable`, with its last words, when that takes longer; supervision goes on."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            words = " | ".join(self._last_words) or "it has said nothing"
            raise Unavailable(f"the local chat model is not up after {timeout_s:g} s: {words}", retry_after_s=1.0) from None

    async def aclose(self) -> None:
        """Stop the process (SIGTERM, then SIGKILL after `grace_s`) and give the port back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        short_lives = 0
        while True:
            born = loop.time()
            try:
                reason = await self._live()
            except OSError as error:  # no process could be made: out of memory, of process ids, of file descriptors
                reason = f"could not be started: {error}"
            short_lives = 0 if loop.time() - born >= self._supervision.stable_s else short_lives + 1
            pause = pause_before_restart(short_lives, self._supervision)
            log.warning("the local chat model %s; starting it again in %g s", reason, pause)
            await asyncio.sleep(pause)
            self.restarts += 1

    async def _live(self) -> str:
        """One life of the process, from start to reaped. Returns how it ended."""
        process = await self._spawn()
        self._pid = process.pid
        listening = asyncio.create_task(self._listen(process), name="local-chat-log")
        kill_at_once = False
        try:
            reason = await self._watch(process)
            kill_at_once = True  # either dead already or deaf: a polite signal is wasted
            return reason
        finally:
            self._up.clear()
            self._pid = None
            await self._end(process, grace_s=0.0 if kill_at_once else self._supervision.grace_s)
            await listening

    async def _spawn(self) -> asyncio.subprocess.Process:
        engine = self._engine
        arguments = {
            "--model": engine.model,
            "--alias": engine.alias,
            "--port": self.port,
            "--parent": os.getpid(),
            "--parallel": engine.parallel,
            "--ctx-size": engine.context,
            "--threads": engine.threads,
            "--connections": engine.connections,
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}  # the provider keys are none of its business
        environment |= {KEY_VARIABLE: self.api_key, "MALLOC_ARENA_MAX": "2"}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "farthing.providers.local.chat_server", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_LOG_LINE_BYTES,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the gateway, which drains first and then stops us
        )

    async def _watch(self, process: asyncio.subprocess.Process) -> str:
        """Ask after its health until the process is dead, hung, or not up in time. Returns what was wrong."""
        supervision = self._supervision
        deadline = asyncio.get_running_loop().time() + supervision.start_timeout_s
        failed = 0
        while True:
            if await self._healthy():
                failed = 0
                self._up.set()
            elif self.ready or failed:
                failed += 1
                self._up.clear()
            elif asyncio.get_running_loop().time() > deadline:
                return f"was not up within {supervision.start_timeout_s:g} s"
            if failed >= supervision.failed_checks:
                return f"failed {failed} health checks in a row"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(supervision.check_interval_s if self.ready or failed else _STARTING_INTERVAL_S):
                    return f"ended with status {await process.wait()}"

    async def _healthy(self) -> bool:
        """One `GET /health`, within `check_timeout_s`. A process that still loads its model answers 503."""
        writer = None
        try:
            async with asyncio.timeout(self._supervision.check_timeout_s):
                reader, writer = await asyncio.open_connection(_HOST, self.port)
                writer.write(f"GET /health HTTP/1.1\r\nHost: {_HOST}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
                return status.startswith(b"HTTP/1.1 200 ")
        except (OSError, ValueError):  # TimeoutError is an OSError; ValueError: a line without end
            return False
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Hand what the process says to our log, line by line, and keep its last words for `wait_ready`."""
        stderr = process.stderr
        assert stderr is not None
        while True:
            try:
                line = await stderr.readline()
            except ValueError:  # longer than _LOG_LINE_BYTES: dropped
                continue
            if not line:
                return
            text = line.decode("utf-8", "backslashreplace").strip()
            if text:
                self._last_words.append(text)
                log.info("local chat model says: %r", text)

    async def _end(self, process: asyncio.subprocess.Process, *, grace_s: float) -> None:
        """Make sure that the process is dead and reaped."""
        if process.returncode is None and grace_s > 0:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await process.wait()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
