"""The processes of a supervisor: started, told what to do, started again when they die, and retired when others take over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable

import msgspec

from farthing.orders import RETIRE, Orders

_log = logging.getLogger("farthing.supervisor")
GATEWAY = "farthing.worker"
BACKGROUND = "farthing.job_worker"
_RESTART_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_HOLD_S = 3.0
"""How long a worker may take to know its keys and answers before it takes connections from those that do."""
_TRIAL_HOLD_S = 3600.0
"""On trial: until ready. Who tries them gives them up sooner."""
_LAST_S = 10.0
"""After the grace for answers under way: to end what is left with an error, and to store the ledger."""


class Generation:
    """N processes of a kind (a module) under the same orders: gateway workers on one listening socket, background processes on none.

    `start` lets them load their modules; `order` tells them what to do. A worker that dies is started again. On `trial` a death before
    all are ready is the end: `ready` raises then, and the caller stops the generation.
    """

    def __init__(self, module: str, listener: socket.socket | None, workers: int, *, trial: bool = False) -> None:
        self._module = module
        self._listener = listener
        self._workers = workers
        self._trial = trial
        self._orders: asyncio.Future[Orders] = asyncio.get_running_loop().create_future()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._unready = set(range(workers))
        self._settled = asyncio.Event()
        if not workers:
            self._settled.set()
        self._failure: str | None = None
        self._ending = False

    def start(self) -> None:
        """Start the processes. A no-op where they are, or are at their end."""
        if not self._tasks and not self._ending:
            self._tasks = [asyncio.create_task(self._keep(slot)) for slot in range(self._workers)]

    def order(self, orders: Orders) -> None:
        """Let them begin. `socket`, `ready` and the runtime's `worker` are filled in for each."""
        self._orders.set_result(orders)

    async def ready(self) -> None:
        """Wait until each has been ready once. On trial, raises `ChildProcessError` when one dies before."""
        await self._settled.wait()
        if self._failure is not None:
            raise ChildProcessError(self._failure)

    async def retire(self, grace_s: float) -> None:
        """Let others take over: no new connections, each answer the last one on its connection, then the end. See `stop`."""
        await self._end(grace_s, _tell_to_retire)

    async def stop(self, grace_s: float) -> None:
        """End all: at once where there is nothing to do, after `grace_s` at most where answers are under way, then by force."""
        await self._end(grace_s, asyncio.subprocess.Process.terminate)

    async def _keep(self, slot: int) -> None:
        pause = _RESTART_PAUSE_S
        hold_s = _TRIAL_HOLD_S if self._trial else _HOLD_S
        loop = asyncio.get_running_loop()
        while not self._ending:
            began = loop.time()
            process, ready = await self._spawn(slot)
            if self._ending:
                process.kill()
                return
            self._processes[slot] = process
            self._tell(process, await asyncio.shield(self._orders), ready, hold_s)
            status = await process.wait()
            del self._processes[slot]
            if self._ending:
                return
            if self._trial and not self._settled.is_set():
                self._failure = f"a worker ended with status {status} before it was ready"
                self._settled.set()
                return
            hold_s = _HOLD_S
            pause = _RESTART_PAUSE_S if loop.time() - began > _LONGEST_PAUSE_S else min(pause * 2, _LONGEST_PAUSE_S)
            _log.error("%s %d ended with status %s and is started again in %.1f s", self._module, slot, status, pause)
            await asyncio.sleep(pause)

    async def _spawn(self, slot: int) -> tuple[asyncio.subprocess.Process, int]:
        """A process, and the number of the file descriptor on which it says that it is ready."""
        heard, said = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module),
                stdin=asyncio.subprocess.PIPE,
                # glibc gives each thread a heap of its own, which a worker's few threads do not need. Its matrices are small: threads for
                # them would only wait for each other, and busily, wherever cores are taken.
                env={"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1", **os.environ},
                pass_fds=(said,) if self._listener is None else (self._listener.fileno(), said),
                start_new_session=True,  # Ctrl-C in the terminal is for this process, which lets them drain
            )
        except BaseException:
            os.close(heard)
            raise
        finally:
            os.close(said)
        asyncio.get_running_loop().add_reader(heard, self._heard, heard, slot)
        return process, said

    def _heard(self, heard: int, slot: int) -> None:
        """A worker said that it is ready, or has died."""
        asyncio.get_running_loop().remove_reader(heard)
        if os.read(heard, 1):
            self._unready.discard(slot)
            if not self._unready:
                self._settled.set()
        os.close(heard)

    def _tell(self, process: asyncio.subprocess.Process, orders: Orders, ready: int, hold_s: float) -> None:
        """Tell a worker to begin. Its standard input stays open as long as this process lives."""
        runtime = msgspec.structs.replace(orders.runtime, worker=f"{process.pid}-{secrets.token_hex(4)}")
        listening = -1 if self._listener is None else self._listener.fileno()
        told = msgspec.structs.replace(orders, socket=listening, ready=ready, hold_s=hold_s, runtime=runtime)
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it has died already
            process.stdin.write(msgspec.json.encode(told) + b"\n")

    async def _end(self, grace_s: float, tell: Callable[[asyncio.subprocess.Process], None]) -> None:
        self._ending = True
        processes = list(self._processes.values())
        for process in processes:
            with contextlib.suppress(OSError):
                tell(process)
        if processes:
            waits = [asyncio.create_task(process.wait()) for process in processes]
            _, late = await asyncio.wait(waits, timeout=grace_s + _LAST_S)
            if late:
                _log.error("%d workers did not end within %.0f s and are killed", len(late), grace_s + _LAST_S)
                for process in processes:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                await asyncio.wait(late)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _tell_to_retire(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(RETIRE)
