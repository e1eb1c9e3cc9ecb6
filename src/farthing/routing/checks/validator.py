"""An operator's own function says whether an answer is good. It runs in a process of its own: see `validator_process`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from farthing.routing.checks.check import Answered
from farthing.routing.checks.placed import CannotTell
from farthing.routing.checks.reading import text_in
from farthing.routing.checks.validator_process import HEADER, Call, Loaded, Reply, frame
from farthing.settings import ValidatorCheckSettings
from farthing.types import Json

_log = logging.getLogger("farthing.routing")
_LOAD_S = 30.0
_PARALLEL = 16
_MOST_WAITING = 256
_MOST_BYTES = 8 * 2**20
"""Of a request with its answer; what is larger is not shown to a validator."""
_MOST_REPLY_BYTES = 2**16
_GRACE_S = 0.25
"""How much longer than the function's own time its process is waited for."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0

_Message = TypeVar("_Message", bound=msgspec.Struct)


class Validator:
    """Asks the process of its entry point. The function sees the text of the first choice, and the request as it came."""

    def __init__(self, settings: ValidatorCheckSettings, process: ValidatorProcess) -> None:
        self._process = process
        self._timeout_s = settings.timeout_s

    async def judge(self, answered: Answered) -> str | None:
        """See `Check`. Raises `CannotTell`."""
        if not answered.whole:
            return None
        return await self._process.ask(text_in(answered.body), answered.request.body, self._timeout_s)


class ValidatorProcess:
    """One process, started by the first call or by `start`, and again when it has ended or was killed because it hung.

    When that happens several times in a row it is left alone for a second, two, … a minute; calls learn at once that it is away. A
    synchronous function gets one call at a time, an asynchronous one up to 16; at most 256 wait. `clock` gives seconds.
    """

    def __init__(self, entry_point: str, memory_mb: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.entry_point = entry_point
        self._memory_mb = memory_mb
        self._clock = clock
        self._running: _Running | None = None
        self._starting: asyncio.Task[_Running] | None = None
        self._waiting = 0
        self._failures = 0
        self._not_before = 0.0

    def start(self) -> None:
        """Begin to load the function, so that the first call need not wait for it."""
        if self._starting is None and self._running is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._started)

    async def ask(self, text: str, request: Json, timeout_s: float) -> str | None:
        """Why the function rejects a text; None when it does not. Raises `CannotTell`, within `timeout_s` and a quarter of a second."""
        if self._waiting >= _MOST_WAITING:
            raise CannotTell("too many calls wait for it")
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s + _GRACE_S):
                reply = await self._at_its_turn(text, request, timeout_s)
        except TimeoutError:
            raise CannotTell(f"it took longer than {timeout_s:g} s") from None
        finally:
            self._waiting -= 1
        if reply.error is not None:
            raise CannotTell(reply.error)
        return reply.rejected

    async def _at_its_turn(self, text: str, request: Json, timeout_s: float) -> Reply:
        while True:
            running = await self._there()
            async with running.turns:
                if not running.ended:  # it may have, while we waited for our turn
                    return await self._asked(running, text, request, timeout_s)

    async def _asked(self, running: _Running, text: str, request: Json, timeout_s: float) -> Reply:
        try:
            async with asyncio.timeout(timeout_s + _GRACE_S / 2):
                reply = await running.ask(text, request, timeout_s)
        except TimeoutError:
            self._drop(running)
            raise
        except _Ended:
            self._drop(running)
            raise CannotTell("its process ended") from None
        self._failures = 0
        return reply

    async def _there(self) -> _Running:
        """The process, as soon as it has loaded the function."""
        if self._running is not None and not self._running.ended:
            return self._running
        if self._running is not None:
            self._drop(self._running)
        if self._starting is None and self._clock() < self._not_before:
            raise CannotTell("its process failed several times in a row and is left alone for a while")
        self.start()
        assert self._starting is not None
        return await asyncio.shield(self._starting)

    async def _start(self) -> _Running:
        try:
            running = await launch(self.entry_point, self._memory_mb)
        except CannotTell as why:
            self._failed()
            _log.error("the validator %s cannot be loaded: %s", self.entry_point, why)
            raise
        self._running = running
        return running

    def _started(self, task: asyncio.Task[_Running]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # told to whoever asked; nobody may have

    def _drop(self, running: _Running) -> None:
        """Kill it; the next call starts another one."""
        running.kill()
        if self._running is running:
            self._running = None
            self._failed()

    def _failed(self) -> None:
        self._failures += 1
        if self._failures > 1:
            self._not_before = self._clock() + min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures - 2, 10))

    async def close(self) -> None:
        """End the process, and wait for that."""
        starting, running = self._starting, self._running
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        if running is not None:
            await running.close()


class _Ended(Exception):
    """The process is gone, or talks nonsense."""


class _Running:
    """A process that has loaded its function."""

    def __init__(self, process: asyncio.subprocess.Process, *, parallel: bool) -> None:
        self.turns = asyncio.Semaphore(_PARALLEL if parallel else 1)
        self.ended = False
        self._process = process
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._calls = 0
        self._reading = asyncio.create_task(self._read())

    async def ask(self, text: str, request: Json, timeout_s: float) -> Reply:
        """Raises `_Ended`, and `CannotTell` for what is too large."""
        self._calls += 1
        number = self._calls
        try:
            call = frame(Call(id=number, text=text, request=request, timeout_s=timeout_s))
        except (UnicodeEncodeError, RecursionError, ValueError):
            raise CannotTell("the answer cannot be written as JSON") from None
        if len(call) > _MOST_BYTES:
            raise CannotTell("the request and its answer are too large for a validator")
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            if self.ended:
                raise _Ended
            assert self._process.stdin is not None
            self._process.stdin.write(call)
            await self._process.stdin.drain()
            return await reply
        except OSError:
            raise _Ended from None
        finally:
            self._replies.pop(number, None)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(_Ended):
            while True:
                reply = await _frame(self._process.stdout, Reply)
                waiting = self._replies.get(reply.id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        self.kill()

    def kill(self) -> None:
        """End it, and whoever waits for it."""
        self.ended = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        for waiting in self._replies.values():
            if not waiting.done():
                waiting.set_exception(_Ended())

    async def close(self) -> None:
        """End it, and wait for that."""
        self.kill()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._process.wait()


async def launch(entry_point: str, memory_mb: int) -> _Running:
    """Start a process and wait until it has loaded the function. Raises `CannotTell` with the reason why it did not."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    command = (sys.executable, "-P", "-m", "farthing.routing.checks.validator_process", entry_point, str(memory_mb))
    process = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1, env=environ)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_LOAD_S):
            loaded = await _frame(process.stdout, Loaded)
    except (TimeoutError, _Ended):
        loaded = Loaded(error=f"its process ended, or loaded for more than {_LOAD_S:g} s")
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if loaded.error is not None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise CannotTell(loaded.error)
    return _Running(process, parallel=loaded.parallel)


async def _frame(reader: asyncio.StreamReader, kind: type[_Message]) -> _Message:
    """The next message. Raises `_Ended` at the end, and for what is none."""
    try:
        size = int.from_bytes(await reader.readexactly(HEADER), "big")
        if size > _MOST_REPLY_BYTES:
            raise _Ended
        message: _Message = msgspec.json.decode(await reader.readexactly(size), type=kind)
    except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError):
        raise _Ended from None
    return message
