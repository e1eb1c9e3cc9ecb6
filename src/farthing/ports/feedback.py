"""What people say of answers. See `ports`."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from farthing.types import Feedback


class FeedbackStore(Protocol):
    """Feedback, by tenant, in the order of its ids, which is that of its arrival."""

    async def add(self, feedback: Feedback) -> bool:
        """Store it, unless its user was forgotten since. False when the same key said exactly the same of the same request before."""

    async def of(self, tenant: str, request_id: UUID) -> list[Feedback]:
        """All that was said of a request, newest first."""

    async def latest(self, *, tenant: str | None, limit: int, before: UUID | None = None, corrected: bool = False) -> list[Feedback]:
        """At most `limit`, newest first, older than `before`; with `corrected` only those with a correction."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all of a user, or (None) of the tenant. Returns how many went."""

    async def prune(self, max_rows: int) -> int:
        """Delete the oldest beyond so many. Returns how many went."""
