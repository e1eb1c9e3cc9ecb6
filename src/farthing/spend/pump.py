"""The background task that moves the journal into the ledger's store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from farthing.errors import FarthingError
from farthing.ports import LedgerStore
from farthing.spend.journal import Journal

_log = logging.getLogger("farthing.ledger")
_LONGEST_PAUSE_S: Final = 2.0
_ADOPT_EVERY_S: Final = 5.0


class Pump:
    """Flushes every `interval_s` seconds; backs off while the store is away; looks for files of dead workers now and then.

    `ended` is told of each dead worker whose entries are all in the store.
    """

    def __init__(
        self,
        journal: Journal,
        store: LedgerStore,
        *,
        interval_s: float,
        max_batch: int,
        ended: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._journal = journal
        self._ended = ended
        self._store = store
        self._interval = interval_s
        self._max_batch = max_batch
        self.store_away = False

    async def run(self) -> None:
        """Work until cancelled."""
        pause = self._interval
        adopt_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                # Only full batches follow at once: what arrives meanwhile waits for its turn, or each row would be a transaction.
                while await self._journal.flush(self._store, self._max_batch) == self._max_batch:
                    pass
                if loop.time() >= adopt_at:  # last: trouble with the files of others must not hold up ours
                    await self._adopt()
                    adopt_at = loop.time() + _ADOPT_EVERY_S
            except FarthingError as error:
                if not self.store_away:
                    _log.warning("the ledger's store is away; entries wait on disk: %s", error)
                self.store_away = True
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            except Exception:  # noqa: BLE001 - whatever it is, the pump must live and the log must say
                _log.exception("the ledger's pump stumbled; entries wait on disk")
                pause = _LONGEST_PAUSE_S
            else:
                if self.store_away:
                    _log.warning("the ledger's store is back")
                self.store_away = False
                pause = self._interval
            await asyncio.sleep(pause)

    async def _adopt(self) -> None:
        await self._journal.adopt(self._store, self._max_batch)
        for worker in sorted(self._journal.ended):
            if self._ended is not None:
                await self._ended(worker)
            self._journal.ended.discard(worker)

    async def keep_synced(self) -> None:
        """Have the disk hold what is in the files, every `interval_s` seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._journal.sync()
            except OSError as error:
                _log.error("the ledger's files could not be synced: %s", error)
                await asyncio.sleep(_LONGEST_PAUSE_S)

    async def drain(self) -> None:
        """Send until nothing is left."""
        while await self._journal.flush(self._store, self._max_batch):
            pass
