"""Two attempts side by side: the one that begins to answer first is given, the other is cut off at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from farthing.ports import Reservation
from farthing.routing.attempt import Running
from farthing.types import Usage

Prepared = tuple[Reservation, Callable[[], Running]]
Rival = Callable[[], Awaitable[Prepared | None]]
"""Gets leave to spend for the second attempt, and says how to make it. None: there is none."""

_LAST_WORDS_S = 1.0
"""For an attempt that was cut off to close its connection, before nobody waits for that any more."""


class Race:
    """One race. Afterwards all attempts are recorded but the one that `run` returns."""

    def __init__(self, first: Running, after_s: float, rival: Rival, *, last: bool) -> None:
        self._first = first
        self._after_s = after_s
        self._rival = rival
        self._last = last
        self._attempts = [first]
        self._tasks: dict[asyncio.Task[None], Running] = {}

    async def run(self) -> tuple[Running, BaseException | None]:
        """The attempt to go on with, and its error when none of them has begun to answer: it is the one that failed last."""
        lead = self._begin(self._first)
        try:
            await asyncio.wait([lead], timeout=self._after_s)
            prepared = None if lead.done() else await self._prepared(lead)
            if prepared is not None:
                rival = prepared[1]()
                self._attempts.append(rival)
                self._begin(rival)
            return await self._decided()
        except BaseException as error:
            await self._abandon(error)
            raise

    def _begin(self, attempt: Running) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(attempt.begin(last=self._last))
        self._tasks[task] = attempt
        return task

    async def _prepared(self, lead: asyncio.Task[None]) -> Prepared | None:
        """Leave to spend for the second one, unless the first one is faster than that."""
        asking = asyncio.ensure_future(self._rival())
        prepared: Prepared | None = None
        try:
            await asyncio.wait([lead, asking], return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and not lead.done():
                prepared = asking.result()
            return prepared
        finally:
            if prepared is None:
                await _give_back(asking)

    async def _decided(self) -> tuple[Running, BaseException | None]:
        while True:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = [task for task in self._tasks if task.done()]
            winner = next((task for task in ended if _error_of(task) is None), None)
            if winner is not None:
                attempt = self._tasks.pop(winner)
                await self._cut_off()
                return attempt, None
            for task in ended:
                attempt = self._tasks.pop(task)
                error = _error_of(task)
                assert error is not None
                if not self._tasks:
                    return attempt, error
                attempt.fail(error, final=False)

    async def _cut_off(self) -> None:
        """What is left has lost. Recorded before anything is waited for."""
        for task, attempt in self._tasks.items():
            error = _error_of(task) if task.done() else None
            task.cancel()
            if error is None:
                attempt.lose()
            else:
                attempt.fail(error, final=False)
        await self._closed()

    async def _closed(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS_S)
            for attempt in self._tasks.values():
                await attempt.close()

    async def _abandon(self, error: BaseException) -> None:
        """Nobody waits any more: one of the attempts is the request's last one."""
        for task in self._tasks:
            task.cancel()
        open_ = [attempt for attempt in self._attempts if not attempt.recorded]
        for attempt in open_:
            attempt.fail(error, final=attempt is open_[-1])
            await attempt.close()
        await self._closed()


async def _give_back(asking: asyncio.Future[Prepared | None]) -> None:
    """Leave to spend that is not needed, or not needed any more."""
    if not asking.done():
        asking.cancel()
        await asyncio.wait([asking], timeout=_LAST_WORDS_S)
    if asking.done() and not asking.cancelled() and asking.exception() is None:
        prepared = asking.result()
        if prepared is not None:
            prepared[0].settle(Usage(), 0)


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()
