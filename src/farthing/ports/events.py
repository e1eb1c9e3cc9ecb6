"""The event bus. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from farthing.types import Backlog, DeadLetter, Delivery, Event, Subscription


class EventBus(Protocol):
    """Events, durable once published; each reaches each handler that wants it at least once.

    A handler gets the events of a lane (`Event.lane`) in the order in which they were stored, never two deliveries of one lane at a time.
    Lanes do not wait for each other. A delivery that is neither done nor failed when its lease ends is delivered again.
    """

    async def publish(self, events: Sequence[Event]) -> list[bool]:
        """Store events, all or nothing, and make the versions of what they touch go up. False for those that were there already.

        When this returns they are durable. Raises `Unavailable`, and `Overloaded` while a handler is too far behind.
        """

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """From now on these handlers hear of events, and no others. Those published before they were first subscribed are not theirs."""

    async def take(self, handler: str, *, lanes: int, lease_s: float) -> list[Delivery]:
        """At most `lanes` deliveries that are due, leased for `lease_s` seconds. Empty when there are none."""

    async def extend(self, delivery: Delivery, lease_s: float) -> Delivery | None:
        """Keep a lease for another `lease_s` seconds from now; None when it was lost."""

    async def done(self, deliveries: Sequence[Delivery]) -> int:
        """They are handled. Returns how many of the leases still held: the others were, or are being, delivered again."""

    async def failed(self, delivery: Delivery, error: str, retry_at: datetime | None) -> None:
        """It could not be handled: again at `retry_at`, the rest of its lane after it; None: never, it is a dead letter from now on.

        Of a delivery of several events that is to die, each is delivered once more on its own first, so that only the bad one dies.
        """

    async def dead(self, *, tenant: str | None, handler: str | None, limit: int) -> list[DeadLetter]:
        """Dead letters, newest first."""

    async def replay(self, ids: Sequence[UUID]) -> int:
        """Deliver dead letters again, as if new. Returns how many there were."""

    async def tail(self, *, tenant: str | None, after: int, limit: int) -> list[Event]:
        """Events behind a position, in order; with `after` -1 the latest `limit`."""

    async def backlog(self) -> list[Backlog]:
        """How far behind each handler is."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete the events of a user, or (None) a tenant, with deliveries and dead letters. Those on their way are not stored any more."""

    async def prune(self, before: datetime, *, max_rows: int) -> int:
        """Delete events that all handlers are through with and that are older, or too many. Their names are remembered for a while."""


class Publisher(Protocol):
    """Where events come in from inside."""

    async def publish(self, events: Sequence[Event]) -> list[bool]:
        """See `EventBus.publish`. Fills in what events touch."""

    def tell(self, event: Event) -> None:
        """Publish soon, together with others. Never blocks or raises; lost, and counted, when there is no room or no bus."""
