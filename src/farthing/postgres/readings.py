"""Which events a model has read, and what that has cost, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Final

from farthing.postgres.connection import Connection
from farthing.postgres.erasures import UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import Allowance, Event, event_digest, utc_now

_KNOWN: Final = "SELECT event FROM farthing.memory_read WHERE tenant = %s AND user_id = %s AND event = ANY(%s::bytea[])"
_READ: Final = f"""
INSERT INTO farthing.memory_read (tenant, user_id, event, at)
SELECT g.tenant, g.user_id, g.event, %(now)s
FROM (
  SELECT %(tenant)s::text AS tenant, %(user)s::text AS user_id, event, arrived
  FROM unnest(%(events)s::bytea[], %(arrivals)s::timestamptz[]) AS u(event, arrived)
) AS g
WHERE NOT {covered("sightings", "g", "g.arrived")}
ON CONFLICT (tenant, user_id, event) DO NOTHING
"""  # noqa: S608  # all parts are ours
_KEEP: Final = """
INSERT INTO farthing.memory_spend AS s (tenant, day, user_id, microusd, calls)
SELECT %(tenant)s, %(day)s, %(user)s, %(microusd)s, 1 WHERE %(microusd)s <= %(limit)s AND %(calls)s >= 1
ON CONFLICT (tenant, day, user_id) DO UPDATE SET microusd = s.microusd + excluded.microusd, calls = s.calls + 1
WHERE s.microusd + excluded.microusd <= %(limit)s AND s.calls < %(calls)s
"""
_SETTLE: Final = """
UPDATE farthing.memory_spend SET microusd = greatest(0, microusd + %(more)s)
WHERE tenant = %(tenant)s AND day = %(day)s AND user_id = %(user)s
"""
_FORGET_READ: Final = """
DELETE FROM farthing.memory_read WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.memory_read WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
"""
_FORGET_SPENT: Final = """
DELETE FROM farthing.memory_spend WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.memory_spend WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
"""
_OLD_READ: Final = """
DELETE FROM farthing.memory_read WHERE ctid = ANY (ARRAY(SELECT ctid FROM farthing.memory_read WHERE at < %(before)s LIMIT %(rows)s))
"""
_OLD_SPENT: Final = """
DELETE FROM farthing.memory_spend WHERE ctid = ANY (ARRAY(SELECT ctid FROM farthing.memory_spend WHERE day < %(before)s LIMIT %(rows)s))
"""
_ALL: Final = ""
"""As a user: all of the tenant."""
_ANY_CALLS: Final = 2**62


class _TooDear(Exception):  # it ends a transaction, and nothing else
    """It goes beyond an allowance."""


class PostgresReadings:
    """`ports.ReadingStore` on `farthing.memory_read` and `farthing.memory_spend`."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def unread(self, tenant: str, user: str, events: Sequence[Event]) -> list[Event]:
        """See `ports.ReadingStore.unread`."""
        async with self._database.tenant(tenant) as connection:
            cursor = await connection.execute(_KNOWN, (tenant, user, [event_digest(one) for one in events]))
            known = {bytes(digest) for (digest,) in await cursor.fetchall()}
        return [one for one in events if event_digest(one) not in known]

    async def reserve(self, tenant: str, user: str, day: date, microusd: int, allowance: Allowance) -> bool:
        """See `ports.ReadingStore.reserve`."""
        if user == _ALL:
            return False
        try:
            async with self._database.service() as connection:
                await _keep(connection, tenant, user, day, microusd, allowance.user_microusd, allowance.user_calls)
                await _keep(connection, tenant, _ALL, day, microusd, allowance.tenant_microusd, _ANY_CALLS)
        except _TooDear:
            return False
        return True

    async def settle(self, tenant: str, user: str, day: date, *, reserved: int, spent: int) -> None:
        """See `ports.ReadingStore.settle`."""
        if reserved == spent:
            return
        async with self._database.service() as connection:
            for one in (user, _ALL):
                await connection.execute(_SETTLE, {"tenant": tenant, "day": day, "user": one, "more": spent - reserved})

    async def read(self, tenant: str, user: str, events: Sequence[Event]) -> None:
        """See `ports.ReadingStore.read`."""
        ordered = sorted({event_digest(one): one.received_at for one in events}.items())
        values = {"events": [digest for digest, _ in ordered], "arrivals": [arrived for _, arrived in ordered]}
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            await connection.execute(_READ, {"tenant": tenant, "user": user, "now": self._clock(), **values})

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.ReadingStore.forget`."""
        if user_id == _ALL:
            return 0
        async with self._database.service() as connection:
            await erase(connection, tenant, "sightings", user_id, self._clock())
        return sum([await self._database.repeat(one, {"tenant": tenant, "user": user_id}) for one in (_FORGET_READ, _FORGET_SPENT)])

    async def prune(self, before: datetime) -> int:
        """See `ports.ReadingStore.prune`."""
        return await self._database.repeat(_OLD_READ, {"before": before}) + await self._database.repeat(
            _OLD_SPENT, {"before": before.date()}
        )


async def _keep(connection: Connection, tenant: str, user: str, day: date, microusd: int, limit: int, calls: int) -> None:
    values = {"tenant": tenant, "user": user, "day": day, "microusd": microusd, "limit": limit, "calls": calls}
    if (await connection.execute(_KEEP, values)).rowcount == 0:
        raise _TooDear
