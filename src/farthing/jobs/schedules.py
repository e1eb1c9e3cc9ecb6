"""What is done by the clock: of all processes that see that a schedule is due, one makes the run; after a standstill, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from farthing.cron import following
from farthing.errors import FarthingError
from farthing.jobs.starting import start
from farthing.ports import JobStore
from farthing.types import INSTALLATION, Cron, NewItem, NewRun, utc_now

_log = logging.getLogger("farthing.jobs")
_LOOK_AGAIN = timedelta(minutes=1)
"""Another process may have fired, and another installation's settings may say something else."""


class Schedules:
    """`fired` counts runs made here."""

    def __init__(self, store: JobStore, crons: Sequence[Cron], *, poll_s: float, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._crons = crons
        self._poll_s = poll_s
        self._clock = clock
        self._due: dict[str, datetime] = {}
        self._looked: dict[str, datetime] = {}
        self.fired = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with suppress(FarthingError):
                await self.look()
            await asyncio.sleep(self._poll_s)

    async def look(self) -> None:
        """Make the runs that are due. Raises the store's errors."""
        now = self._clock()
        for cron in self._crons:
            if now >= self._due.get(cron.name, now) or now >= self._looked[cron.name] + _LOOK_AGAIN:
                await self._look_at(cron, now)

    async def _look_at(self, cron: Cron, now: datetime) -> None:
        at = await self._store.schedule(cron.name, cron.expression, following(cron.expression, now))
        if at <= now:
            # The run first: who dies in between leaves the schedule due, and the next one finds the run by its name.
            run = NewRun(
                kind=cron.kind,
                tenant=INSTALLATION,
                name=f"{cron.name} {at.isoformat()}",
                attempts=cron.attempts,
                deadline_s=cron.deadline_s,
            )
            await start(self._store, run, [NewItem(key=key) for key in cron.keys])
            coming = following(cron.expression, now)
            if await self._store.fired(cron.name, at, coming):
                self.fired += 1
                _log.info("%s fired for %s", cron.name, at.isoformat())
            at = coming
        self._due[cron.name], self._looked[cron.name] = at, now
