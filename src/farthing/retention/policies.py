"""Which tenants want their texts kept: a snapshot in this worker.

A worker that has never heard from the store keeps nothing for anybody. One that has heard keeps on collecting while the store is away; the
store looks at the policy once more when it writes, so what was turned off meanwhile is not stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from farthing.errors import FarthingError
from farthing.ports import RetentionStore

_log = logging.getLogger("farthing.retention")


class Policies:
    """`able`: there is a key to seal texts with; without, nothing is kept for anybody.

    `flushed` is called when the store says that cached answers were deleted since it was last asked.
    """

    def __init__(self, store: RetentionStore, flushed: Callable[[], None], *, able: bool, refresh_s: float, most: int) -> None:
        self._store = store
        self._able = able
        self._tell = flushed
        self._refresh_s = refresh_s
        self._most = most
        self._enabled: frozenset[str] = frozenset()
        self._flushed_at: datetime | None = None

    def __contains__(self, tenant: str) -> bool:
        return self._able and tenant in self._enabled

    async def reload(self) -> None:
        """Take a new snapshot. Raises the store's errors and keeps the old one then."""
        before = self._enabled
        self._enabled, flushed_at = await self._store.enabled(self._most)
        if not self._able and self._enabled - before:
            _log.error("tenants want their texts kept, but retention.encryption_key is not set: nothing is kept")
        if flushed_at is not None and flushed_at != self._flushed_at:
            self._tell()
        self._flushed_at = flushed_at

    async def run(self) -> None:
        """Refresh by the clock until cancelled, for where no news come."""
        while True:
            try:
                await self.reload()
            except FarthingError as error:
                _log.debug("retention policies not refreshed: %s", error)
            await asyncio.sleep(self._refresh_s)
