"""Background tasks of a process: started together, kept alive, stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger("farthing")


class Background:
    """Each task is a coroutine function that runs until cancelled. One that ends or fails is started again after `pause_s` seconds."""

    def __init__(self, *, pause_s: float = 1.0) -> None:
        self._pause = pause_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Begin."""
        self._tasks.append(asyncio.get_running_loop().create_task(self._keep(name, run), name=name))

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001 - whatever it is, the task must live and the log must say
                _log.exception("the background task %r failed and is started again", name)
            await asyncio.sleep(self._pause)

    async def stop(self) -> None:
        """Cancel all and wait for them."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
