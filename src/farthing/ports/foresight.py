"""Answers ready before the click, and what they depend on. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final, Protocol

from farthing.types import ActionCounts, Click, EdgeAnswer, Foreseen, WasteReport

LATE_CLICKS: Final = timedelta(seconds=5)
"""So long after an answer ended its clicks may still come to be counted: workers hold them for a moment."""


class EdgeStore(Protocol):
    """Answers by tenant, user and action. An answer computed from older state than there is now is never given and never stored."""

    async def get(self, tenant: str, user: str, action: str) -> EdgeAnswer | None:
        """The answer, if it is fresh."""

    async def put(self, answer: EdgeAnswer) -> bool:
        """Store an answer. False, and nothing is stored, when a state that it was computed from has changed since."""

    async def versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """The versions of states now; 0 for one that never changed. Read them before the state itself."""

    async def bump(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """States have changed: their versions go up, before anybody reads again. Returns the new ones."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete the answers of a user, or (None) the tenant. Those on their way are not stored any more."""

    async def prune(self, max_rows: int) -> int:
        """Delete what has expired or is stale, and the oldest beyond so many. Returns how many went."""

    async def close(self) -> None:
        """Let go of connections. They come back with the next use."""


class ForesightLog(Protocol):
    """What became of answers that were computed ahead: the counts that click probabilities are learnt from."""

    async def add(self, foreseen: Sequence[Foreseen], clicks: Sequence[Click]) -> None:
        """Count answers that were computed, then clicks. Answers that are there already (`request_id`) are skipped.

        Answers to the same action of the same user that were there before end now. A click on an answer whose end was counted already
        counts as `served`, and no more as read. Those of forgotten users are left out.
        """

    async def settle(self) -> int:
        """Count the answers that ended `LATE_CLICKS` ago, unread ones as `stale` or `expired`.

        Returns how many there were; 0 when another worker is at it.
        """

    async def learned(self, tenant: str, actions: Sequence[str], *, half_life_days: float) -> list[ActionCounts]:
        """The counts of a tenant's actions by segment, what happened so many days ago weighing half."""

    async def week(self, tenant: str | None, monday: date) -> list[WasteReport]:
        """What happened in a week: the report that was stored of it, else what is counted up to now."""

    async def store_week(self, monday: date) -> int:
        """Store the reports of a week. Those that are there are replaced. Returns of how many tenants."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete what names a user, or (None) all of the tenant, counts and reports included. Returns how many rows went."""

    async def prune(self, before: date) -> int:
        """Delete counts and reports of weeks that began earlier. Returns how many rows went."""
