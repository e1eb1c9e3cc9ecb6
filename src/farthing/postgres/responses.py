"""Turns of conversations in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from farthing.postgres.erasures import UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import StoredResponse, time_of, utc_now

_PRUNE_ROWS = 1000
"""Deleted in one transaction, so that no pruning holds locks for long."""

_PUT = f"""
INSERT INTO farthing.responses (id, tenant, user_id, previous_id, payload, created_at, expires_at)
SELECT g.id, g.tenant, g.user_id, g.previous_id, g.payload, g.created_at, g.expires_at
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::uuid[], %s::bytea[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
  AS g(id, tenant, user_id, previous_id, payload, created_at, expires_at, arrived)
WHERE NOT {covered("responses", "g", "g.arrived")}
ON CONFLICT (tenant, id) DO NOTHING
"""  # noqa: S608  # all parts are ours
# The walk reads only what leads back; payloads are fetched when it is known which are wanted.
_CHAIN = """
WITH RECURSIVE chain AS (
  SELECT r.id, r.previous_id, 1 AS place, octet_length(r.payload)::bigint AS held
  FROM farthing.responses r WHERE r.tenant = %(tenant)s AND r.id = %(id)s AND r.expires_at > %(now)s AND %(most)s > 0
  UNION ALL
  SELECT r.id, r.previous_id, c.place + 1, c.held + octet_length(r.payload)
  FROM chain c JOIN farthing.responses r ON r.tenant = %(tenant)s AND r.id = c.previous_id
  WHERE r.expires_at > %(now)s AND c.place < %(most)s AND c.held <= %(most_bytes)s
)
SELECT r.id, r.user_id, r.previous_id, r.payload, r.created_at, r.expires_at
FROM chain c JOIN farthing.responses r ON r.tenant = %(tenant)s AND r.id = c.id ORDER BY c.place
"""
_RENEW = """
UPDATE farthing.responses SET expires_at = %(until)s
WHERE tenant = %(tenant)s AND id = ANY (%(ids)s) AND expires_at < %(until)s AND expires_at > %(now)s
"""
_DELETE = "DELETE FROM farthing.responses WHERE tenant = %s AND id = %s AND expires_at > %s"
_FORGET = """
DELETE FROM farthing.responses WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.responses WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.responses.prune', 0))"
_PRUNE_EXPIRED = """
DELETE FROM farthing.responses WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.responses WHERE expires_at <= %(now)s ORDER BY expires_at LIMIT %(rows)s
))
"""
_PRUNE_BOUNDS = """
DELETE FROM farthing.responses WHERE ctid = ANY (ARRAY(
  SELECT place FROM (
    SELECT ctid AS place, row_number() OVER own AS number, sum(octet_length(payload)) OVER own AS held,
      sum(octet_length(payload)) OVER (ORDER BY id DESC) AS total
    FROM farthing.responses WINDOW own AS (PARTITION BY tenant ORDER BY id DESC)
  ) AS ranked
  WHERE number > %(rows_per_tenant)s OR held > %(bytes_per_tenant)s OR total > %(total_bytes)s LIMIT %(rows)s
))
"""


class PostgresResponses:
    """`ports.ResponseStore` on `farthing.responses`. Row-level security checks the tenant of what is read once more."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def put(self, turns: Sequence[StoredResponse]) -> None:
        """See `ports.ResponseStore.put`."""
        if not turns:
            return
        turns = sorted(turns, key=lambda turn: (turn.tenant, turn.id))  # in one order everywhere, or two writers may wait for each other
        columns = (
            [turn.id for turn in turns],
            [turn.tenant for turn in turns],
            [turn.user_id for turn in turns],
            [turn.previous for turn in turns],
            [turn.payload for turn in turns],
            [turn.created_at for turn in turns],
            [turn.expires_at for turn in turns],
            [time_of(turn.id) for turn in turns],
        )
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            await connection.execute(_PUT, columns)

    async def chain(self, tenant: str, turn_id: UUID, *, most: int, most_bytes: int) -> list[StoredResponse]:
        """See `ports.ResponseStore.chain`."""
        wanted = {"tenant": tenant, "id": turn_id, "now": self._clock(), "most": most, "most_bytes": most_bytes}
        async with self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(_CHAIN, wanted, binary=True)).fetchall()
        return [
            StoredResponse(
                id=found,
                tenant=tenant,
                user_id=user_id,
                previous=previous,
                payload=bytes(payload),
                created_at=created_at,
                expires_at=expires_at,
            )
            for found, user_id, previous, payload, created_at, expires_at in rows
        ]

    async def renew(self, tenant: str, turn_ids: Sequence[UUID], expires_at: datetime) -> None:
        """See `ports.ResponseStore.renew`."""
        if turn_ids:
            async with self._database.service() as connection:
                await connection.execute(_RENEW, {"tenant": tenant, "ids": list(turn_ids), "until": expires_at, "now": self._clock()})

    async def delete(self, tenant: str, turn_id: UUID) -> bool:
        """See `ports.ResponseStore.delete`."""
        async with self._database.service() as connection:
            return (await connection.execute(_DELETE, (tenant, turn_id, self._clock()))).rowcount == 1

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.ResponseStore.forget`."""
        async with self._database.service() as connection:
            await erase(connection, tenant, "responses", user_id, self._clock())
        return await self._database.repeat(_FORGET, {"tenant": tenant, "user": user_id})

    async def prune(self, *, rows_per_tenant: int, bytes_per_tenant: int, total_bytes: int) -> int:
        """See `ports.ResponseStore.prune`. Returns 0 when another worker is at it."""
        bounds = {"rows_per_tenant": rows_per_tenant, "bytes_per_tenant": bytes_per_tenant, "total_bytes": total_bytes}
        pruned = 0
        for statement in (_PRUNE_EXPIRED, _PRUNE_BOUNDS):
            gone = _PRUNE_ROWS
            while gone == _PRUNE_ROWS:
                async with self._database.service() as connection:
                    if await (await connection.execute(_PRUNING)).fetchone() != (True,):
                        return pruned
                    gone = (await connection.execute(statement, {**bounds, "now": self._clock(), "rows": _PRUNE_ROWS})).rowcount
                pruned += gone
        return pruned
