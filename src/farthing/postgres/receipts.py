"""Receipts in PostgreSQL: who was forgotten, without a name."""

from __future__ import annotations

import msgspec

from farthing.postgres.pool import Database
from farthing.types import Receipt, subject_of

_ADD = """
INSERT INTO farthing.receipts (tenant, id, subject, at, by, complete, places)
VALUES (%(tenant)s, %(id)s, %(subject)s, %(at)s, %(by)s, %(complete)s, %(places)s::jsonb) ON CONFLICT DO NOTHING
"""
_OF = """
SELECT id, at, by, places::text FROM farthing.receipts
WHERE tenant = %s AND subject IS NOT DISTINCT FROM %s::bytea ORDER BY id DESC LIMIT %s
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.receipts.prune', 0))"
_PRUNE = """
DELETE FROM farthing.receipts WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.receipts ORDER BY id DESC OFFSET %(keep)s LIMIT %(rows)s
))
"""


class PostgresReceipts:
    """`ports.ReceiptStore` on `farthing.receipts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, receipt: Receipt) -> None:
        """See `ports.ReceiptStore.add`."""
        values = {
            **msgspec.structs.asdict(receipt),
            "subject": _subject(receipt.tenant, receipt.user),
            "complete": receipt.complete,
            "places": msgspec.json.encode(receipt.places).decode(),
        }
        async with self._database.service() as connection:
            await connection.execute(_ADD, values)

    async def of(self, tenant: str, user: str | None, *, limit: int) -> list[Receipt]:
        """See `ports.ReceiptStore.of`."""
        async with self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(_OF, (tenant, _subject(tenant, user), limit))).fetchall()
        read = msgspec.json.Decoder(dict[str, int | None]).decode
        return [Receipt(id=one, tenant=tenant, user=user, at=at, by=by, places=read(places)) for one, at, by, places in rows]

    async def prune(self, max_rows: int) -> int:
        """See `ports.ReceiptStore.prune`. Returns 0 when another worker is at it."""
        return await self._database.repeat(_PRUNE, {"keep": max_rows}, alone=_PRUNING)


def _subject(tenant: str, user: str | None) -> bytes | None:
    return None if user is None else subject_of(tenant, user)
