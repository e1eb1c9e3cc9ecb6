"""What is learnt of clicks: counted in this process, written in batches, read back for whoever predicts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from farthing.errors import FarthingError, InvalidRequest
from farthing.ports import ForesightLog
from farthing.settings import ForesightSettings
from farthing.types import ActionCounts, Click, Foreseen, utc_now

_log = logging.getLogger("farthing.foresight")
_REMEMBERED_S = 10.0
_MOST_TENANTS = 1000
_MOST_AT_ONCE = 1000
_WEEK = timedelta(days=7)


class ClickBook:
    """`pending` counts what PostgreSQL does not have yet, `dropped` what found no room."""

    def __init__(self, log: ForesightLog, settings: ForesightSettings, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._log = log
        self._settings = settings
        self._clock = clock
        self._foreseen: list[Foreseen] = []
        self._clicks: list[Click] = []
        self._learned: OrderedDict[str, tuple[float, list[ActionCounts]]] = OrderedDict()
        self.dropped = 0

    @property
    def pending(self) -> int:
        """What is not written yet."""
        return len(self._foreseen) + len(self._clicks)

    async def computed(self, foreseen: Foreseen) -> None:
        """An answer was computed ahead, and nobody can have clicked on it yet. Written at once, where the store is there.

        A click on it, in whatever process, must find it there to be counted for it.
        """
        try:
            await self._log.add([foreseen], [])
        except FarthingError as error:
            _log.debug("an answer is not counted yet: %s", error)
            if self._room():
                self._foreseen.append(foreseen)

    def clicked(self, click: Click) -> None:
        """Somebody asked for an action."""
        if self._room():
            self._clicks.append(click)

    def _room(self) -> bool:
        full = self.pending >= self._settings.max_pending
        self.dropped += full
        return not full

    async def learned(self, tenant: str) -> list[ActionCounts]:
        """The counts of a tenant's actions, at most some seconds old. Raises the store's errors."""
        now = time.monotonic()
        known = self._learned.get(tenant)
        if known is not None and known[0] > now:
            return known[1]
        counts = await self._log.learned(tenant, list(self._settings.actions), half_life_days=self._settings.half_life_days)
        self._learned[tenant] = now + _REMEMBERED_S, counts
        self._learned.move_to_end(tenant)
        while len(self._learned) > _MOST_TENANTS:
            self._learned.popitem(last=False)
        return counts

    async def run(self) -> None:
        """Write what there is now and then, until cancelled. While the store is away it waits."""
        while True:
            await asyncio.sleep(self._settings.flush_interval_s)
            try:
                await self.drain()
            except FarthingError as error:
                _log.debug("clicks are not counted yet: %s", error)

    async def drain(self) -> None:
        """Write all that there is, at once. Raises the store's errors, and keeps what was not written."""
        while self.pending:
            foreseen, clicks = self._foreseen[:_MOST_AT_ONCE], self._clicks[:_MOST_AT_ONCE]
            try:
                await self._log.add(foreseen, clicks)
            except InvalidRequest as error:  # nothing would be counted any more
                _log.warning("%d answers and clicks cannot be counted: %s", len(foreseen) + len(clicks), error)
                self.dropped += len(foreseen) + len(clicks)
            del self._foreseen[: len(foreseen)], self._clicks[: len(clicks)]

    async def settle(self) -> None:
        """Count which answers nobody has read, now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.settle_interval_s)
            try:
                await self._log.settle()
            except FarthingError as error:
                _log.debug("answers are not settled: %s", error)

    async def report(self) -> int:
        """Store the waste reports of last week. Returns of how many tenants. Raises the store's errors."""
        today = self._clock().date()
        return await self._log.store_week(today - timedelta(days=today.weekday()) - _WEEK)


def of_action(counts: Sequence[ActionCounts], action: str) -> list[ActionCounts]:
    """Those of one action, by segment."""
    return [one for one in counts if one.action == action]
