"""Retention in PostgreSQL: who wants texts kept, and the sealed texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import TupleRow

from farthing.postgres.connection import Connection
from farthing.postgres.erasures import ALONE, FORGET_ERASURES, KEPT_FOR, UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import NewTranscript, RetentionPolicy, StoredTranscript

_ROWS = 1000
"""Changed in one transaction, so that nothing holds locks for long."""

_POLICY = "SELECT tenant, enabled, ttl_s, set_by, set_at FROM farthing.retention WHERE tenant = %s"
_ENABLED = "SELECT tenant FROM farthing.retention WHERE enabled LIMIT %s"
_FLUSHED = "SELECT max(at) FROM farthing.erasures WHERE what = 'answers'"
_SET = """
INSERT INTO farthing.retention (tenant, enabled, ttl_s, set_by, set_at)
VALUES (%(tenant)s, %(enabled)s, %(ttl_s)s, %(set_by)s, %(set_at)s)
ON CONFLICT (tenant) DO UPDATE SET
  enabled = excluded.enabled, ttl_s = excluded.ttl_s, set_by = excluded.set_by, set_at = excluded.set_at
"""
_SHORTEN = """
UPDATE farthing.transcripts SET expires_at = at + %(ttl)s WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.transcripts WHERE tenant = %(tenant)s AND expires_at > at + %(ttl)s LIMIT %(rows)s
))
"""
_NOTIFY = "SELECT pg_notify('farthing_retention', '')"
_NOW = "SELECT coalesce(%s::timestamptz, clock_timestamp())"
# The policy is read here and not where the request was: what was turned off meanwhile stores nothing.
_PUT = f"""
INSERT INTO farthing.transcripts (request_id, tenant, user_id, model, source, payload, at, expires_at)
SELECT g.request_id, g.tenant, g.user_id, g.model, g.source, g.payload, g.at, g.at + make_interval(secs => p.ttl_s)
FROM unnest(%(ids)s::uuid[], %(tenants)s::text[], %(users)s::text[], %(models)s::text[], %(sources)s::text[], %(payloads)s::bytea[],
  %(ats)s::timestamptz[]) AS g(request_id, tenant, user_id, model, source, payload, at)
JOIN farthing.retention p ON p.tenant = g.tenant AND p.enabled
WHERE g.at > %(oldest)s AND NOT {covered("transcripts", "g", "g.at")}
ON CONFLICT (request_id) DO NOTHING
"""  # noqa: S608  # all parts are ours
_COLUMNS = "request_id, tenant, user_id, model, source, payload, at, expires_at"
_GET = f"SELECT {_COLUMNS} FROM farthing.transcripts WHERE request_id = %s AND expires_at > coalesce(%s::timestamptz, clock_timestamp())"  # noqa: S608  # the same
_KEPT = """
SELECT request_id FROM farthing.transcripts
WHERE request_id = ANY (%s::uuid[]) AND expires_at > coalesce(%s::timestamptz, clock_timestamp())
"""
_FORGET = """
DELETE FROM farthing.transcripts WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.transcripts WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.transcripts.prune', 0))"
_PRUNE_EXPIRED = """
DELETE FROM farthing.transcripts WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.transcripts WHERE expires_at <= %(now)s ORDER BY expires_at LIMIT %(rows)s
))
"""
_PRUNE_OLDEST = """
DELETE FROM farthing.transcripts WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.transcripts ORDER BY request_id DESC OFFSET %(keep)s LIMIT %(rows)s
))
"""


