"""Single requests in the ledger of this process."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from farthing.inprocess.stores import InProcessLedger
from farthing.types import LedgerEntry, time_of


class InProcessRequests:
    """`ports.RequestRecords`."""

    def __init__(self, ledger: InProcessLedger) -> None:
        self._ledger = ledger

    async def attempts(self, request_id: UUID) -> list[LedgerEntry]:
        """See `ports.RequestRecords.attempts`."""
        found = [entry for entry in self._ledger.entries() if entry.request_id == request_id]
        return sorted(found, key=lambda entry: entry.id)

    async def latest(self, *, since: datetime, until: datetime, tenant: str | None, user: str | None, limit: int) -> list[LedgerEntry]:
        """See `ports.RequestRecords.latest`."""
        found = [
            entry
            for entry in self._ledger.entries()
            if entry.final and since <= time_of(entry.id) < until and tenant in {None, entry.tenant} and user in {None, entry.user_id}
        ]
        return sorted(found, key=lambda entry: entry.id, reverse=True)[:limit]
