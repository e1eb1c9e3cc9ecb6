"""Where events come in: what comes at the same time is stored together, and what is told is stored soon."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from farthing.errors import FarthingError, InvalidRequest, Overloaded
from farthing.events.gathering import Gathering
from farthing.events.roster import Roster
from farthing.ports import EventBus
from farthing.types import Event

_log = logging.getLogger("farthing.events")
_PAUSE_S = 1.0
Touches = Callable[[Event], tuple[str, ...]]


def touches_nothing(_: Event) -> tuple[str, ...]:
    """No event changes the state of anything."""
    return ()


class EventPublisher:
    """`ports.Publisher`. `max_pending` bounds the events that wait here: those that are told, and those that callers wait for, each.

    `stored` and `repeated` count events that were new, and that were there; `lost` those that were told and could not be stored.
    """

    def __init__(self, bus: EventBus, roster: Roster, *, max_batch: int, max_pending: int, touches: Touches = touches_nothing) -> None:
        self._bus = bus
        self._roster = roster
        self._max_batch = max_batch
        self._max_pending = max_pending
        self._touches = touches
        self._together = Gathering(self._send_all, most=max_batch)
        self._waiting = 0
        self._told: deque[Event] = deque()
        self._news = asyncio.Event()
        self.stored = 0
        self.repeated = 0
        self.lost = 0

    @property
    def pending(self) -> int:
        """Events that were told and are not stored yet."""
        return len(self._told)

    async def publish(self, events: Sequence[Event]) -> list[bool]:
        """See `ports.Publisher.publish`. Raises `Overloaded` too while more wait to be stored than may."""
        if not events:
            return []
        if self._waiting + len(events) > max(self._max_pending, len(events)):
            raise Overloaded(f"{self._waiting} events wait to be stored. Send the events again later.", retry_after_s=1.0)
        self._waiting += len(events)
        try:
            result = await self._together([self._touching(event) for event in events])
        finally:
            self._waiting -= len(events)
        if isinstance(result, FarthingError):
            raise result
        return result

    def _touching(self, event: Event) -> Event:
        touched = self._touches(event)
        return msgspec.structs.replace(event, touches=tuple(dict.fromkeys((*event.touches, *touched)))) if touched else event

    async def _send_all(self, calls: list[list[Event]]) -> list[list[bool] | FarthingError]:
        """What came of each call; each is stored as a whole or not at all."""
        results: list[list[bool] | FarthingError] = []
        while len(results) < len(calls):
            results += await self._send_some(_first(calls[len(results) :], self._max_batch))
        return results

    async def _send_some(self, calls: Sequence[list[Event]]) -> list[list[bool] | FarthingError]:
        try:
            new = iter(await self._send([event for call in calls for event in call]))
        except InvalidRequest as error:
            if len(calls) == 1:
                return [error]
            return [one for call in calls for one in await self._send_some([call])]  # it is the fault of one
        except FarthingError as error:
            return [error] * len(calls)
        return [[next(new) for _ in call] for call in calls]

    async def _send(self, events: Sequence[Event]) -> list[bool]:
        await self._roster.make_known()
        new = await self._bus.publish(events)
        self.stored += sum(new)
        self.repeated += len(new) - sum(new)
        return new

    def tell(self, event: Event) -> None:
        """See `ports.Publisher.tell`."""
        if len(self._told) >= self._max_pending:
            self.lost += 1
            return
        self._told.append(event)
        self._news.set()

    async def run(self) -> None:
        """Store what is told, until cancelled. While the bus is away it waits here."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._told:
                try:
                    await self.flush()
                except FarthingError as error:
                    _log.warning("%d events wait to be stored: %s", len(self._told), error)
                    await asyncio.sleep(_PAUSE_S)

    async def flush(self) -> None:
        """Store what was told so far. Raises the bus's errors; then it still waits."""
        while self._told:
            batch = [self._told.popleft() for _ in range(min(self._max_batch, len(self._told)))]
            try:
                await self._store_told(batch)
            except BaseException:
                self._told.extendleft(reversed(batch))
                raise

    async def _store_told(self, batch: Sequence[Event]) -> None:
        try:
            await self._send([self._touching(event) for event in batch])
        except InvalidRequest as error:
            if len(batch) > 1:
                for event in batch:
                    await self._store_told([event])
            else:
                self.lost += 1
                _log.error("an event of type %r cannot be stored and is lost: %s", batch[0].type, error)


def _first(calls: Sequence[list[Event]], most: int) -> Sequence[list[Event]]:
    """The first calls with at most so many events together; at least one."""
    events = 0
    for place, call in enumerate(calls):
        events += len(call)
        if events > most and place:
            return calls[:place]
    return calls
