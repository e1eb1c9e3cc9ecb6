"""Turns on their way to the store: written together, as soon as they come, and kept in this worker while the store is away."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator
from typing import Literal
from uuid import UUID

from farthing.errors import FarthingError, InvalidRequest
from farthing.ports import ResponseStore
from farthing.settings import ResponsesSettings
from farthing.types import StoredResponse

_log = logging.getLogger("farthing.responses")
_BATCH = 100
_BATCH_BYTES = 16 * 2**20
_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_LOG_EVERY = 1000

Key = tuple[str, UUID]
Stored = Literal["database", "memory", "no"]
"""Where a turn went: the store; only this worker, for now; nowhere, because there is no room for it."""


class ResponseWriter:
    """`dropped` counts turns that were lost: the queue was full, or the store cannot hold them."""

    def __init__(self, store: ResponseStore, settings: ResponsesSettings) -> None:
        self._store = store
        self._settings = settings
        self._turns: OrderedDict[Key, tuple[StoredResponse, asyncio.Future[Stored]]] = OrderedDict()
        self._bytes = 0
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._away = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._turns)

    def find(self, key: Key) -> StoredResponse | None:
        """A turn that is not in the store yet."""
        held = self._turns.get(key)
        return held[0] if held else None

    async def put(self, turn: StoredResponse) -> Stored:
        """Queue a turn and wait until it is in the store. "memory" when that takes too long: it stays here, and is written later."""
        written: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._turns[turn.tenant, turn.id] = (turn, written)
        self._bytes += len(turn.payload)
        self._make_room()
        self._news.set()
        if self._away and not written.done():
            return "memory"
        try:
            async with asyncio.timeout(self._settings.write_timeout_s):
                return await asyncio.shield(written)
        except TimeoutError:
            return "memory"

    async def discard(self, key: Key) -> bool:
        """Take a turn out before it is written. When this returns, it is not being written either."""
        async with self._writing:
            return self._take(key) is not None

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        pause = _PAUSE_S
        while True:
            await self._news.wait()
            try:
                await self._write()
                pause = _PAUSE_S
            except FarthingError as error:
                if not self._away:
                    _log.warning("responses stay in this worker until the database is back: %s", error)
                self._away = True
                self._news.set()
                for _, written in self._turns.values():
                    _settle(written, "memory")
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def drain(self) -> None:
        """Write all that waits, at once. Raises the store's errors."""
        while self._turns:
            await self._write()

    async def _write(self) -> None:
        """Write one batch. What the store did not take stays. Raises `Unavailable`."""
        self._news.clear()
        async with self._writing:
            batch = list(self._batch())
            try:
                await self._store.put(batch)
            except InvalidRequest:
                await self._one_by_one(batch)
            self._away = False
            for turn in batch:
                self._done(turn, "database")
        if self._turns:
            self._news.set()

    def _batch(self) -> Iterator[StoredResponse]:
        size = 0
        for number, (turn, _) in enumerate(self._turns.values()):
            size += len(turn.payload)
            if number >= _BATCH or (number and size > _BATCH_BYTES):
                return
            yield turn

    async def _one_by_one(self, batch: list[StoredResponse]) -> None:
        """Set those aside that the store can never hold."""
        for turn in batch:
            try:
                await self._store.put([turn])
            except InvalidRequest as error:
                _log.error("a response cannot be stored and is dropped: %s", error)
                self.dropped += 1
                self._done(turn, "no")

    def _done(self, turn: StoredResponse, stored: Stored) -> None:
        written = self._take((turn.tenant, turn.id))
        if written is not None:
            _settle(written, stored)

    def _take(self, key: Key) -> asyncio.Future[Stored] | None:
        held = self._turns.pop(key, None)
        if held is None:
            return None
        self._bytes -= len(held[0].payload)
        return held[1]

    def _make_room(self) -> None:
        while len(self._turns) > self._settings.max_pending_turns or (
            self._bytes > self._settings.max_pending_bytes and len(self._turns) > 1
        ):
            written = self._take(next(iter(self._turns)))
            if written is not None:
                _settle(written, "no")
            if self.dropped % _LOG_EVERY == 0:
                _log.error("responses are lost: more wait for the database than responses.max_pending_turns and max_pending_bytes allow")
            self.dropped += 1


def _settle(written: asyncio.Future[Stored], stored: Stored) -> None:
    if not written.done():
        written.set_result(stored)
