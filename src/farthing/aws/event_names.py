"""How events and what belongs to them are named in DynamoDB and SQS, and how events are written there."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from typing import Any, Final

import msgspec

from farthing.errors import BodyTooLarge
from farthing.events.payload import encoded
from farthing.types import Event

MOST_BYTES: Final = 256 * 1024
"""Of an event as JSON: what EventBridge and SQS take, and far from the 400 KB of a DynamoDB item."""
CHUNK: Final = 1000
"""So many positions share a partition of the table."""
_decoder = msgspec.json.Decoder(Event)


def digest(*parts: str) -> str:
    """A name of parts that may be anything: 43 characters of base64url."""
    told = hashlib.sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(told).rstrip(b"=").decode()


def name_of(event: Event) -> str:
    """What tells events apart: tenant, source and id."""
    return digest(event.tenant, event.source, event.id)


def group_of(tenant: str, lane: str) -> str:
    """The message group of a lane."""
    return digest(tenant, lane)


def written(event: Event) -> str:
    """An event as JSON. Raises `InvalidRequest` when it has none, and `BodyTooLarge`."""
    told = encoded(event, event)
    if (size := len(told.encode())) > MOST_BYTES:
        raise BodyTooLarge(f"event {event.id[:100]!r} has {size} bytes as JSON; with events.bus: aws, {MOST_BYTES} are the most")
    return told


def read(text: str) -> Event:
    """The same back."""
    return _decoder.decode(text)


def micros(at: datetime) -> int:
    """Unix time in microseconds."""
    return round(at.timestamp() * 1_000_000)


def chunk_key(position: int) -> str:
    """The partition of a position."""
    return f"L#{position // CHUNK}"


def sort_key(position: int) -> str:
    """Positions in order, as text."""
    return f"{position:020d}"


def text(value: str) -> dict[str, str]:
    """An attribute of DynamoDB."""
    return {"S": value}


def number(value: int) -> dict[str, str]:
    """The same of a number."""
    return {"N": str(value)}


def key(partition: str, sort: str = "-") -> dict[str, Any]:
    """A primary key."""
    return {"pk": text(partition), "sk": text(sort)}
