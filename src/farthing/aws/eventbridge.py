"""`ports.EventBus` on AWS: events in DynamoDB, their order in FIFO queues of SQS, and EventBridge for the rest of the account.

EventBridge promises its targets no order, so it is not in the way of what Farthing handles itself: it is told events of the types in
`mirror`, and hands over those of other systems (`event_inbox`). See docs/decisions/0017-events-on-aws.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from farthing.aws.calls import AwsCalls
from farthing.aws.event_mirror import Mirror
from farthing.aws.event_names import CHUNK, group_of, micros, read, written
from farthing.aws.event_queues import Queues
from farthing.aws.event_table import EventTable
from farthing.aws.event_takes import Ended, Round, Takes, counter, messages_of
from farthing.errors import Overloaded
from farthing.events.payload import touched
from farthing.settings.events_aws import AwsEventSettings
from farthing.types import Backlog, DeadLetter, Delivery, Event, Subscription, new_id, utc_now

_PARALLEL = 8
"""Calls of SQS for one `take`."""
_MOST_CHUNKS = 50
"""Of a thousand positions, that one `tail` or `prune` reads."""

Bump = Callable[[str, Sequence[str]], Awaitable[dict[str, int]]]


class EventBridgeBus:
    """See the module. `bump` makes versions of states go up, before a publish returns; None: in the bus's own table.

    While a handler has more than `max_backlog` events to do, none are published; `counted_for_s` is how long a count of them is believed.
    Leases, delays and lingering are whole seconds, rounded up. A publish of more than 33 events is several transactions: after a failure
    some of them may be stored, and the same publish again stores the rest. A delivery holds ten events at most. `backlog` is SQS's count,
    up to a minute old; its `lag_s` is that of what this process took last. `prune` deletes nothing while a handler has anything to do.
    Raises `SettingsError` without botocore.
    """

    def __init__(
        self,
        settings: AwsEventSettings,
        *,
        max_backlog: int,
        bump: Bump | None = None,
        counted_for_s: float = 5.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._max_backlog = max_backlog
        self._now = now
        self._calls = AwsCalls(settings, "events.bus: aws", "docs/events-aws.md")
        self._table = EventTable(self._calls, settings.table, settings.keep_days)
        self._queues = Queues(self._calls, settings.prefix)
        self._takes = Takes(self._table, self._queues, now)
        self._mirror = Mirror(self._calls, settings.bus, settings.mirror)
        self._bump = bump
        self._known: dict[str, Subscription] = {}
        self._counted_for_s = counted_for_s
        self._counts: tuple[float, dict[str, tuple[int, int]]] = (-counted_for_s, {})
        self._ended = Ended()
        self._lags: dict[str, float] = {}

    # publishing

    async def publish(self, events: Sequence[Event]) -> list[bool]:
        """See `ports.EventBus.publish`."""
        if not events:
            return []
        for event in events:
            written(event)  # too large for AWS: nothing is stored
        subscriptions = await self._calls.run(self._subscriptions, "read subscriptions")
        await self._refuse_overload(subscriptions)
        now = self._now()
        stored = await self._calls.run(lambda: self._table.store(events, now), "store events")
        fresh = sorted((one.event for one in stored if one.event is not None), key=lambda event: event.position)
        for tenant, states in touched(fresh).items():
            await self._touch(tenant, states)
        gone = await self._calls.run(lambda: self._deliver(fresh, subscriptions, now), "send events")
        return [one.new and (one.event is None or one.event.position not in gone) for one in stored]

    async def _touch(self, tenant: str, states: Sequence[str]) -> None:
        if self._bump is not None:
            await self._bump(tenant, states)
        else:
            await self._calls.run(lambda: self._table.bump(tenant, states), "change versions of states")

    def _deliver(self, events: list[Event], subscriptions: list[Subscription], now: datetime) -> set[int]:
        """To the queues of those who want them. Until that is done they count as not sent: the same publish again sends them.

        Returns the positions of those that an erasure covers: they are deleted again.
        """
        erased = self._table.erased(events)  # since they are stored: whoever forgets later finds them
        self._table.remove(erased)
        gone = {event.position for event in erased}
        left = [event for event in events if event.position not in gone]
        for subscription in subscriptions:
            self._queues.send(subscription.handler, _wanted(left, subscription))
        self._mirror.tell(left)
        self._table.sent(left, now)
        return gone

    def _subscriptions(self) -> list[Subscription]:
        return self._table.subscriptions()

    async def _refuse_overload(self, subscriptions: list[Subscription]) -> None:
        at, _ = self._counts
        if time.monotonic() - at >= self._counted_for_s:
            self._counts = (time.monotonic(), await self._calls.run(lambda: self._counted(subscriptions), "count messages"))
        for handler, (waiting, under_way) in self._counts[1].items():
            if waiting + under_way > self._max_backlog:
                raise Overloaded(
                    f"{handler} is {waiting + under_way} events behind: try again later.", retry_after_s=max(1.0, self._counted_for_s)
                )

    def _counted(self, subscriptions: list[Subscription]) -> dict[str, tuple[int, int]]:
        return {each.handler: self._queues.counts(each.handler) for each in subscriptions}

    # handling

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """See `ports.EventBus.subscribe`. Makes the queues that there are not yet."""

        def work() -> None:
            for each in subscriptions:
                self._queues.url(each.handler)
            self._table.subscribe(subscriptions)

        await self._calls.run(work, "subscribe handlers")
        self._known = {each.handler: each for each in subscriptions}

    async def take(self, handler: str, *, lanes: int, lease_s: float) -> list[Delivery]:
        """See `ports.EventBus.take`."""
        subscription = await self._subscription(handler)
        if subscription is None or lanes <= 0:
            return []
        found: list[Delivery] = []
        while len(found) < lanes:
            rounds = await self._rounds(subscription, lanes - len(found), lease_s)
            found += [delivery for each in rounds for delivery in each.deliveries]
            if not all(each.had for each in rounds) and not any(each.dropped for each in rounds):
                break
        return self._noted(handler, found)

    async def _rounds(self, subscription: Subscription, lanes: int, lease_s: float) -> list[Round]:
        """Calls of SQS at the same time, where each gets one message; else one call, which may get those of several lanes."""
        many = min(lanes, _PARALLEL) if subscription.most == 1 else 1
        work = partial(self._takes.take, subscription, 1 if subscription.most == 1 else lanes, lease_s)
        return await asyncio.gather(*(self._calls.run(work, "receive events") for _ in range(many)))

    def _noted(self, handler: str, found: list[Delivery]) -> list[Delivery]:
        now = self._now()
        self._lags[handler] = max(((now - delivery.events[0].received_at).total_seconds() for delivery in found), default=0.0)
        return found

    async def _subscription(self, handler: str) -> Subscription | None:
        if handler not in self._known:
            found = await self._calls.run(self._subscriptions, "read subscriptions")
            self._known = {each.handler: each for each in found}
        return self._known.get(handler)

    async def extend(self, delivery: Delivery, lease_s: float) -> Delivery | None:
        """See `ports.EventBus.extend`."""
        if not self._held(delivery):
            return None
        held = await self._calls.run(
            lambda: self._queues.hide(delivery.handler, messages_of(delivery), lease_s), "extend the lease of an event"
        )
        until = datetime.fromtimestamp(self._now().timestamp() + lease_s, delivery.until.tzinfo)
        return msgspec.structs.replace(delivery, until=until) if held else None

    async def done(self, deliveries: Sequence[Delivery]) -> int:
        """See `ports.EventBus.done`. Those whose user was forgotten meanwhile are not counted."""
        held = [delivery for delivery in deliveries if self._held(delivery)]
        return sum(await asyncio.gather(*(self._calls.run(partial(self._finish, each), "delete handled events") for each in held)))

    def _finish(self, delivery: Delivery) -> bool:
        messages = self._ended.take(delivery)
        forgotten = self._table.erased(delivery.events)
        return self._queues.delete(delivery.handler, messages) and not forgotten

    def _held(self, delivery: Delivery) -> bool:
        """As far as it can be known here: SQS lets go of a message that is deleted twice, or after it was put off."""
        return delivery.until > self._now() and delivery not in self._ended

    async def failed(self, delivery: Delivery, error: str, retry_at: datetime | None) -> None:
        """See `ports.EventBus.failed`. A no-op when the lease is lost."""
        if not self._held(delivery):
            return
        if retry_at is not None:
            seconds = (retry_at - self._now()).total_seconds()
            await self._calls.run(lambda: self._queues.hide(delivery.handler, self._ended.take(delivery), seconds), "put an event off")
        elif len(delivery.events) > 1:
            await self._calls.run(lambda: self._part(delivery), "part events")
        else:
            await self._calls.run(lambda: self._bury(delivery, error), "bury an event")

    def _part(self, delivery: Delivery) -> None:
        messages = self._ended.take(delivery)
        for message in messages:
            self._table.again(counter(delivery.handler, message), 0, self._now(), alone=True)
        self._queues.hide(delivery.handler, messages, 0)

    def _bury(self, delivery: Delivery, error: str) -> None:
        now = self._now()
        event = delivery.events[0]
        letter = DeadLetter(id=new_id(), handler=delivery.handler, event=event, attempts=delivery.attempt, error=error[:2000], at=now)
        self._table.bury(letter, now)
        if self._table.erased([event]):
            self._table.exhume(letter)
        self._queues.delete(delivery.handler, self._ended.take(delivery))

    # dead letters

    async def dead(self, *, tenant: str | None, handler: str | None, limit: int) -> list[DeadLetter]:
        """See `ports.EventBus.dead`."""

        def work() -> list[DeadLetter]:
            handlers = [handler] if handler is not None else [each.handler for each in self._subscriptions()]
            found = [letter for each in handlers for letter in self._table.dead(each, tenant, limit)]
            return sorted(found, key=lambda letter: letter.id, reverse=True)[: max(limit, 0)]

        return await self._calls.run(work, "list dead letters")

    async def replay(self, ids: Sequence[UUID]) -> int:
        """See `ports.EventBus.replay`. Those of handlers that are not subscribed any more stay."""
        return await self._calls.run(lambda: self._replay([str(each) for each in ids]), "replay dead letters")

    def _replay(self, ids: list[str]) -> int:
        subscriptions = {each.handler: each for each in self._subscriptions()}
        letters = sorted(self._table.dead_by_id(ids, list(subscriptions)), key=lambda letter: letter.event.position)
        for letter in letters:
            wanted = _wanted([letter.event], subscriptions[letter.handler], always=True)
            self._table.restore(letter.event, self._now())
            self._queues.send(letter.handler, wanted, suffix=f":{letter.id}")
            self._table.exhume(letter)
        return len(letters)

    # looking

    async def tail(self, *, tenant: str | None, after: int, limit: int) -> list[Event]:
        """See `ports.EventBus.tail`. One that is being stored this moment may be passed by. At most 50,000 positions are looked at."""
        if limit <= 0:
            return []
        work = self._latest if after < 0 else self._behind
        return await self._calls.run(lambda: work(tenant, after, limit), "list events")

    def _behind(self, tenant: str | None, after: int, limit: int) -> list[Event]:
        last, first = self._table.last()
        found: list[Event] = []
        position = max(after + 1, first)
        for _ in range(_MOST_CHUNKS):
            if position > last or len(found) >= limit:
                break
            found += _read(self._table.chunk(position, last), tenant)
            position = (position // CHUNK + 1) * CHUNK
        return found[:limit]

    def _latest(self, tenant: str | None, _after: int, limit: int) -> list[Event]:
        last, first = self._table.last()
        found: list[Event] = []
        for chunk in range(last // CHUNK, max(first // CHUNK, last // CHUNK - _MOST_CHUNKS) - 1, -1):
            found = _read(self._table.chunk(chunk * CHUNK, last), tenant) + found
            if len(found) >= limit:
                break
        return found[-limit:]

    async def backlog(self) -> list[Backlog]:
        """See `ports.EventBus.backlog`, and the class."""

        def work() -> list[Backlog]:
            found = []
            for each in self._subscriptions():
                waiting = sum(self._queues.counts(each.handler))
                lag = self._lags.get(each.handler, 0.0) if waiting else 0.0
                found.append(Backlog(handler=each.handler, waiting=waiting, dead=self._table.dead_count(each.handler), lag_s=lag))
            return found

        return await self._calls.run(work, "count events")

    # forgetting

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.EventBus.forget`. Messages in queues say nothing of anybody; those of events that are gone are dropped."""

        def work() -> int:
            self._table.note_erasure(tenant, user_id, self._now())
            if user_id is None:
                return self._table.forget_tenant(tenant)
            return self._table.forget_user(tenant, user_id, [each.handler for each in self._subscriptions()])

        return await self._calls.run(work, "forget events")

    async def prune(self, before: datetime, *, max_rows: int) -> int:
        """See `ports.EventBus.prune`, and the class. DynamoDB's own expiry deletes what is older than `keep_days` in any case."""

        def work() -> int:
            subscriptions = self._subscriptions()
            for each in subscriptions:
                self._table.prune_dead(each.handler, before)
            if any(sum(self._queues.counts(each.handler)) for each in subscriptions):
                return 0
            return self._prune(micros(before), max_rows)

        return await self._calls.run(work, "prune events")

    def _prune(self, before: int, max_rows: int) -> int:
        last, position = self._table.last()
        count = 0
        for _ in range(_MOST_CHUNKS):
            items = self._table.chunk(position, last)
            old = []
            for item in items:
                if int(item["r"]["N"]) >= before and int(item["sk"]["S"]) > last - max_rows:
                    break
                old.append(item)
            self._table.remove(read(item["e"]["S"]) for item in old)
            count += len(old)
            if len(old) < len(items) or position + CHUNK > last:
                position = int(items[len(old)]["sk"]["S"]) if len(old) < len(items) else last + 1
                break
            position = (position // CHUNK + 1) * CHUNK
        self._table.begin_at(position)
        return count


def _wanted(events: list[Event], subscription: Subscription, *, always: bool = False) -> list[tuple[str, Event]]:
    """Those that a handler wants, with their groups."""
    found = []
    for event in events:
        lane = event.lane(subscription.per)
        if lane is not None and (always or wants(subscription.types, event.type)):
            found.append((group_of(event.tenant, lane), event))
    return found


def wants(types: Sequence[str], name: str) -> bool:
    """Whether a type is among them: exact types, `prefix.*`, or `*`."""
    return any(each in {"*", name} or (each.endswith(".*") and name.startswith(each[:-1])) for each in types)


def _read(items: list[Any], tenant: str | None) -> list[Event]:
    return [read(item["e"]["S"]) for item in items if tenant in {None, item["t"]["S"]}]
