"""What people say of answers. See `ports`."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from farthing.types import Feedback


class FeedbackStore(Protocol):
    """Feedback, by tenant, in the order of its ids, which is that of its arrival."""

    async def add(self, feedback: Feedback) -> bool:
        """Store it, and tell the bus where the store can do both at once (`types.feedback_event`).

        False, and nothing is done, when the same key said the same (`digest`) of the same request before, or when the request arrived
        before its user or tenant was forgotten. Raises `InvalidRequest` when the store cannot hold it.
        """

    async def of(self, tenant: str, request_id: UUID) -> list[Feedback]:
        """All that was said of a request, newest first."""

    async def latest(self, *, tenant: str | None, limit: int, before: UUID | None = None, corrected: bool = False) -> list[Feedback]:
        """At most `limit`, newest first, older than `before`; with `corrected` only those with a correction."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all of a user, or (None) of the tenant. Returns how many went."""

    async def prune(self, max_rows: int) -> int:
        """Delete the oldest beyond so many. Returns how many went."""
