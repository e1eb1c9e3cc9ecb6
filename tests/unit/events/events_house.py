"""A bus in process, and what the tests of this folder build around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from farthing.errors import Unavailable
from farthing.events.handler import Handle, Handler
from farthing.inprocess.events import InProcessEvents
from farthing.inprocess.states import InProcessStates
from farthing.inprocess.stores import InProcessChanges
from farthing.types import Delivery, Event, Subscription, utc_now


class Bus(InProcessEvents):
    """`away`: it cannot be reached. `published` are the sizes of the batches, `done_with` those of what was said to be done."""

    def __init__(self, **how: Any) -> None:
        changes = InProcessChanges()
        self.states = InProcessStates(changes)
        super().__init__(changes, self.states, **how)
        self.away = False
        self.published: list[int] = []
        self.done_with: list[int] = []
        self.extended = 0
        self.subscribed = 0

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("The bus is away.")

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        self._reach()
        self.subscribed += 1
        await super().subscribe(subscriptions)

    async def publish(self, events: Sequence[Event]) -> list[bool]:
        await asyncio.sleep(0)
        self._reach()
        stored = await super().publish(events)
        self.published.append(len(events))
        return stored

    async def take(self, handler: str, *, lanes: int, lease_s: float) -> list[Delivery]:
        self._reach()
        return await super().take(handler, lanes=lanes, lease_s=lease_s)

    async def extend(self, delivery: Delivery, lease_s: float) -> Delivery | None:
        self.extended += 1
        return await super().extend(delivery, lease_s)

    async def done(self, deliveries: Sequence[Delivery]) -> int:
        await asyncio.sleep(0)
        self._reach()
        self.done_with.append(len(deliveries))
        return await super().done(deliveries)


def event(number: int, **facts: Any) -> Event:
    """An event that differs from those of other numbers."""
    usual: dict[str, Any] = {"id": str(number), "source": "/app", "type": "t", "tenant": "acme", "subject": f"s{number}"}
    return Event(**{**usual, "time": utc_now(), "received_at": utc_now(), "data": number, **facts})


def hearing(handle: Handle, **how: Any) -> Handler:
    """A handler of all events."""
    return Handler(subscription=Subscription(**{"handler": "hear", "types": ("*",), **how}), handle=handle)


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something, by short looks."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)
