"""What is delivered of a handler's queue: messages become deliveries, and those that must wait go back. Methods block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from farthing.aws.event_queues import MOST_AT_ONCE, Queues, Taken
from farthing.aws.event_table import EventTable
from farthing.errors import Unavailable
from farthing.types import Delivery, Event, Subscription

_MOST_ENDED = 10_000
_log = logging.getLogger("farthing.aws")


class Lease(msgspec.Struct, frozen=True):
    """The token of a delivery: its messages."""

    messages: tuple[Taken, ...]


class Round(msgspec.Struct, frozen=True):
    """What one call of SQS brought: deliveries; whether there was any message; and whether any was dropped, so that its lane goes on."""

    deliveries: list[Delivery]
    had: bool
    dropped: bool


class Ended:
    """Deliveries that are done, or have failed, in this process: what they hold is not theirs any more. The last 10,000 of them."""

    def __init__(self) -> None:
        self._receipts: dict[str, None] = {}

    def take(self, delivery: Delivery) -> tuple[Taken, ...]:
        """End one. Its messages."""
        messages = messages_of(delivery)
        self._receipts.update(dict.fromkeys(message.receipt for message in messages[:1]))
        while len(self._receipts) > _MOST_ENDED:
            del self._receipts[next(iter(self._receipts))]
        return messages

    def __contains__(self, delivery: Delivery) -> bool:
        return any(message.receipt in self._receipts for message in messages_of(delivery)[:1])


def messages_of(delivery: Delivery) -> tuple[Taken, ...]:
    """Those that a delivery holds. Raises `Unavailable` for one of another bus."""
    if not isinstance(delivery.token, Lease):
        raise Unavailable("The delivery is of another bus.")
    return delivery.token.messages


class Takes:
    """Deliveries of one handler. `now` tells the time."""

    def __init__(self, table: EventTable, queues: Queues, now: Callable[[], datetime]) -> None:
        self._table = table
        self._queues = queues
        self._now = now

    def take(self, subscription: Subscription, lanes: int, lease_s: float) -> Round:
        """At most `lanes` deliveries by one call of SQS. What it had may all have to wait."""
        most = 1 if subscription.most == 1 else MOST_AT_ONCE
        taken = self._queues.receive(subscription.handler, most, lease_s)
        groups: dict[str, list[Taken]] = {}
        for message in self._readable(subscription.handler, taken):
            groups.setdefault(message.group, []).append(message)
        events = {event.position: event for event in self._table.at(_positions(taken))}
        until = self._now() + timedelta(seconds=lease_s)
        deliveries: list[Delivery] = []
        for messages in groups.values():
            if len(deliveries) >= lanes:
                self._let_go(subscription.handler, messages, 0)
                continue
            made = self._delivery(subscription, messages, events, until)
            if made is not None:
                deliveries.append(made)
        dropped = any(message.place is None or message.place.position not in events for message in taken)
        return Round(deliveries, had=bool(taken), dropped=dropped)

    def _readable(self, handler: str, taken: list[Taken]) -> list[Taken]:
        """Without those that are none of ours: somebody else has written them into the queue."""
        foreign = [message for message in taken if message.place is None]
        if foreign:
            _log.error("%d messages in the queue of %s are no events: deleted: %.200s", len(foreign), handler, foreign[0].body)
            self._queues.delete(handler, foreign)
        return [message for message in taken if message.place is not None]

    def _delivery(self, subscription: Subscription, messages: list[Taken], events: dict[int, Event], until: datetime) -> Delivery | None:
        """Of messages of one group. None when nothing of it is left, or it is to wait."""
        handler = subscription.handler
        gone = [message for message in messages if _place(message).position not in events]
        if gone:  # forgotten, or pruned
            self._queues.delete(handler, gone)
        left = [message for message in messages if _place(message).position in events]
        if not left:
            return None
        waits = left[0].sent + subscription.linger_s - self._now().timestamp()
        if waits > 0 and len(left) < min(subscription.most, MOST_AT_ONCE):
            self._let_go(handler, left, waits)
            return None
        if len(left) > subscription.most:
            self._let_go(handler, left[subscription.most :], 0)
        attempt, left = self._counted(handler, left[: subscription.most])
        told = [events[_place(message).position] for message in left]
        lane = told[0].lane(subscription.per)
        return Delivery(
            handler=handler,
            tenant=told[0].tenant,
            lane=lane or "",
            events=tuple(told),
            attempt=attempt,
            until=until,
            token=Lease(tuple(left)),
        )

    def _counted(self, handler: str, messages: list[Taken]) -> tuple[int, list[Taken]]:
        """The attempt that this is for the first of them; and those that go with it: one that is to be alone is."""
        counts = [self._again(handler, message) for message in messages]
        alone = next((index for index, (_, alone) in enumerate(counts) if alone), None)
        kept = messages if alone is None else messages[: max(alone, 1)]
        if len(kept) < len(messages):
            self._let_go(handler, messages[len(kept) :], 0)
        return 1 + max(counts[0][0], 0), kept

    def _again(self, handler: str, message: Taken) -> tuple[int, bool]:
        if message.receives == 1:
            return 0, False
        return self._table.again(counter(handler, message), 1, self._now())

    def _let_go(self, handler: str, messages: Sequence[Taken], seconds: float) -> None:
        """They have not been delivered, and are not counted."""
        for message in messages:
            self._table.again(counter(handler, message), -1, self._now())
        self._queues.hide(handler, messages, seconds)


def counter(handler: str, message: Taken) -> str:
    """Under what a message's deliveries are counted."""
    return f"{handler}#{_place(message).message}"


def _place(message: Taken) -> Any:
    return message.place


def _positions(taken: list[Taken]) -> list[int]:
    return [message.place.position for message in taken if message.place is not None]
