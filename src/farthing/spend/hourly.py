"""What all workers together have spent within the last hour, by the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from farthing.ports import LedgerStore
from farthing.types import utc_now

_HOUR = timedelta(hours=1)
_MICRO = 1_000_000


class HourlySpend:
    """Called, it gives numbers for people and alarms: dollars that somebody bills, dollars saved, and requests. Raises as the ledger."""

    def __init__(self, ledger: LedgerStore, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._ledger = ledger
        self._clock = clock

    async def __call__(self) -> dict[str, float]:
        """By the names that CloudWatch's metrics have."""
        now = self._clock()
        report = await self._ledger.report(since=now - _HOUR, until=now + timedelta(seconds=1), by="source", tenant=None)
        total = report.total
        return {
            "SpendUsdPerHour": (total.spent_microusd - total.notional_microusd) / _MICRO,
            "SavedUsdPerHour": total.saved_microusd / _MICRO,
            "RequestsPerHour": float(total.requests),
        }
