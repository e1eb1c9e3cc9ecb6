"""What the semantic cache writes, off the request path: new questions and hits. Queues are bounded; a store that is away is waited for.

A new question is in this worker's memory as soon as it is embedded, and in the store, and so in other workers' memory, a moment later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TypeVar
from uuid import UUID

import msgspec

from farthing.caching.finder import LocalIndex
from farthing.caching.pace import Kind
from farthing.caching.question import Asked
from farthing.caching.reading import pack, read
from farthing.errors import FarthingError, InvalidRequest
from farthing.ports import CacheRecords, Embedder, QuestionIndex
from farthing.settings import SemanticCacheSettings
from farthing.types import Question, ServedHit, new_id

_log = logging.getLogger("farthing.cache")
_BATCH = 32
_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 5.0
_PRUNE_EVERY_S = 60.0
_SAME = 0.9999
_WARM_S = 2.0
"""How long a start waits for the embedder."""
_Item = TypeVar("_Item")


Reused = Callable[[Sequence[ServedHit]], Awaitable[None]]
"""Tells an index whose reuse the records do not count."""


class NewQuestion(msgspec.Struct, kw_only=True):
    """A question whose answer was just kept, before it is embedded and stored."""

    kind: Kind
    tags: tuple[str, ...]
    asked: Asked
    answer_key: bytes
    request_id: UUID
    cost_microusd: int
    expires: float
    at: datetime


class Bookkeeper:
    """`dropped` counts new questions and hits for which there was no room. `warm`: the embedder is loaded, or has had its time to."""

    def __init__(
        self,
        embedder: Embedder,
        local: LocalIndex | None,
        store: QuestionIndex,
        records: CacheRecords,
        reused: Reused,
        settings: SemanticCacheSettings,
    ) -> None:
        self._embedder = embedder
        self._local = local
        self._store = store
        self._records = records
        self._reused = reused
        self._settings = settings
        self._new: deque[NewQuestion] = deque()
        self._unstored: deque[Question] = deque()
        self._hits: deque[ServedHit] = deque()
        self._news = asyncio.Event()
        self.dropped = 0
        self.warm = False

    @property
    def pending(self) -> int:
        """What waits to be written."""
        return len(self._new) + len(self._unstored) + len(self._hits)

    def learn(self, question: NewQuestion) -> None:
        """Queue a new question."""
        self._add(self._new, question)

    def note(self, hit: ServedHit) -> None:
        """Queue a hit."""
        self._add(self._hits, hit)

    def _add(self, queue: deque[_Item], what: _Item) -> None:
        if len(queue) >= self._settings.write_queue:
            self.dropped += 1
            return
        queue.append(what)
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled, and prune now and then."""
        loop = asyncio.get_running_loop()
        await self._warm_up()
        pause, prune_at = _PAUSE_S, 0.0
        while True:
            try:
                if loop.time() >= prune_at:
                    prune_at = loop.time() + _PRUNE_EVERY_S
                    await self._prune()
                await self.write()
                pause = _PAUSE_S
            except FarthingError as error:
                _log.debug("the semantic cache's store is away: %s", error)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)
            if not self.pending:
                self._news.clear()
                try:
                    async with asyncio.timeout(max(prune_at - loop.time(), 0)):
                        await self._news.wait()
                except TimeoutError:
                    continue

    async def _warm_up(self) -> None:
        """Have the embedder loaded: it takes longer than the first question would be waited for."""
        loading = asyncio.ensure_future(self._embedder.encode(["How long does this take?"]))
        try:
            await asyncio.wait({loading}, timeout=_WARM_S)
            self.warm = True
            await loading
        except FarthingError as error:
            _log.warning("the semantic cache has no embedder: %s", error)
        finally:
            loading.cancel()

    async def _prune(self) -> None:
        if self._local is not None:
            await self._local.prune(self._settings.max_entries)
        await self._store.prune(self._settings.max_rows)
        await self._records.prune(max_hits=self._settings.max_records, max_verdicts=self._settings.max_records)

    async def write(self) -> None:
        """Write one batch of everything. What the store did not take stays. Raises the store's errors."""
        await self._embed()
        batch = [self._unstored[at] for at in range(min(_BATCH, len(self._unstored)))]
        if batch:
            await self._put(batch)
            for question in batch:
                if self._unstored and self._unstored[0] is question:
                    self._unstored.popleft()
        hits = [self._hits[at] for at in range(min(_BATCH, len(self._hits)))]
        if hits:
            await self._reused(hits)
            await self._records.served(hits)
            for _ in hits:
                self._hits.popleft()

    async def drain(self) -> None:
        """Write all that waits, at once; what was not embedded by now is forgotten. Raises the store's errors."""
        await self._embed()
        self._new.clear()
        while self.pending:
            await self.write()

    async def _put(self, batch: list[Question]) -> None:
        try:
            await self._store.put(batch)
        except InvalidRequest as error:
            _log.error("questions that cannot be stored are dropped: %s", error)
            self.dropped += len(batch)

    async def _embed(self) -> None:
        """Move new questions on, embedded, as long as there is room for them."""
        batch = list(islice(self._new, min(_BATCH, self._settings.write_queue - len(self._unstored))))
        without = [new for new in batch if new.asked.encoded is None]
        if without:
            for new, encoded in zip(without, await self._embedder.encode([new.asked.text for new in without]), strict=True):
                new.asked.encoded = encoded
        made = [question for new in batch if (question := await self._made(new)) is not None]
        for _ in batch:  # not before: an index that is away cannot say whether it knows them
            self._new.popleft()
        if made and self._local is not None:
            await self._local.put(made)
        self._unstored.extend(made)

    async def _made(self, new: NewQuestion) -> Question | None:
        """The question as it is kept; None when it is known with the same answer, or was too long to be read to its end."""
        encoded = new.asked.encoded
        assert encoded is not None
        if encoded.cut or not any(encoded.vector):
            return None
        try:
            payload = pack(read(new.asked.text, encoded))
        except Exception:  # noqa: BLE001 - whatever it is, the others must be kept and the log must say
            _log.exception("a question cannot be read and is not remembered")
            return None
        index = self._store if self._local is None else self._local
        for near in await index.search(new.kind[0], new.asked.partition, encoded.vector, most=1):
            if near.similarity >= _SAME and near.question.answer_key == new.answer_key:
                return None
        return Question(
            id=new_id(),
            tenant=new.kind[0],
            partition=new.asked.partition,
            namespace=new.kind[1],
            user_id=new.asked.asker,
            tags=new.tags,
            vector=encoded.vector,
            payload=payload,
            answer_key=new.answer_key,
            request_id=new.request_id,
            cost_microusd=new.cost_microusd,
            created_at=new.at,
            expires_at=datetime.fromtimestamp(new.expires, UTC),
        )
