"""Who hears of events, told to the bus before the first one is published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from farthing.ports import EventBus
from farthing.types import Subscription


class Roster:
    """The subscriptions of an installation. All its processes have the same."""

    def __init__(self, bus: EventBus, subscriptions: Sequence[Subscription]) -> None:
        self._bus = bus
        self._subscriptions = subscriptions
        self._known = False
        self._telling = asyncio.Lock()

    async def make_known(self) -> None:
        """See that the bus knows them; the second time a no-op. Raises the bus's errors."""
        if self._known:
            return
        async with self._telling:
            if not self._known:
                await self._bus.subscribe(self._subscriptions)
                self._known = True
