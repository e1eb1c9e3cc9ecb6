"""How the items of this process end: written together, as many as came while the last ones were written."""

from __future__ import annotations

import asyncio
import logging

from farthing.errors import FarthingError, InvalidRequest
from farthing.ports import JobStore
from farthing.types import Ending

_log = logging.getLogger("farthing.jobs")
_PAUSE_S = 0.5
_MOST = 500


class Endings:
    """Whoever ends an item waits until that is durable, so that there are never more waiting than items under way."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._waiting: list[tuple[Ending, asyncio.Future[bool]]] = []
        self._news = asyncio.Event()

    async def end(self, ending: Ending) -> bool:
        """Wait until it is stored. Returns whether the lease still held."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((ending, told))
        self._news.set()
        return await told

    async def run(self) -> None:
        """Until cancelled. While the store is away, all wait."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self._try()

    async def _try(self) -> None:
        batch = self._waiting[:_MOST]
        try:
            held = await self._write([ending for ending, _ in batch])
        except FarthingError as error:
            _log.debug("what came of items is not stored yet: %s", error)
            await asyncio.sleep(_PAUSE_S)
            return
        del self._waiting[: len(batch)]
        for ending, told in batch:
            if not told.done():
                told.set_result(ending.lease.id in held)

    async def _write(self, endings: list[Ending]) -> set[int]:
        """All of them; what the store cannot take (`InvalidRequest`) fails, so that it does not hold up the others."""
        try:
            return await self._store.end(endings)
        except InvalidRequest as error:
            if len(endings) > 1:
                return {one for ending in endings for one in await self._write([ending])}
            return await self._store.end([Ending(lease=endings[0].lease, state="failed", error=error.message)])
