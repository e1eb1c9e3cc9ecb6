"""What is known of a user, and how. See `types`."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class NewFact(msgspec.Struct, frozen=True, kw_only=True):
    """A fact as it was learnt. `value` is any JSON value, small.

    A `multi`-valued key gathers values; of any other key a new value takes the place of the old one. `confidence` is 0 to 1. `sources`
    are the events that it was read from, `source#id`. `by` is who read it: `rule:NAME`, `model:NAME`, `person:KEY`.
    """

    key: str
    value: Any
    multi: bool = False
    confidence: float = 1.0
    sources: tuple[str, ...] = ()
    by: str
    valid_from: datetime
    expires_at: datetime | None = None


class Fact(NewFact, frozen=True, kw_only=True):
    """A fact of a user. It holds in the world from `valid_from` to `valid_to`; it is believed from `known_from` to `known_to`.

    None: still. What superseded it, or who took it back, is in `ended_by`: `fact:ID`, `person:KEY`, `expiry`, `max_facts`. `confirmed_at`
    is the latest time at which it was said to hold; None: it was said once.
    """

    id: UUID
    tenant: str
    user: str
    valid_to: datetime | None = None
    known_from: datetime
    known_to: datetime | None = None
    confirmed_at: datetime | None = None
    ended_by: str | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """All that holds of a user now. `version` goes up with each change."""

    tenant: str
    user: str
    facts: tuple[Fact, ...]
    version: int


class Turn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One turn of a conversation that was handed to us. A conversation is one user's (None: the tenant's), by whatever name it has.

    `number` counts from 1 within the conversation; the store gives it. `payload` is opaque to stores and may be sealed: what was said.
    `vector` is its embedding, one signed byte for each dimension, by the embedder of that name; None: it has none yet. `at` is when the
    request that brought it arrived.
    """

    id: UUID
    tenant: str
    user: str | None
    conversation: str
    number: int = 0
    role: str
    payload: bytes
    vector: bytes | None = None
    embedder: str | None = None
    at: datetime


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that a user, or (None) a whole tenant, was forgotten. `by` is the key that said so.

    `places` is, by name, how many things went there; None: the place was away, and may still hold something.
    """

    id: UUID
    tenant: str
    user: str | None
    at: datetime
    by: str
    places: dict[str, int | None]

    @property
    def complete(self) -> bool:
        """Whether every place was there."""
        return None not in self.places.values()


def subject_of(tenant: str, user: str) -> bytes:
    """What stands for a user where his name may not be kept: who knows the name can find it, nobody can read it."""
    return hashlib.sha256(msgspec.json.encode([tenant, user])).digest()
