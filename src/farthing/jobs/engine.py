"""The engine: leases items that are due, does them, keeps the leases, and says what came of them. Any number of processes may run it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import random

import msgspec

from farthing.errors import FarthingError, InvalidRequest
from farthing.jobs.endings import Endings
from farthing.jobs.kind import Kind
from farthing.jobs.retries import after
from farthing.ports import JobStore
from farthing.settings import JobSettings
from farthing.types import Ending, Lease

_log = logging.getLogger("farthing.jobs")
_BEATS = 4
"""In a lease's time: one that goes wrong loses no lease."""


class _Work(msgspec.Struct):
    """An item under way. `told` is why it was cancelled: the state in which it ends; "lost" where it ends for somebody else."""

    lease: Lease
    task: asyncio.Task[None] | None = None
    told: str | None = None


class Engine:
    """`ended` counts items by what became of them: an `EndState`, or `lost`. `dice` gives numbers from 0 to 1 for pauses."""

    def __init__(self, store: JobStore, kinds: Sequence[Kind], settings: JobSettings, *, dice: Callable[[], float] = random) -> None:
        self._store = store
        self._kinds = {kind.name: kind for kind in kinds}
        self._settings = settings
        self._dice = dice
        self._endings = Endings(store)
        self._works: dict[int, _Work] = {}
        self._stir = asyncio.Event()
        self._beat = asyncio.Event()
        self._stopping = False
        self.ended: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """Items that are being done here."""
        return len(self._works)

    def woken(self, kind: str = "") -> None:
        """There are new items of a kind, or a run of it was cancelled. Empty: of any."""
        if not kind or kind in self._kinds:
            self._stir.set()
            self._beat.set()

    async def run(self) -> None:
        """Work until cancelled. See `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._endings.run())
            group.create_task(self._keep())
            await self._look(group)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Lease what is due, as far as hands are free; by the clock also what nobody told of."""
        loop = asyncio.get_running_loop()
        settle_at = 0.0
        while not self._stopping:
            self._stir.clear()
            idle = len(self._works) < self._settings.concurrency
            try:
                begun = await self._claim(group)
                if (idle and not begun) or loop.time() >= settle_at:  # when the last item of a run has ended, or so it looks
                    settle_at = loop.time() + self._settings.poll_s
                    await self._store.settle()
            except FarthingError as error:
                _log.debug("no items: %s", error)
                begun = 0
            if not begun:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_s * (0.75 + self._dice() / 2)):
                        await self._stir.wait()
        await asyncio.Event().wait()

    async def _claim(self, group: asyncio.TaskGroup) -> int:
        free = self._settings.concurrency - len(self._works)
        leases = await self._store.claim(list(self._kinds), most=free) if free > 0 and self._kinds else []
        for lease in leases:
            work = self._works[lease.id] = _Work(lease)
            work.task = group.create_task(self._do(work))
        return len(leases)

    async def _do(self, work: _Work) -> None:
        try:
            ending = await self._outcome(work)
            if ending is None:
                self.ended["lost"] += 1
                return
            held = await self._endings.end(ending)
            self.ended[ending.state if held else "lost"] += 1
        finally:
            if self._works.get(work.lease.id) is work:
                del self._works[work.lease.id]
            self._stir.set()

    async def _outcome(self, work: _Work) -> Ending | None:
        """How it ends; None: not here, the lease is lost. Cancelled by others than us, the process is at its end."""
        lease = work.lease
        deadline = asyncio.timeout(lease.deadline_s)
        try:
            async with deadline:
                result = msgspec.json.encode(await self._kinds[lease.item.kind].handle(lease.item))
        except asyncio.CancelledError:
            if work.told is None:
                raise
            return self._told(work)
        except Exception as error:  # noqa: BLE001 - whatever a kind raises is what became of the item
            if deadline.expired():
                return after(lease, TimeoutError(f"it took longer than {lease.deadline_s:g} s"), self._dice())
            if not isinstance(error, FarthingError):
                _log.warning("an item of %r failed: %s: %s", lease.item.kind, type(error).__name__, error)
            return after(lease, error, self._dice())
        if len(result) > self._settings.max_result_bytes:
            most = self._settings.max_result_bytes
            return after(lease, InvalidRequest(f"its result has {len(result)} bytes; jobs.max_result_bytes allows {most}"), 0)
        return Ending(lease=lease, state="done", result=result)

    @staticmethod
    def _told(work: _Work) -> Ending | None:
        if work.told == "lost":
            return None
        return Ending(lease=work.lease, state="cancelled" if work.told == "cancelled" else "released")

    async def _keep(self) -> None:
        """Extend the leases, and tell items whose lease is lost or whose run was cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.lease_s / _BEATS):
                    await self._beat.wait()
            self._beat.clear()
            works = list(self._works.values())
            if not works:
                continue
            try:
                held = await self._store.extend([work.lease for work in works])
            except FarthingError as error:
                _log.debug("leases are not extended: %s", error)
                continue
            for work in works:
                said = held.get(work.lease.id, "lost")
                if said != "held" and self._works.get(work.lease.id) is work:
                    self._tell(work, said)

    @staticmethod
    def _tell(work: _Work, why: str) -> None:
        if work.told is None and work.task is not None:
            work.told = why
            work.task.cancel()

    async def stop(self) -> None:
        """Begin nothing more; items under way have `drain_s` seconds, then they are given back. To be called while `run` runs."""
        self._stopping = True
        self._stir.set()
        tasks = [work.task for work in self._works.values() if work.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.drain_s)
        for work in list(self._works.values()):
            self._tell(work, "released")
        if left := [task for task in tasks if not task.done()]:
            await asyncio.wait(left, timeout=_LAST_S)


_LAST_S = 2.0
"""To give back what is not done. What does not come to it is leased anew when its lease ends."""
