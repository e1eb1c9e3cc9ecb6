"""The event bus in dictionaries, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from farthing.errors import Overloaded
from farthing.events.payload import encoded
from farthing.inprocess.lanes import Lanes
from farthing.inprocess.states import InProcessStates
from farthing.inprocess.stores import InProcessChanges
from farthing.types import Backlog, DeadLetter, Delivery, Event, Subscription, new_id, utc_now

_KEPT_FOR = timedelta(days=7)
"""Names of pruned events, and erasures, are remembered for so long."""
_Name = tuple[str, str, str]


class InProcessEvents:
    """`ports.EventBus`."""

    def __init__(
        self,
        changes: InProcessChanges,
        states: InProcessStates,
        *,
        max_backlog: int = 100_000,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._changes = changes
        self._states = states
        self._max_backlog = max_backlog
        self._clock = clock
        self._position = 0
        self._events: dict[int, Event] = {}
        self._names: dict[_Name, int] = {}
        self._gone: dict[_Name, datetime] = {}
        self._lanes: dict[str, Lanes] = {}
        self._wanted: set[str] = set()
        self._tokens = itertools.count(1)
        self._dead: dict[UUID, DeadLetter] = {}
        self._erasures: dict[tuple[str, str | None], datetime] = {}

    async def publish(self, events: Sequence[Event]) -> list[bool]:
        """See `ports.EventBus.publish`."""
        for handler in self._wanted:
            waiting = self._lanes[handler].waiting
            if waiting >= self._max_backlog:
                raise Overloaded(f"The handler {handler!r} is {waiting} deliveries behind. Send the events again later.", retry_after_s=1.0)
        for event in events:
            encoded(event, (event.data, event.extensions))
        stored = [self._store(event) for event in events]
        new = [event for event in stored if event is not None]
        touched: dict[str, set[str]] = {}
        for event in new:
            touched.setdefault(event.tenant, set()).update(event.touches)
        for tenant, states in touched.items():
            self._states.bump(tenant, sorted(states))
        self._deliver(new, sorted(self._wanted))
        return [event is not None for event in stored]

    def _store(self, event: Event) -> Event | None:
        name = (event.tenant, event.source, event.id)
        if name in self._names or name in self._gone or self._erased(event):
            return None
        self._position += 1
        stored = msgspec.structs.replace(event, position=self._position)
        self._events[self._position] = stored
        self._names[name] = self._position
        return stored

    def _erased(self, event: Event) -> bool:
        erased = [self._erasures.get(place) for place in ((event.tenant, None), (event.tenant, event.user))]
        return any(when is not None and when >= event.received_at for when in erased)

    def _deliver(self, events: Sequence[Event], handlers: Sequence[str]) -> None:
        now = self._clock()
        for handler in handlers:
            lanes = self._lanes[handler]
            added = [lanes.add(event, now) for event in events if lanes.subscription.wants(event.type)]
            if any(added):
                self._changes.publish("events", handler)

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """See `ports.EventBus.subscribe`."""
        for one in subscriptions:
            if one.handler in self._lanes:
                self._lanes[one.handler].subscription = one
            else:
                self._lanes[one.handler] = Lanes(one, self._tokens, self._events.get)
        self._wanted = {one.handler for one in subscriptions}

    async def take(self, handler: str, *, lanes: int, lease_s: float) -> list[Delivery]:
        """See `ports.EventBus.take`."""
        found = self._lanes.get(handler)
        return [] if found is None else found.take(self._clock(), lanes, lease_s)

    async def extend(self, delivery: Delivery, lease_s: float) -> Delivery | None:
        """See `ports.EventBus.extend`."""
        until = self._clock() + timedelta(seconds=lease_s)
        kept = self._lanes[delivery.handler].extend(delivery, until)
        return msgspec.structs.replace(delivery, until=until) if kept else None

    async def done(self, deliveries: Sequence[Delivery]) -> int:
        """See `ports.EventBus.done`."""
        return sum(self._lanes[one.handler].through(one, self._clock()) for one in deliveries)

    async def failed(self, delivery: Delivery, error: str, retry_at: datetime | None) -> None:
        """See `ports.EventBus.failed`."""
        lanes = self._lanes[delivery.handler]
        if retry_at is not None:
            lanes.again(delivery, retry_at)
        elif len(delivery.events) > 1:
            lanes.part(delivery, self._clock())
        elif lanes.through(delivery, self._clock()):
            letter = DeadLetter(
                id=new_id(),
                handler=delivery.handler,
                event=delivery.events[0],
                attempts=delivery.attempt,
                error=error,
                at=self._clock(),
            )
            self._dead[letter.id] = letter

    async def dead(self, *, tenant: str | None, handler: str | None, limit: int) -> list[DeadLetter]:
        """See `ports.EventBus.dead`."""
        letters = sorted(self._dead.values(), key=lambda one: (one.at, one.id), reverse=True)
        return [one for one in letters if tenant in {None, one.event.tenant} and handler in {None, one.handler}][:limit]

    async def replay(self, ids: Sequence[UUID]) -> int:
        """See `ports.EventBus.replay`."""
        letters = [self._dead.pop(one) for one in dict.fromkeys(ids) if one in self._dead]
        for letter in letters:
            self._deliver_again(letter)
        return len(letters)

    def _deliver_again(self, letter: DeadLetter) -> None:
        lanes = self._lanes[letter.handler]
        if lanes.add(letter.event, self._clock()):
            self._changes.publish("events", letter.handler)

    async def tail(self, *, tenant: str | None, after: int, limit: int) -> list[Event]:
        """See `ports.EventBus.tail`."""
        ours = [event for event in self._events.values() if tenant in {None, event.tenant} and event.position > after]
        return ours[-limit:] if after < 0 else ours[:limit]

    async def backlog(self) -> list[Backlog]:
        """See `ports.EventBus.backlog`."""
        dead = [letter.handler for letter in self._dead.values()]
        return [self._lanes[handler].backlog(self._clock(), dead.count(handler)) for handler in sorted(self._wanted)]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.EventBus.forget`."""
        if user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        self._erasures[tenant, user_id] = self._clock()

        def theirs(event: Event) -> bool:
            return event.tenant == tenant and user_id in {None, event.user}

        for lanes in self._lanes.values():
            lanes.forget(theirs, self._clock())
        self._dead = {number: letter for number, letter in self._dead.items() if not theirs(letter.event)}
        return self._drop([event for event in self._events.values() if theirs(event)])

    def _drop(self, events: Sequence[Event]) -> int:
        for event in events:
            del self._events[event.position]
            name = (event.tenant, event.source, event.id)
            del self._names[name]
            self._gone[name] = self._clock()
        return len(events)

    async def prune(self, before: datetime, *, max_rows: int) -> int:
        """See `ports.EventBus.prune`."""
        kept_from = self._clock() - _KEPT_FOR
        self._gone = {name: at for name, at in self._gone.items() if at >= kept_from}
        self._erasures = {place: at for place, at in self._erasures.items() if at >= kept_from}
        self._lanes = {name: lanes for name, lanes in self._lanes.items() if name in self._wanted}
        self._dead = {number: one for number, one in self._dead.items() if one.at >= before and one.handler in self._wanted}
        needed = {letter.event.position for letter in self._dead.values()}.union(*(one.positions() for one in self._lanes.values()))
        crowd = len(self._events) - max_rows
        return self._drop(
            [
                event
                for place, event in enumerate(self._events.values())
                if (event.received_at < before or place < crowd) and event.position not in needed
            ]
        )
