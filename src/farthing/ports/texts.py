"""Texts that are kept: conversations and transcripts. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from farthing.types import (
    NewTranscript,
    RetentionPolicy,
    StoredResponse,
    StoredTranscript,
)


class ResponseStore(Protocol):
    """Turns of conversations (/v1/responses). A turn past `expires_at` counts as absent, and so does another tenant's."""

    async def put(self, turns: Sequence[StoredResponse]) -> None:
        """Store new turns, all or none. A turn whose id is there already is skipped, so that a batch may be repeated after any failure."""

    async def chain(self, tenant: str, turn_id: UUID, *, most: int, most_bytes: int) -> list[StoredResponse]:
        """A turn, the one before it, and so on back: newest first, empty when the turn is absent.

        Ends before a turn that is absent; after `most` turns; and with the turn whose payload takes the sum beyond `most_bytes`.
        """

    async def renew(self, tenant: str, turn_ids: Sequence[UUID], expires_at: datetime) -> None:
        """Let turns live until then, those that live longer excepted. Absent ones stay absent."""

    async def delete(self, tenant: str, turn_id: UUID) -> bool:
        """Delete a turn. False when it is absent. Turns after it stay, but no longer lead back beyond it."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all turns of a user, or (None) of the whole tenant. Returns how many went.

        Turns of requests that arrived before this (by their ids) are not stored any more.
        """

    async def prune(self, *, rows_per_tenant: int, bytes_per_tenant: int, total_bytes: int) -> int:
        """Delete expired turns, then each tenant's oldest beyond its bounds, then the oldest of all. Returns how many went.

        Bounds in bytes count payloads.
        """


class RetentionStore(Protocol):
    """Which tenants want their prompts and answers kept, and those texts, sealed. A text past `expires_at` counts as absent."""

    async def policy(self, tenant: str) -> RetentionPolicy | None:
        """What was last set for a tenant; None when nothing ever was: nothing is kept then."""

    async def enabled(self, limit: int) -> tuple[frozenset[str], datetime | None]:
        """At most `limit` tenants that want texts kept; and when cached answers were last flushed, None when not lately."""

    async def set_policy(self, policy: RetentionPolicy) -> None:
        """Set a tenant's policy and tell other workers. Texts that would live longer than its `ttl_s` live no longer than that."""

    async def put(self, transcripts: Sequence[NewTranscript]) -> int:
        """Store texts, to live as long as their tenant's policy says now. Returns how many were stored.

        All or none, but for those that are left out: of tenants that do not want them (any more), stored already, or arrived before
        what `forget` has deleted.
        """

    async def get(self, request_id: UUID) -> StoredTranscript | None:
        """The text of a request, of whatever tenant; None when absent."""

    async def kept(self, request_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Those of these requests whose text is there."""

    async def forget(self, tenant: str, user: str | None) -> int:
        """Delete all texts of a user, or (None) of the whole tenant. Returns how many went.

        What arrived before this, and is still on its way in any worker, is not stored any more.
        """

    async def prune(self, max_rows: int) -> int:
        """Delete what has expired, then the oldest beyond `max_rows`. Returns how many went."""
