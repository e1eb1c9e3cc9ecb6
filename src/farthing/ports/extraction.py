"""What reading facts out of events must remember. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Protocol

from farthing.types import Allowance, Event, Sighting


class SightingStore(Protocol):
    """Events that rules count."""

    async def see(self, sighting: Sighting, *, within_s: float, most: int) -> list[Sighting]:
        """Note an event, and say which of its rule, group and user happened within so many seconds of it, before or after.

        Itself is among them, oldest first, at most the `most` nearest to it on either side. Idempotent: an event is noted once. Empty when
        the user was forgotten since it arrived: then nothing is noted.
        """

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all of a user, or (None) of the tenant. Those on their way are not stored any more. Returns how many went."""

    async def prune(self, before: datetime, *, max_rows: int) -> int:
        """Delete those that happened earlier, and the oldest beyond so many. Returns how many went."""


class ReadingStore(Protocol):
    """Which events a model has read, and what that has cost, by user and UTC day."""

    async def unread(self, tenant: str, user: str, events: Sequence[Event]) -> list[Event]:
        """Those that were not read yet, in their order."""

    async def reserve(self, tenant: str, user: str, day: date, microusd: int, allowance: Allowance) -> bool:
        """Keep money for one question and count it; False, and nothing is kept, where that goes beyond an allowance. Atomic.

        What is kept and never settled (somebody died) stays spent.
        """

    async def settle(self, tenant: str, user: str, day: date, *, reserved: int, spent: int) -> None:
        """The question has cost this much of what was kept for it."""

    async def read(self, tenant: str, user: str, events: Sequence[Event]) -> None:
        """Their facts are stored. Idempotent. Those of a forgotten user are left out."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all of a user, or (None) of the tenant. Returns how many went."""

    async def prune(self, before: datetime) -> int:
        """Delete what was read, and spent, earlier. Returns how many went."""
