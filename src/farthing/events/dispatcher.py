"""Takes deliveries from the bus and hands them to handlers: some at a time, again when they fail, until they are handled or dead."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from farthing.errors import FarthingError
from farthing.events.gathering import Gathering
from farthing.events.handler import Handler
from farthing.events.roster import Roster
from farthing.events.work import Work
from farthing.ports import EventBus
from farthing.settings import EventSettings
from farthing.types import Backlog, Delivery, utc_now

_log = logging.getLogger("farthing.events")
_AWAY_S: Final = 1.0
_LOOK_S: Final = 1.0
_BREATH_S: Final = 0.01
_PRUNE_S: Final = 60.0
_DONE_TOGETHER: Final = 64


class Dispatcher:
    """`works` are the handlers' deliveries by handler; `backlog` is what the bus said last of each. `rng` spreads what is tried again."""

    def __init__(
        self,
        bus: EventBus,
        roster: Roster,
        handlers: Sequence[Handler],
        settings: EventSettings,
        *,
        rng: random.Random,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._bus = bus
        self._roster = roster
        self._settings = settings
        self._clock = clock
        done = Gathering(self._all_done, most=_DONE_TOGETHER)
        self._news = {one.subscription.handler: asyncio.Event() for one in handlers}
        self.works = {
            one.subscription.handler: Work(bus, one, settings, done, self._news[one.subscription.handler].set, rng=rng, clock=clock)
            for one in handlers
        }
        self.backlog: dict[str, Backlog] = {}

    async def _all_done(self, deliveries: Sequence[Delivery]) -> list[None]:
        await self._bus.done(deliveries)
        return [None] * len(deliveries)

    def heard(self, payload: str) -> None:
        """There is something to do for these handlers, comma-separated; nothing: for all, perhaps."""
        for name in payload.split(",") if payload else self._news:
            if name in self._news:
                self._news[name].set()

    async def run(self) -> None:
        """Take what is due and have it handled, until cancelled. See `drain`."""
        if not self.works:
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            for name in self.works:
                group.create_task(self._keep_pumping(name), name=f"events for {name}")

    async def _keep_pumping(self, name: str) -> None:
        away = False
        while True:
            try:
                await self._roster.make_known()
                await self._pump(name)
                away = False
            except FarthingError as error:
                if not away:
                    _log.warning("events for %s wait: %s", name, error)
                away = True
                await asyncio.sleep(_AWAY_S)

    async def _pump(self, name: str) -> None:
        """Begin what is due; then, unless there may be more, wait for news."""
        work = self.works[name]
        free = await work.room()
        self._news[name].clear()
        taken = await self._bus.take(name, lanes=free, lease_s=self._settings.lease_s)
        for delivery in taken:
            work.begin(delivery)
        if len(taken) == free:
            return
        if not taken:
            await asyncio.sleep(_BREATH_S)  # where events come all the time, looking for them should cost little
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll_s):
                await self._news[name].wait()

    async def drain(self) -> None:
        """When `run` is cancelled: let what is under way finish, within `settings.drain_s`, and give back the rest."""
        await asyncio.gather(*(work.drain(self._settings.drain_s) for work in self.works.values()))

    async def look(self) -> None:
        """See how far behind the handlers are, every second, until cancelled."""
        while True:
            try:
                self.backlog = {one.handler: one for one in await self._bus.backlog()}
            except FarthingError as error:
                _log.debug("the backlog is not known: %s", error)
            await asyncio.sleep(_LOOK_S)

    async def prune(self) -> None:
        """Delete what need not be kept, every minute or so, until cancelled."""
        keep = timedelta(seconds=self._settings.keep_s)
        while True:
            await asyncio.sleep(_PRUNE_S)
            try:
                await self._bus.prune(self._clock() - keep, max_rows=self._settings.max_events)
            except FarthingError as error:
                _log.debug("events were not pruned: %s", error)
