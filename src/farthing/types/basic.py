"""Ids, time, money as text. See `types`."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, SafeUUID

Json = dict[str, Any]
"""A decoded JSON object."""


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    return uuid7_at(time.time_ns() // 1_000_000, os.urandom(10))


def uuid7_at(unix_ms: int, noise: bytes) -> UUID:
    """The UUIDv7 of a millisecond with ten given bytes of noise; ten zero bytes give the smallest id of that millisecond."""
    rand = int.from_bytes(noise, "big")
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7000_8000_0000_0000_0000 | (rand >> 68) << 64 | rand & 0x3FFF_FFFF_FFFF_FFFF
    made = object.__new__(UUID)  # UUID(int=value) takes three times as long, and two are made for each request
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


def time_of(entry_id: UUID) -> datetime:
    """The time in a UUIDv7."""
    return datetime.fromtimestamp((entry_id.int >> 80) / 1000, UTC)


def utc_now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def dollars(microusd: int) -> str:
    """Micro-dollars as dollars with six places, without a float on the way."""
    sign = "-" if microusd < 0 else ""
    return f"{sign}{abs(microusd) // 1_000_000}.{abs(microusd) % 1_000_000:06d}"
