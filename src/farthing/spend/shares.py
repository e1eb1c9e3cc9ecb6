"""The worker's shares of all keys: taken when a key is looked up in the file, given back when they are not used up soon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from farthing.spend.limit_table import REQUESTS, TOKENS, LimitTable, NoRoom, Row
from farthing.spend.share import LEND_S, Share
from farthing.types import Limits

_log = logging.getLogger("farthing.limits")
_CHECK_EVERY_S = 1.0
_AT_ONCE = 32
"""Shares that go back before others may run."""

Found = TypeVar("Found")


class Shares:
    """The shares of keys that have requests under way here, or something taken ahead.

    Where the file cannot be used nothing is limited: `failures` counts such looks, and one line in the log says why.
    """

    def __init__(self, table: LimitTable) -> None:
        self._table = table
        self._clock = table.clock
        self._all: dict[bytes, Share] = {}
        self._ahead: dict[bytes, Share] = {}
        self._healthy = True
        self.failures = 0

    def close(self) -> None:
        """Give back what was taken ahead."""
        for key in list(self._ahead):
            self._give_back(key)

    async def run(self) -> None:
        """Give back what is not used, and see every second that the file is still there. Until cancelled."""
        checked = self._clock()
        while True:
            await asyncio.sleep(LEND_S)
            now = self._clock()
            if self._ahead:
                await self._give_back_until(now)
            if now - checked >= _CHECK_EVERY_S:
                checked = now
                self._table.check()

    async def _give_back_until(self, now: float) -> None:
        over = [key for key, share in self._ahead.items() if share.until <= now]
        for number, key in enumerate(over, 1):
            self._give_back(key)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def usable(self, key: bytes, limits: Limits) -> Share | None:
        """A share that may be used without a look at the file."""
        share = self._all.get(key)
        return share if share is not None and share.until > self._clock() and share.limits == limits else None

    def look(self, key: bytes, limits: Limits, work: Callable[[Row, float, Share], Found], *, more: bool) -> Found | None:
        """Do `work(row, now, share)` while all that is left of the share is in the row; then take it anew if there is to be `more`.

        Returns what `work` returned; None when the file cannot be used.
        """
        old = self._all.get(key)
        share = old if old is not None and old.limits == limits else Share(limits, REQUESTS, TOKENS)

        def looking(row: Row, now: float) -> Found:
            if old is not None:
                for _, portion in old.portions:
                    portion.give_back(row, now)
                share.inside, share.places = old.inside, old.places
            try:
                return work(row, now, share)
            finally:
                self._take_ahead(row, now, key, share, more=more)

        try:
            found = self._table.visit(key, looking)
        except (OSError, NoRoom) as error:
            self.failures += 1
            self._say(error)
            return None
        self._healthy = True
        return found

    def inside(self, key: bytes) -> int:
        """Requests of the key under way in this worker."""
        share = self._all.get(key)
        return 0 if share is None else share.inside

    def force(self, key: bytes, limits: Limits, inside: int) -> None:
        """Have so many requests under way, whatever the others have: the file could not be asked."""
        share = self._all.setdefault(key, Share(limits, REQUESTS, TOKENS))
        share.inside = inside
        self._publish(key, share)

    def leave(self, key: bytes) -> None:
        """Have one request less under way. Places that others may miss go back at once."""
        share = self._all.get(key)
        if share is None:
            return
        share.inside = max(share.inside - 1, 0)
        if share.places - share.inside > 2 * share.spare:
            self._publish(key, share)
            if not share.inside and key not in self._ahead:
                del self._all[key]

    def line(self, key: bytes, since: float | None) -> None:
        """Tell the other workers since when the first one in line here has waited; None: nobody waits."""
        try:
            self._table.line(key, since)
        except (OSError, NoRoom) as error:
            self._say(error)

    def _take_ahead(self, row: Row, now: float, key: bytes, share: Share, *, more: bool) -> None:
        """Take what may be used for a while, and tell the other workers how many places that needs."""
        most = share.limits.concurrency
        for _, portion in share.portions:
            portion.take_ahead(row, now, more=more)
        share.spare = 0 if most is None or not more else share.spare_places(self._table.elsewhere(row, most))
        share.until = now + LEND_S if share.ahead else 0.0
        share.shown = None
        if share.until:
            self._ahead[key] = share
        else:
            self._ahead.pop(key, None)
        if share.until or share.inside:
            self._all[key] = share
        else:
            self._all.pop(key, None)
        share.places = share.inside + share.spare
        if self._table.told(row) != share.places:
            self._table.tell(key, share.places)

    def _give_back(self, key: bytes) -> None:
        share = self._ahead.pop(key, None)
        if share is not None:
            self.look(key, share.limits, _nothing, more=False)
            if not share.inside:
                self._all.pop(key, None)

    def _publish(self, key: bytes, share: Share) -> None:
        share.places = share.inside + share.spare
        try:
            self._table.tell(key, share.places)
        except (OSError, NoRoom) as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        if self._healthy:
            self._healthy = False
            _log.warning("requests pass without being counted against the limits of their keys: %s", error)


def _nothing(_: Row, __: float, ___: Share) -> None:
    """A look that only gives back."""
