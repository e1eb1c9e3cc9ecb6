"""Stores without an outbox of the bus: what is written in them is told to it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from farthing.modes import MODES
from farthing.ports import ConfigStore, FeedbackStore
from farthing.types import Document, Event, Feedback, Json, document_event, feedback_event


class TellingConfig:
    """A `ports.ConfigStore` in front of another one. `tell` never blocks or raises."""

    def __init__(self, store: ConfigStore, tell: Callable[[Event], None]) -> None:
        self.poll_s = store.poll_s
        self._store = store
        self._tell = tell

    async def read(self, name: str) -> Document | None:
        """See `ports.ConfigStore.read`."""
        return await self._store.read(name)

    async def write(self, name: str, body: Json, *, expect: int | None, by: str, reason: str) -> Document:
        """See `ports.ConfigStore.write`."""
        written = await self._store.write(name, body, expect=expect, by=by, reason=reason)
        self._tell(document_event(written, modes=MODES))
        return written

    async def history(self, name: str, limit: int) -> list[Document]:
        """See `ports.ConfigStore.history`."""
        return await self._store.history(name, limit)


class TellingFeedback:
    """A `ports.FeedbackStore` in front of another one. `tell` never blocks or raises."""

    def __init__(self, store: FeedbackStore, tell: Callable[[Event], None]) -> None:
        self._store = store
        self._tell = tell

    async def add(self, feedback: Feedback) -> bool:
        """See `ports.FeedbackStore.add`."""
        added = await self._store.add(feedback)
        if added:
            self._tell(feedback_event(feedback))
        return added

    async def of(self, tenant: str, request_id: UUID) -> list[Feedback]:
        """See `ports.FeedbackStore.of`."""
        return await self._store.of(tenant, request_id)

    async def latest(self, *, tenant: str | None, limit: int, before: UUID | None = None, corrected: bool = False) -> list[Feedback]:
        """See `ports.FeedbackStore.latest`."""
        return await self._store.latest(tenant=tenant, limit=limit, before=before, corrected=corrected)

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.FeedbackStore.forget`."""
        return await self._store.forget(tenant, user_id)

    async def prune(self, max_rows: int) -> int:
        """See `ports.FeedbackStore.prune`."""
        return await self._store.prune(max_rows)