class PostgresRetention:
    """`ports.RetentionStore` on `farthing.retention`, `farthing.transcripts` and `farthing.erasures`.

    Changes are told on the channel `retention`. Time is the database's, so that clocks of hosts need not agree, unless `clock` is given.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime] | None = None) -> None:
        self._database = database
        self._clock = clock

    def _given(self) -> datetime | None:
        return self._clock() if self._clock is not None else None

    async def policy(self, tenant: str) -> RetentionPolicy | None:
        """See `ports.RetentionStore.policy`."""
        async with self._database.tenant(tenant) as connection:
            row = await (await connection.execute(_POLICY, (tenant,))).fetchone()
        return _policy(row) if row else None

    async def enabled(self, limit: int) -> tuple[frozenset[str], datetime | None]:
        """See `ports.RetentionStore.enabled`."""
        async with self._database.service() as connection:
            rows = await (await connection.execute(_ENABLED, (limit,))).fetchall()
            flushed = await (await connection.execute(_FLUSHED)).fetchone()
        return frozenset(tenant for (tenant,) in rows), flushed[0] if flushed else None

    async def set_policy(self, policy: RetentionPolicy) -> None:
        """See `ports.RetentionStore.set_policy`."""
        values = {name: getattr(policy, name) for name in policy.__struct_fields__}
        async with self._database.service() as connection:
            await connection.execute(ALONE)
            await connection.execute(_SET, values)
            await connection.execute(_NOTIFY)
        await self._database.repeat(_SHORTEN, {"tenant": policy.tenant, "ttl": timedelta(seconds=policy.ttl_s)})

    async def put(self, transcripts: Sequence[NewTranscript]) -> int:
        """See `ports.RetentionStore.put`."""
        if not transcripts:
            return 0
        async with self._database.service() as connection:
            now = await self._now(connection)
            ages = [timedelta(microseconds=(time.perf_counter_ns() - one.arrived_ns) // 1000) for one in transcripts]
            values = {
                "ids": [one.request_id for one in transcripts],
                "tenants": [one.tenant for one in transcripts],
                "users": [one.user_id for one in transcripts],
                "models": [one.model for one in transcripts],
                "sources": [one.source for one in transcripts],
                "payloads": [one.payload for one in transcripts],
                "ats": [now - age for age in ages],
                "oldest": now - KEPT_FOR,
            }
            await connection.execute(UNTIL_WRITTEN)
            return (await connection.execute(_PUT, values)).rowcount

    async def _now(self, connection: Connection) -> datetime:
        """Read before the lock is waited for: what arrives is dated too early by the way here, and never too late."""
        row = await (await connection.execute(_NOW, (self._given(),))).fetchone()
        assert row is not None
        now: datetime = row[0]
        return now

    async def get(self, request_id: UUID) -> StoredTranscript | None:
        """See `ports.RetentionStore.get`."""
        async with self._database.service() as connection:
            row = await (await connection.execute(_GET, (request_id, self._given()), binary=True)).fetchone()
        return _transcript(row) if row else None

    async def kept(self, request_ids: Sequence[UUID]) -> frozenset[UUID]:
        """See `ports.RetentionStore.kept`."""
        async with self._database.service() as connection:
            rows = await (await connection.execute(_KEPT, (list(request_ids), self._given()))).fetchall()
        return frozenset(found for (found,) in rows)

    async def forget(self, tenant: str, user: str | None) -> int:
        """See `ports.RetentionStore.forget`."""
        async with self._database.service() as connection:
            await erase(connection, tenant, "transcripts", user, self._given())
        return await self._database.repeat(_FORGET, {"tenant": tenant, "user": user})

    async def prune(self, max_rows: int) -> int:
        """See `ports.RetentionStore.prune`. Returns 0 when another worker is at it."""
        pruned = 0
        for statement in (_PRUNE_EXPIRED, _PRUNE_OLDEST):
            gone = _ROWS
            while gone == _ROWS:
                async with self._database.service() as connection:
                    if await (await connection.execute(_PRUNING)).fetchone() != (True,):
                        return pruned
                    values = {"now": await self._now(connection), "keep": max_rows, "rows": _ROWS}
                    gone = (await connection.execute(statement, values)).rowcount
                pruned += gone
        async with self._database.service() as connection:
            await connection.execute(FORGET_ERASURES, {"now": await self._now(connection), "kept_for": KEPT_FOR})
        return pruned


def _policy(row: TupleRow) -> RetentionPolicy:
    tenant, enabled, ttl_s, set_by, set_at = row
    return RetentionPolicy(tenant=tenant, enabled=enabled, ttl_s=ttl_s, set_by=set_by, set_at=set_at)


def _transcript(row: TupleRow) -> StoredTranscript:
    request_id, tenant, user_id, model, source, payload, at, expires_at = row
    return StoredTranscript(
        request_id=request_id,
        tenant=tenant,
        user_id=user_id,
        model=model,
        source=source,
        payload=bytes(payload),
        at=at,
        expires_at=expires_at,
    )
