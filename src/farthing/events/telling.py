"""Documents in a store that has no outbox: what is written is told to the bus afterwards."""

from __future__ import annotations

from collections.abc import Callable

from farthing.modes import MODES
from farthing.ports import ConfigStore
from farthing.types import Document, Event, Json, document_event


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
