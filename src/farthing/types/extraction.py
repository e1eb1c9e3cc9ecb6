"""How facts are read out of events. See `types`."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

import msgspec

from farthing.types.events import Event

_LONGEST_NAME: Final = 512


def event_name(event: Event) -> str:
    """What an event is called among the sources of a fact: `source#id`; a digest of that where it is too long or cannot be printed."""
    name = f"{event.source}#{event.id}"
    return name if len(name) <= _LONGEST_NAME and name.isprintable() else f"sha256:{event_digest(event).hex()}"


def event_digest(event: Event) -> bytes:
    """The SHA-256 of what an event is called within its tenant."""
    parts = (event.source, event.id)
    return hashlib.sha256("\0".join([f"{len(part)}:{part}" for part in parts]).encode("utf-8", "surrogatepass")).digest()


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """An event that fits a rule which counts. `event` is its name, `source#id`; each counts once by rule.

    `group` stands for what must be the same in events that are counted together. `at` is when it happened, `arrived` when we heard of it.
    """

    tenant: str
    user: str
    rule: str
    group: bytes
    event: str
    at: datetime
    arrived: datetime


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent on reading events in a UTC day (micro-dollars), and how often may be asked."""

    user_microusd: int
    tenant_microusd: int
    user_calls: int
