"""Single requests in the ledger, for whoever wants to know what became of one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg.rows import TupleRow

from farthing.postgres.ledger_sql import FIELDS
from farthing.postgres.pool import Database
from farthing.types import LedgerEntry, time_of, uuid7_at

_NAMES = [name for name, _, _ in FIELDS]
_COLUMNS = ", ".join(_NAMES)
_LONG: Final = (timedelta(minutes=5), timedelta(days=1))
"""How long after its arrival a request is settled: nearly always, and always."""
_STEP_BACK: Final = timedelta(minutes=1)
"""Clocks may be set back."""

# Ids carry the time: a range of the primary key stands for an index on request_id, which each row of the ledger would have to pay for.
_ATTEMPTS = f"SELECT {_COLUMNS} FROM farthing.ledger WHERE id >= %s AND id < %s AND request_id = %s ORDER BY id"  # noqa: S608 - our own names
_LATEST = f"""
SELECT {_COLUMNS} FROM farthing.ledger
WHERE id >= %(first)s AND id < %(end)s AND final AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
  AND (%(user)s::text IS NULL OR user_id = %(user)s)
ORDER BY id DESC LIMIT %(limit)s
"""  # noqa: S608 - the same


class PostgresRequests:
    """`ports.RequestRecords` on `farthing.ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def attempts(self, request_id: UUID) -> list[LedgerEntry]:
        """See `ports.RequestRecords.attempts`. Entries of more than a day after the request's arrival are not found."""
        arrived = time_of(request_id)
        found: list[LedgerEntry] = []
        for long in _LONG:
            async with self._database.service() as connection:
                values = (_first(arrived - _STEP_BACK), _first(arrived + long), request_id)
                found = [_entry(row) for row in await (await connection.execute(_ATTEMPTS, values)).fetchall()]
            if any(entry.final for entry in found):
                break
        return found

    async def latest(self, *, since: datetime, until: datetime, tenant: str | None, user: str | None, limit: int) -> list[LedgerEntry]:
        """See `ports.RequestRecords.latest`."""
        values = {"first": _first(since), "end": _first(until), "tenant": tenant, "user": user, "limit": limit}
        use = self._database.service() if tenant is None else self._database.tenant(tenant)
        async with use as connection:
            return [_entry(row) for row in await (await connection.execute(_LATEST, values)).fetchall()]


def _first(at: datetime) -> UUID:
    """The smallest id of an instant."""
    return uuid7_at(max(0, int(at.timestamp() * 1000)), bytes(10))


def _entry(row: TupleRow) -> LedgerEntry:
    return LedgerEntry(**dict(zip(_NAMES, row, strict=True)))
