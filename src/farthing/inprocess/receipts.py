"""Receipts in a dictionary, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

from uuid import UUID

import msgspec

from farthing.types import Receipt, subject_of


class InProcessReceipts:
    """`ports.ReceiptStore`. Beyond `max_rows` the oldest go at once."""

    def __init__(self, *, max_rows: int = 100_000) -> None:
        self._max_rows = max_rows
        self._receipts: dict[UUID, tuple[bytes | None, Receipt]] = {}

    async def add(self, receipt: Receipt) -> None:
        """See `ports.ReceiptStore.add`."""
        nameless = msgspec.structs.replace(receipt, user=None)
        self._receipts.setdefault(receipt.id, (_subject(receipt.tenant, receipt.user), nameless))
        await self.prune(self._max_rows)

    async def of(self, tenant: str, user: str | None, *, limit: int) -> list[Receipt]:
        """See `ports.ReceiptStore.of`."""
        wanted = _subject(tenant, user)
        ours = [one for subject, one in self._receipts.values() if subject == wanted and one.tenant == tenant]
        newest_first = sorted(ours, key=lambda one: one.id, reverse=True)
        return [msgspec.structs.replace(one, user=user) for one in newest_first[:limit]]

    async def prune(self, max_rows: int) -> int:
        """See `ports.ReceiptStore.prune`."""
        gone = sorted(self._receipts, reverse=True)[max_rows:]
        for one in gone:
            del self._receipts[one]
        return len(gone)


def _subject(tenant: str, user: str | None) -> bytes | None:
    return None if user is None else subject_of(tenant, user)
