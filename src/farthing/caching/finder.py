"""From a question to the cached ones near it, within deadlines: what is slow or away costs hits, never an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol, TypeVar
from uuid import UUID

from farthing.caching.pace import Kind, Pace
from farthing.caching.question import Asked
from farthing.errors import FarthingError
from farthing.ports import Embedder, QuestionIndex, QuestionStore
from farthing.settings import SemanticCacheSettings
from farthing.types import Neighbour

_log = logging.getLogger("farthing.cache")
_Found = TypeVar("_Found")


class LocalIndex(QuestionStore, Protocol):
    """An index in this process, which can tell at once whether it is worth asking."""

    def holds(self, tenant: str, partition: bytes) -> bool:
        """Whether there may be a live question in a partition."""


class Finder:
    """`local` is this worker's memory of `store`, None where the store is asked each time.

    `complete` says that the memory has all that the store has: then what is not in memory is nowhere, and most misses cost nothing.
    `skipped` counts requests that were too many in line; `late` those that were not waited for to the end.
    """

    def __init__(
        self, embedder: Embedder, local: LocalIndex | None, store: QuestionIndex, settings: SemanticCacheSettings, pace: Pace
    ) -> None:
        self._pace = pace
        self._embedder = embedder
        self._local = local
        self._store = store
        self._settings = settings
        self._waiting = 0
        self.complete = False
        self.skipped = 0
        self.late = 0

    async def near(self, kind: Kind, asked: Asked, *, most: int) -> list[Neighbour]:
        """The nearest cached questions, at most `most`, nearest first. Sets `asked.encoded` when it had to be known."""
        tenant = kind[0]
        in_memory = self._local is not None and any(self._local.holds(tenant, partition) for partition in _partitions(asked))
        if not in_memory and self._local is not None and self.complete:
            return []
        if self._waiting >= self._settings.max_waiting:
            self.skipped += 1
            return []
        self._pace.took(kind, asked.text)
        self._waiting += 1
        try:
            return await self._look(tenant, asked, most, in_memory=in_memory)
        finally:
            self._waiting -= 1

    async def lost(self, tenant: str, question_id: UUID) -> None:
        """Let go of a question whose answer is gone. The next time that the memory is filled it comes back if it was only out of reach."""
        if self._local is not None:
            await self._local.remove(tenant, [question_id])

    async def _look(self, tenant: str, asked: Asked, most: int, *, in_memory: bool) -> list[Neighbour]:
        encoded = await self._within(self._settings.encode_timeout_s, self._embedder.encode([asked.text]))
        if encoded is None:
            return []
        asked.encoded = encoded[0]
        if asked.encoded.cut:
            return []
        found: list[Neighbour] = []
        for partition in _partitions(asked):
            if in_memory and self._local is not None:
                found = _merged(found, await self._local.search(tenant, partition, asked.encoded.vector, most=most), most)
            if self._local is None or not self.complete:
                search = self._store.search(tenant, partition, asked.encoded.vector, most=most)
                found = _merged(found, await self._within(self._settings.search_timeout_s, search) or [], most)
        return found

    async def _within(self, seconds: float, work: Awaitable[_Found]) -> _Found | None:
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            self.late += 1
        except FarthingError as error:
            _log.debug("the semantic cache is passed by: %s", error)
        return None


def _partitions(asked: Asked) -> tuple[bytes, ...]:
    """Where a question may be compared."""
    return (asked.partition,) if asked.better is None else (asked.partition, asked.better)


def _merged(some: list[Neighbour], more: list[Neighbour], most: int) -> list[Neighbour]:
    by_id = {one.question.id: one for one in (*more, *some)}
    return sorted(by_id.values(), key=lambda one: one.similarity, reverse=True)[:most]
