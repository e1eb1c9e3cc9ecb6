"""A worker's memory of the store's questions: filled at the start, kept up by news, looked through again after an interruption."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import msgspec

from farthing.caching.finder import Finder, LocalIndex
from farthing.errors import FarthingError
from farthing.ports import QuestionStore
from farthing.types import Question, QuestionsGone

_log = logging.getLogger("farthing.cache")
_PAGE = 1000
_RETRY_S = 5.0
_FIRST_WORD_S = 2.0
"""How long a start waits for the store to say what it has."""


class Recall:
    """Tells `finder` whether the memory is complete: whether it holds every live question of the store.

    `asked`: the store has said what it has, or has had its time to. `most` is how many the memory may hold. `refresh_s` is how often it is
    looked through by the clock, for where no news come.
    """

    def __init__(self, local: LocalIndex, store: QuestionStore, finder: Finder, *, most: int, refresh_s: float) -> None:
        self._local = local
        self._store = store
        self._finder = finder
        self._most = most
        self._refresh_s = refresh_s
        self._missed = asyncio.Event()
        self.asked = False

    async def run(self) -> None:
        """Look through the memory at the start, whenever something may have been missed, and now and then, until cancelled."""
        first = asyncio.create_task(self._attempt())
        try:
            await asyncio.wait({first}, timeout=_FIRST_WORD_S)
            self.asked = True
            await first
        finally:
            first.cancel()
        while True:
            try:
                async with asyncio.timeout(self._refresh_s):
                    await self._missed.wait()
            except TimeoutError:
                if await self._unchanged():
                    continue
            if not await self._attempt():
                await asyncio.sleep(_RETRY_S)

    async def _attempt(self) -> bool:
        self._missed.clear()
        try:
            await self.reload()
        except FarthingError as error:
            _log.debug("the semantic cache's memory is not filled: %s", error)
            self._missed.set()
            return False
        return True

    async def _unchanged(self) -> bool:
        """Whether the store has as many questions as the memory: good enough a guess, where news come as a rule."""
        try:
            return self._finder.complete and await self._store.size() == await self._local.size()
        except FarthingError:
            return True

    async def reload(self) -> None:
        """Take in what the store has, the most valuable first, and let go of what it has no more. Raises the store's errors."""
        began = len(await self._local.latest(self._most))
        stored = await self._store.latest(self._most)
        await self._let_go(await self._local.latest(self._most), {one.id for one in stored})
        for start in range(0, len(stored), _PAGE):
            await self._local.put(stored[start : start + _PAGE])
            await asyncio.sleep(0)
        self._finder.complete = len(stored) < self._most and await self._local.size() >= len(stored)
        if not began and stored:
            _log.info("the semantic cache knows %d questions", len(stored))

    async def _let_go(self, held: Sequence[Question], stored: set[UUID]) -> None:
        gone: defaultdict[str, list[UUID]] = defaultdict(list)
        for one in held:
            if one.id not in stored:
                gone[one.tenant].append(one.id)
        for tenant, ids in gone.items():
            await self._local.remove(tenant, ids)

    async def heard(self, payload: str) -> None:
        """News from other workers, and from this one: see `ports.Changes`."""
        if not payload:
            self._missed.set()
        elif payload.startswith("{"):
            gone = msgspec.json.decode(payload, type=QuestionsGone)
            if gone.ids is None:
                await self._local.forget(gone.tenant, gone.scope)
            else:
                await self._local.remove(gone.tenant, gone.ids)
        else:
            await self._added([UUID(hex=one) for one in payload.split(",")])

    async def _added(self, ids: Sequence[UUID]) -> None:
        held = {one.id for one in await self._local.named(ids)}
        new = [one for one in ids if one not in held]
        if not new:
            return
        try:
            await self._local.put(await self._store.named(new))
        except FarthingError:
            self._missed.set()
        if await self._local.size() >= self._most:
            self._finder.complete = False
