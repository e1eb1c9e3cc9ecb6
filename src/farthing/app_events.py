"""The event bus, put together: where events come in, and who handles them. Part of the composition root."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, Final

from farthing.app_stores import Stores
from farthing.background import Background
from farthing.errors import FarthingError
from farthing.events.dispatcher import Dispatcher
from farthing.events.publisher import EventPublisher, Touches, touches_nothing
from farthing.events.roster import Roster
from farthing.flow import Hearers, event_flow
from farthing.settings import Settings
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from farthing.aws.event_inbox import Inbox

_log = logging.getLogger("farthing.events")
_TO_FLUSH_S: Final = 2.0


class Events:
    """`publisher` is where events come in from everywhere inside. `handles`: this process also handles them."""

    def __init__(self, settings: Settings, stores: Stores, hearers: Hearers, *, handles: bool, touches: Touches = touches_nothing) -> None:
        handlers = event_flow(hearers)
        roster = Roster(stores.events, [one.subscription for one in handlers])
        self._handles = handles
        self.publisher = EventPublisher(
            stores.events,
            roster,
            max_batch=settings.events.max_batch,
            max_pending=settings.events.max_pending,
            touches=touches,
        )
        self._inbox = _inbox(settings, self.publisher) if handles else None
        rng = random.Random()  # noqa: S311 - nothing secret
        self.dispatcher = Dispatcher(stores.events, roster, handlers, settings.events, rng=rng)

    def start(self, background: Background) -> None:
        """Begin the background work."""
        background.start("events told", self.publisher.run)
        if self._handles:
            background.start("events", self.dispatcher.run)
            background.start("event backlog", self.dispatcher.look)
            background.start("old events", self.dispatcher.prune)
        if self._inbox is not None:
            background.start("events of EventBridge", self._inbox.run)

    async def heard(self, payload: str) -> None:
        """Handlers have something to do."""
        self.dispatcher.heard(payload)

    async def drain(self) -> None:
        """When the background work has stopped: finish what is under way, and store what was told, each within its bound."""
        await self.dispatcher.drain()
        try:
            async with asyncio.timeout(_TO_FLUSH_S):
                await self.publisher.flush()
        except (FarthingError, TimeoutError):
            _log.error("%d events from inside could not be stored and are lost", self.publisher.pending)

    def register(self, metrics: Metrics) -> None:
        """Show how it does."""
        publisher, dispatcher = self.publisher, self.dispatcher
        metrics.counter(names.EVENTS_STORED, "Events that were stored.", lambda: publisher.stored)
        metrics.counter(names.EVENTS_REPEATED, "Events that were stored already.", lambda: publisher.repeated)
        metrics.counter(names.EVENTS_DROPPED, "Events from inside that could not be stored.", lambda: publisher.lost)
        metrics.gauge(names.EVENTS_PENDING, "Events from inside that are not stored yet.", lambda: publisher.pending)
        if self._inbox is not None:
            inbox = self._inbox
            metrics.counter(names.EVENTS_INBOX, "Events of other systems that EventBridge handed over.", lambda: inbox.taken)
            metrics.counter(names.EVENTS_REFUSED, "Messages of EventBridge that are no events.", lambda: inbox.refused)
        if self._handles:
            for handler in dispatcher.works:
                self._register_handler(metrics, handler)

    def _register_handler(self, metrics: Metrics, handler: str) -> None:
        work, attributes = self.dispatcher.works[handler], {names.HANDLER: handler}
        counts = {
            names.EVENTS_HANDLED: ("Events that were handled.", lambda: work.handled),
            names.EVENTS_FAILED: ("Attempts to handle events that failed.", lambda: work.failed),
            names.EVENTS_DEAD: ("Events that became dead letters.", lambda: work.died),
            names.EVENTS_LOST: ("Deliveries whose lease was lost under way.", lambda: work.lost),
        }
        for name, (text, count) in counts.items():
            metrics.counter(name, text, count, attributes=attributes)
        metrics.gauge(names.EVENTS_UNDER_WAY, "Deliveries under way.", lambda: work.under_way, attributes=attributes)
        backlog = partial(self._backlog, handler)
        metrics.gauge(names.EVENTS_BACKLOG, "Deliveries not handled yet.", lambda: backlog()[0], attributes=attributes, merge="max")
        metrics.gauge(
            names.EVENTS_LAG, "Age of the oldest event that is due.", lambda: backlog()[1], unit="s", attributes=attributes, merge="max"
        )

    def _backlog(self, handler: str) -> tuple[int, float]:
        known = self.dispatcher.backlog.get(handler)
        return (0, 0.0) if known is None else (known.waiting, known.lag_s)


def _inbox(settings: Settings, publisher: EventPublisher) -> Inbox | None:
    """Events of other systems, if any are to come in."""
    chosen = settings.events.aws
    if settings.events.bus != "aws" or chosen.inbox is None:
        return None
    from farthing.aws.event_inbox import Inbox  # noqa: PLC0415 - with what it takes of AWS, for who uses it

    return Inbox(chosen, publisher.publish)
