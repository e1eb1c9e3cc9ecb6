"""Events: what happened, as CloudEvents 1.0 has it. See `types`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

OWN_EVENTS: Final = "farthing."
"""How the types and sources of events begin that come from Farthing itself. None from outside may begin so."""
Per = Literal["subject", "user"]
"""Of what events are handled in order, and in batches."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened (CloudEvents 1.0.2). `source` and `id` name it within its tenant: a second one of the same name is the first.

    `tenant` is that of the key that it came with, whatever the event says. `user` is on whose account it happened (our extension
    attribute `user`). `time` is when it happened, `received_at` when we heard of it. `data` is any JSON value. `touches` names the states
    that it changes, by tenant: their versions go up in the transaction that stores it (see `foresight`). `position` is the store's order,
    0 before it is stored.
    """

    id: str
    source: str
    type: str
    tenant: str
    subject: str | None = None
    user: str | None = None
    time: datetime
    data: Any = None
    extensions: dict[str, str | int | bool] = {}
    touches: tuple[str, ...] = ()
    received_at: datetime
    position: int = 0

    def lane(self, per: Per) -> str | None:
        """Of what this is one: events of a lane are handled one after the other. None: it has no such thing, and is not handled so.

        Without a subject it is one of its user's, else of its source's.
        """
        if per == "user":
            return self.user
        return self.subject if self.subject is not None else self.user if self.user is not None else self.source


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler wants to hear: exact types, `prefix.*`, or `*`. `most` events of a lane at a time.

    `linger_s` seconds are waited after an event, for more of its lane to be handled together with it.
    """

    handler: str
    types: tuple[str, ...]
    per: Per = "subject"
    most: int = 1
    linger_s: float = 0.0

    def wants(self, event_type: str) -> bool:
        """Whether it is for events of this type."""
        return any(one in {"*", event_type} or (one.endswith(".*") and event_type.startswith(one[:-1])) for one in self.types)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one lane for one handler, in order, leased until `until`. `attempt` counts from 1. `token` is the store's."""

    handler: str
    tenant: str
    lane: str
    events: tuple[Event, ...]
    attempt: int
    until: datetime
    token: Any = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a handler could not handle, and why."""

    id: UUID
    handler: str
    event: Event
    attempts: int
    error: str
    at: datetime


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler has not handled yet. `lag_s` is the age of the oldest that is due (seconds)."""

    handler: str
    waiting: int
    dead: int
    lag_s: float
