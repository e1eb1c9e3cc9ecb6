"""Forgetting a user everywhere: each place in turn, and a receipt that says what went where."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from farthing.errors import FarthingError
from farthing.ports import Personal, ReceiptStore
from farthing.types import Receipt, new_id, utc_now

_log = logging.getLogger("farthing.memory")


class Forgetting:
    """`ports.Forgetter`. `places` are asked in their order, each for at most `timeout_s` seconds."""

    def __init__(
        self, places: Mapping[str, Personal], receipts: ReceiptStore, *, timeout_s: float, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._places = places
        self._receipts = receipts
        self._timeout_s = timeout_s
        self._clock = clock

    async def forget(self, tenant: str, user: str | None, *, by: str, whole: Collection[str] = ()) -> Receipt:
        """See `ports.Forgetter.forget`. A receipt that cannot be kept has the place `receipts`, away."""
        at = self._clock()
        counts = {name: await self._ask(name, place, tenant, None if name in whole else user) for name, place in self._places.items()}
        receipt = Receipt(id=new_id(), tenant=tenant, user=user, at=at, by=by, places=counts)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._receipts.add(receipt)
        except (FarthingError, TimeoutError) as error:
            _log.warning("the receipt of an erasure cannot be kept: %s", error)
            counts["receipts"] = None
        return receipt

    async def _ask(self, name: str, place: Personal, tenant: str, user: str | None) -> int | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await place.forget(tenant, user)
        except (FarthingError, TimeoutError) as error:
            _log.warning("an erasure is incomplete: %s is away (%s)", name, error or "too slow")
            return None

    async def receipts(self, tenant: str, user: str | None, *, limit: int) -> list[Receipt]:
        """See `ports.Forgetter.receipts`."""
        return await self._receipts.of(tenant, user, limit=limit)
