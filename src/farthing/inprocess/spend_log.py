"""What was spent lately, from a ledger in this process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from farthing.inprocess.stores import InProcessChanges, InProcessLedger
from farthing.spend_news import numbers, pieces
from farthing.types import SpendRow, time_of

_Named = tuple[float, str, str | None, str | None, str | None]


class InProcessSpendLog:
    """`ports.SpendLog`. Of a window, `most` rows have names."""

    def __init__(self, ledger: InProcessLedger, changes: InProcessChanges, *, most: int = 20_000) -> None:
        self._ledger = ledger
        self._changes = changes
        self._most = most
        self._numbers = numbers()

    async def since(self, at: datetime, *, span_s: float, but: str) -> list[SpendRow]:
        """See `ports.SpendLog.since`."""
        spent: dict[_Named, list[int]] = {}
        for entry in self._ledger.entries():
            if entry.key_id is None or entry.worker == but or time_of(entry.id) < at:
                continue
            span = math.floor(time_of(entry.id).timestamp() / span_s) * span_s
            sums = spent.setdefault((span, entry.tenant, entry.tier, str(entry.key_id), entry.mode), [0, 0])
            sums[0] += entry.cost_microusd if entry.price_source not in {"notional", "none"} else 0
            sums[1] += entry.final
        placed = sorted(spent.items(), key=lambda row: row[1], reverse=True)
        rest: dict[_Named, list[int]] = {}
        for (span, _, tier, _, mode), sums in placed[self._most :]:
            summed = rest.setdefault((span, "", tier, None, mode), [0, 0])
            summed[0] += sums[0]
            summed[1] += sums[1]
        rows = [*placed[: self._most], *rest.items()]
        return [_row(*row) for row in sorted(rows, key=lambda row: row[0][0])]

    async def tell(self, rows: Sequence[SpendRow], worker: str) -> None:
        """See `ports.SpendLog.tell`."""
        for piece in pieces(rows, worker, self._numbers):
            self._changes.publish("spend", piece)


def _row(who: _Named, sums: list[int]) -> SpendRow:
    span, tenant, tier, key, mode = who
    return SpendRow(at=span, tenant=tenant, tier=tier, key_id=key, mode=mode, microusd=sums[0], requests=sums[1])
