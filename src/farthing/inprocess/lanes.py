"""What waits for one handler, by lane: who is next, and who holds what."""

from __future__ import annotations

import heapq
import itertools
from bisect import insort
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from itertools import takewhile

import msgspec

from farthing.types import Backlog, Delivery, Event, Subscription


class _Waiting(msgspec.Struct, order=True):
    """An event in a lane. `attempts` that it had as one of several; such a one is delivered on its own."""

    position: int
    due: datetime
    attempts: int = 0


class _Lane(msgspec.Struct):
    """`entry` is its valid place in the queue. `held` is the token of the delivery under way. `upto`: what is tried again ends there."""

    tenant: str
    name: str
    entry: int = 0
    waiting: list[_Waiting] = []
    held: int | None = None
    tried: int = 0
    upto: int | None = None


class Lanes:
    """The lanes of one handler. `find` gives a stored event by its position, None when it has gone."""

    def __init__(self, subscription: Subscription, tokens: itertools.count[int], find: Callable[[int], Event | None]) -> None:
        self.subscription = subscription
        self._tokens = tokens
        self._find = find
        self._entries = itertools.count(1)
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._queue: list[tuple[datetime, int, _Lane]] = []
        self.waiting = 0

    def add(self, event: Event, now: datetime) -> bool:
        """Deliver an event. False when its lane had something to do already."""
        name = event.lane(self.subscription.per)
        if name is None:
            return False
        lane = self._lanes.get((event.tenant, name))
        one = _Waiting(event.position, now + timedelta(seconds=self.subscription.linger_s))
        self.waiting += 1
        if lane is not None:
            insort(lane.waiting, one)
            return False
        lane = self._lanes[event.tenant, name] = _Lane(event.tenant, name, waiting=[one])
        self._schedule(lane, one.due)
        return True

    def _schedule(self, lane: _Lane, at: datetime) -> None:
        lane.entry = next(self._entries)
        heapq.heappush(self._queue, (at, lane.entry, lane))

    def take(self, now: datetime, most: int, lease_s: float) -> list[Delivery]:
        """Lease what is due, `most` lanes of it."""
        taken: list[Delivery] = []
        while self._queue and self._queue[0][0] <= now and len(taken) < most:
            _, entry, lane = heapq.heappop(self._queue)
            if lane.entry == entry:
                taken.append(self._lease(lane, now, lease_s))
        return taken

    def _lease(self, lane: _Lane, now: datetime, lease_s: float) -> Delivery:
        head = lane.waiting[0]
        first = lane.waiting[: self.subscription.most]
        batch = list(takewhile(lambda one: one.attempts == 0 and (lane.upto is None or one.position <= lane.upto), first)) or [head]
        lane.held = next(self._tokens)
        lane.tried += 1
        until = now + timedelta(seconds=lease_s)
        self._schedule(lane, until)
        return Delivery(
            handler=self.subscription.handler,
            tenant=lane.tenant,
            lane=lane.name,
            events=tuple(event for one in batch if (event := self._find(one.position)) is not None),
            attempt=head.attempts + lane.tried,
            until=until,
            token=lane.held,
        )

    def extend(self, delivery: Delivery, until: datetime) -> bool:
        """Keep a lease. False when it was lost."""
        lane = self._held(delivery)
        if lane is not None:
            self._schedule(lane, until)
        return lane is not None

    def _held(self, delivery: Delivery) -> _Lane | None:
        lane = self._lanes.get((delivery.tenant, delivery.lane))
        return lane if lane is not None and lane.held == delivery.token else None

    def through(self, delivery: Delivery, now: datetime) -> bool:
        """Its events are handled, or dead. False when the lease was lost."""
        lane = self._held(delivery)
        if lane is None:
            return False
        self._drop(lane, {event.position for event in delivery.events}, now)
        return True

    def _drop(self, lane: _Lane, positions: Collection[int], now: datetime) -> None:
        before = len(lane.waiting)
        first = next((place for place, one in enumerate(lane.waiting) if one.position not in positions), before)
        del lane.waiting[:first]
        if first < len(positions):
            lane.waiting = [one for one in lane.waiting if one.position not in positions]
        self.waiting -= before - len(lane.waiting)
        lane.held, lane.tried, lane.upto = None, 0, None
        if lane.waiting:
            self._schedule(lane, max(lane.waiting[0].due, now))  # after those that wait already
        else:
            lane.entry = 0
            del self._lanes[lane.tenant, lane.name]

    def again(self, delivery: Delivery, at: datetime) -> None:
        """Deliver the same events once more, later. A no-op when the lease was lost."""
        lane = self._held(delivery)
        if lane is not None:
            lane.held, lane.upto = None, delivery.events[-1].position
            self._schedule(lane, at)

    def part(self, delivery: Delivery, at: datetime) -> bool:
        """Deliver its events one by one. False when the lease was lost."""
        lane = self._held(delivery)
        if lane is None:
            return False
        positions = {event.position for event in delivery.events}
        for one in lane.waiting:
            if one.position in positions:
                one.attempts = delivery.attempt
        lane.held, lane.tried, lane.upto = None, 0, None
        self._schedule(lane, at)
        return True

    def forget(self, of: Callable[[Event], bool], now: datetime) -> None:
        """Drop the events that are so. Who is at them has lost his lease."""
        for lane in list(self._lanes.values()):
            gone = {one.position for one in lane.waiting if (event := self._find(one.position)) is None or of(event)}
            if gone:
                self._drop(lane, gone, now)

    def positions(self) -> set[int]:
        """Of all that waits."""
        return {one.position for lane in self._lanes.values() for one in lane.waiting}

    def backlog(self, now: datetime, dead: int) -> Backlog:
        """How far behind it is."""
        oldest = min((lane.waiting[0].due for lane in self._lanes.values()), default=now)
        return Backlog(handler=self.subscription.handler, waiting=self.waiting, dead=dead, lag_s=max(0.0, (now - oldest).total_seconds()))
