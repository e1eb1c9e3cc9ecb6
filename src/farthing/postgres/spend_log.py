"""What was spent lately, from the ledger in PostgreSQL; and what workers tell each other of it, by NOTIFY."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from farthing.postgres.pool import Database
from farthing.spend_news import numbers, pieces
from farthing.types import SpendRow, uuid7_at

_NO_NOISE = bytes(10)
_LAST_MS = 2**48 - 1

_SINCE = """
WITH spent AS (
  SELECT floor(extract(epoch FROM at)::float8 / %(span)s) * %(span)s AS span, tenant, tier, key_id, mode,
    coalesce(sum(cost_microusd) FILTER (WHERE price_source NOT IN ('notional', 'none')), 0)::bigint AS microusd,
    count(*) FILTER (WHERE final) AS requests
  FROM farthing.ledger
  WHERE id >= %(first)s::uuid AND key_id IS NOT NULL AND worker IS DISTINCT FROM %(but)s
  GROUP BY 1, 2, 3, 4, 5
), placed AS (
  SELECT *, row_number() OVER (ORDER BY microusd DESC, requests DESC) <= %(most)s AS named FROM spent
)
SELECT span, CASE WHEN named THEN tenant ELSE '' END, tier, CASE WHEN named THEN key_id::text END, mode,
  sum(microusd)::bigint, sum(requests)::bigint
FROM placed
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1
"""
_TELL = "SELECT pg_notify('farthing_spend', news) FROM unnest(%s::text[]) AS news"


class PostgresSpendLog:
    """`ports.SpendLog`. Of a window, `most` rows have names."""

    def __init__(self, database: Database, *, most: int = 20_000) -> None:
        self._database = database
        self._most = most
        self._numbers = numbers()

    async def since(self, at: datetime, *, span_s: float, but: str) -> list[SpendRow]:
        """See `ports.SpendLog.since`."""
        unix_ms = min(max(int(at.timestamp() * 1000), 0), _LAST_MS)
        values = {"span": span_s, "first": str(uuid7_at(unix_ms, _NO_NOISE)), "but": but, "most": self._most}
        async with self._database.service() as connection:
            rows = await (await connection.execute(_SINCE, values)).fetchall()
        return [
            SpendRow(at=span, tenant=tenant, tier=tier, key_id=key, mode=mode, microusd=microusd, requests=requests)
            for span, tenant, tier, key, mode, microusd, requests in rows
        ]

    async def tell(self, rows: Sequence[SpendRow], worker: str) -> None:
        """See `ports.SpendLog.tell`."""
        if not rows:
            return
        news = pieces(rows, worker, self._numbers)
        async with self._database.service() as connection:
            await connection.execute(_TELL, (news,))
