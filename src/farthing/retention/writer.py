"""Transcripts on their way to the store: queued in memory alone, written in batches, dropped when there is no room or it takes too long.

Nothing of it touches the disk of this host, and nothing leaves this process unsealed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from uuid import UUID

import msgspec

from farthing.errors import FarthingError, InvalidRequest
from farthing.ports import RetentionStore
from farthing.retention.transcript import Sealing
from farthing.settings import RetentionSettings
from farthing.types import Json, NewTranscript

_log = logging.getLogger("farthing.retention")
_BATCH = 100
_BATCH_BYTES = 8 * 2**20
_LONGEST_PAUSE_S = 5.0
_PRUNE_EVERY_S = 60.0
_LOG_EVERY = 1000
_OVERHEAD_BYTES = 1000


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked and answered (encoded), not sealed yet. `size` is about how many bytes `request` holds."""

    request_id: UUID
    tenant: str
    user_id: str | None
    model: str
    source: str
    arrived_ns: int
    request: Json
    answer: bytes | None
    error: str | None
    size: int

    @property
    def bytes(self) -> int:
        """What it takes of the queue's room."""
        return self.size + len(self.answer or b"") + _OVERHEAD_BYTES


class TranscriptWriter:
    """`stored`, `dropped` and `pruned` count transcripts. What the store leaves out (deleted, turned off meanwhile) is in neither."""

    def __init__(self, store: RetentionStore, sealing: Sealing, settings: RetentionSettings) -> None:
        self._store = store
        self._sealing = sealing
        self._settings = settings
        self._queue: deque[tuple[float, Pending]] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._away = False
        self.stored = 0
        self.dropped = 0
        self.pruned = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, pending: Pending) -> None:
        """Queue a transcript, or drop it when there is no room."""
        if len(self._queue) >= self._settings.max_pending or self._bytes + pending.bytes > self._settings.max_pending_bytes:
            self._drop("more wait for the database than retention.max_pending and max_pending_bytes allow")
            return
        self._queue.append((asyncio.get_running_loop().time(), pending))
        self._bytes += pending.bytes
        self._news.set()

    async def run(self) -> None:
        """Write what comes every `flush_interval_s`, until cancelled; more slowly while the store is away."""
        pause = self._settings.flush_interval_s
        while True:
            await self._news.wait()
            try:
                await self.drain()
                pause = self._settings.flush_interval_s
                self._away = False
            except FarthingError as error:
                if not self._away:
                    _log.warning("transcripts wait in memory until the database is back: %s", error)
                self._away = True
                self._expire()
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)

    async def drain(self) -> None:
        """Write all that waits, at once. Raises the store's errors; what it did not take then stays."""
        while self._queue:
            batch = self._batch()
            sealed = await asyncio.to_thread(self._seal, batch)
            await self._write([one for one in sealed if one is not None])
            for _ in batch:
                self._take()
        self._news.clear()

    def _batch(self) -> list[Pending]:
        batch: list[Pending] = []
        size = 0
        for _, one in self._queue:
            size += one.bytes
            if len(batch) >= _BATCH or (batch and size > _BATCH_BYTES):
                break
            batch.append(one)
        return batch

    def _seal(self, batch: list[Pending]) -> list[NewTranscript | None]:
        return [self._sealed(one) for one in batch]

    def _sealed(self, one: Pending) -> NewTranscript | None:
        try:
            payload = self._sealing.seal(one.tenant, one.request_id, one.request, one.answer, one.error)
        except (ValueError, TypeError) as error:  # one that cannot be encoded must not hold up the others
            self._drop(f"one cannot be encoded ({type(error).__name__})")
            return None
        return NewTranscript(
            request_id=one.request_id,
            tenant=one.tenant,
            user_id=one.user_id,
            model=one.model,
            source=one.source,
            payload=payload,
            arrived_ns=one.arrived_ns,
        )

    async def _write(self, sealed: list[NewTranscript]) -> None:
        try:
            self.stored += await self._store.put(sealed)
        except InvalidRequest:
            for one in sealed:
                await self._write_one(one)

    async def _write_one(self, one: NewTranscript) -> None:
        try:
            self.stored += await self._store.put([one])
        except InvalidRequest as error:
            self._drop(f"the store cannot hold one: {error}")

    def _expire(self) -> None:
        """Drop what has waited too long."""
        oldest = asyncio.get_running_loop().time() - self._settings.max_pending_s
        while self._queue and self._queue[0][0] < oldest:
            self._take()
            self._drop("the database is away for longer than retention.max_pending_s")

    def _take(self) -> None:
        self._bytes -= self._queue.popleft()[1].bytes

    def _drop(self, why: str) -> None:
        if self.dropped % _LOG_EVERY == 0:
            _log.error("transcripts are dropped: %s", why)
        self.dropped += 1

    async def prune(self) -> None:
        """Delete what has expired, now and then, until cancelled."""
        while True:
            with suppress(FarthingError):
                self.pruned += await self._store.prune(self._settings.max_rows)
            await asyncio.sleep(_PRUNE_EVERY_S)
