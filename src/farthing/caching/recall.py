"""This worker's memory of the store's questions: filled at the start, kept up by news, filled anew after an interruption."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

import msgspec

from farthing.caching.finder import Finder, LocalIndex
from farthing.errors import FarthingError
from farthing.ports import QuestionStore
from farthing.types import CacheForgotten, CacheScope

_log = logging.getLogger("farthing.cache")
_PAGE = 1000
_RETRY_S = 5.0


class Recall:
    """Tells `finder` whether the memory is complete: whether it holds every live question of the store."""

    def __init__(self, local: LocalIndex, store: QuestionStore, finder: Finder, *, most: int) -> None:
        self._local = local
        self._store = store
        self._finder = finder
        self._most = most
        self._stale = asyncio.Event()
        self._stale.set()

    async def run(self) -> None:
        """Fill the memory whenever something may have been missed, until cancelled."""
        while True:
            await self._stale.wait()
            try:
                await self.reload()
                self._stale.clear()
            except FarthingError as error:
                _log.debug("the semantic cache's memory is not filled: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def reload(self) -> None:
        """Take in what the store has, the most valuable first. Raises the store's errors."""
        questions = await self._store.latest(self._most)
        await self._local.forget(None, CacheScope())
        for start in range(0, len(questions), _PAGE):
            await self._local.put(questions[start : start + _PAGE])
            await asyncio.sleep(0)
        self._finder.complete = await self._local.size() >= len(questions) and len(questions) < self._most
        if questions:
            _log.info("the semantic cache knows %d questions", len(questions))

    def missed(self) -> None:
        """News may have been missed."""
        self._stale.set()

    async def added(self, ids: list[UUID]) -> None:
        """Other workers have stored these. What cannot be read now is read when the store is back."""
        try:
            await self._local.put(await self._store.named(ids))
        except FarthingError:
            self.missed()
        if await self._local.size() >= self._most:
            self._finder.complete = False

    async def forgotten(self, what: CacheForgotten) -> None:
        """Somebody deleted these."""
        if what.ids:
            await self._local.remove(what.tenant or "", what.ids)
        else:
            await self._local.forget(what.tenant, what.scope)


def decoded(payload: str) -> CacheForgotten | None:
    """A piece of news about deletions; None when it is not to be understood."""
    try:
        return msgspec.json.decode(payload, type=CacheForgotten)
    except msgspec.MsgspecError:
        return None
