"""What the semantic cache did, in PostgreSQL: hits, and verdicts on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from psycopg.rows import TupleRow

from farthing.postgres.erasures import UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import ServedHit, Verdict, utc_now

_VERDICTS_PER_NOTICE = 15
_NOTICE_BYTES = 7900
"""NOTIFY carries less than 8,000."""

# Worth changes only when reuse has doubled (see `types.question_worth`): the other updates touch no index.
_SERVED = f"""
WITH stored AS (
  INSERT INTO farthing.cache_hits (request_id, question_id, answer_key, tenant, score, saved_microusd, at)
  SELECT g.* FROM unnest(
    %(requests)s::uuid[], %(questions)s::uuid[], %(keys)s::bytea[], %(tenants)s::text[], %(scores)s::float8[], %(saved)s::bigint[],
    %(ats)s::timestamptz[]
  ) AS g(request_id, question_id, answer_key, tenant, score, saved_microusd, at)
  WHERE NOT {covered("cache_hits", "g", "g.at", by_user=False)}
  ON CONFLICT (request_id) DO NOTHING
  RETURNING tenant, question_id
), reused AS (
  SELECT q.id, count(*) AS times FROM stored s JOIN farthing.questions q ON q.tenant = s.tenant AND q.id = s.question_id GROUP BY q.id
), locked AS (
  SELECT q.id, r.times FROM farthing.questions q JOIN reused r USING (id) ORDER BY q.id FOR UPDATE OF q
)
UPDATE farthing.questions q SET
  reuse = q.reuse + l.times, worth = q.worth + floor(log(2, 1 + q.reuse + l.times)) - floor(log(2, 1 + q.reuse))
FROM locked l WHERE q.id = l.id
"""  # noqa: S608  # all parts are ours
_HIT_COLUMNS = "request_id, question_id, answer_key, tenant, score, saved_microusd, at"
_HITS = f"""
SELECT {_HIT_COLUMNS} FROM farthing.cache_hits WHERE tenant = %s AND question_id = %s ORDER BY at DESC, request_id DESC LIMIT %s
"""  # noqa: S608  # the same
_HIT = f"SELECT {_HIT_COLUMNS} FROM farthing.cache_hits WHERE tenant = %s AND request_id = %s"  # noqa: S608  # the same
_ADD = f"""
INSERT INTO farthing.cache_verdicts (id, tenant, question_id, request_id, same, by, score, served, audit, at)
SELECT g.* FROM unnest(
  %(ids)s::uuid[], %(tenants)s::text[], %(questions)s::uuid[], %(requests)s::uuid[], %(same)s::boolean[], %(by)s::text[],
  %(scores)s::float8[], %(served)s::boolean[], %(audit)s::float8[], %(ats)s::timestamptz[]
) AS g(id, tenant, question_id, request_id, same, by, score, served, audit, at)
WHERE NOT {covered("cache_hits", "g", "g.at", by_user=False)}
ON CONFLICT (id) DO NOTHING
RETURNING id
"""  # noqa: S608  # the same
_NOTIFY = "SELECT pg_notify('farthing_verdicts', note) FROM unnest(%s::text[]) AS note"
_VERDICTS = """
SELECT id, tenant, question_id, request_id, same, by, score, served, audit, at FROM farthing.cache_verdicts
ORDER BY at DESC, id DESC LIMIT %s
"""
_VERDICTS_OF = """
SELECT id, tenant, question_id, request_id, same, by, score, served, audit, at FROM farthing.cache_verdicts
WHERE tenant = %s ORDER BY at DESC, id DESC LIMIT %s
"""
_TABLES = (("farthing.cache_hits", "request_id"), ("farthing.cache_verdicts", "id"))
_FORGET = """
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM {table} WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR question_id IN (
    SELECT id FROM farthing.questions WHERE tenant = %(tenant)s AND user_id = %(user)s
  )) LIMIT %(rows)s
))
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.cache_records.prune', 0))"
_PRUNE = """
DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} ORDER BY at DESC, {id} DESC OFFSET %(keep)s LIMIT %(rows)s))
"""


class PostgresCacheRecords:
    """`ports.CacheRecords` on `farthing.cache_hits` and `farthing.cache_verdicts`. New verdicts are told on the channel `verdicts`."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def served(self, hits: Sequence[ServedHit]) -> None:
        """See `ports.CacheRecords.served`."""
        if not hits:
            return
        hits = sorted(hits, key=lambda hit: hit.request_id)  # in one order everywhere, or two writers may wait for each other
        values = {
            "requests": [hit.request_id for hit in hits],
            "questions": [hit.question_id for hit in hits],
            "keys": [hit.answer_key for hit in hits],
            "tenants": [hit.tenant for hit in hits],
            "scores": [hit.score for hit in hits],
            "saved": [hit.saved_microusd for hit in hits],
            "ats": [hit.at for hit in hits],
        }
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            await connection.execute(_SERVED, values)

    async def hits(self, tenant: str, question_id: UUID, limit: int) -> list[ServedHit]:
        """See `ports.CacheRecords.hits`."""
        async with self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(_HITS, (tenant, question_id, limit))).fetchall()
        return [_hit(row) for row in rows]

    async def hit(self, tenant: str, request_id: UUID) -> ServedHit | None:
        """See `ports.CacheRecords.hit`."""
        async with self._database.tenant(tenant) as connection:
            row = await (await connection.execute(_HIT, (tenant, request_id))).fetchone()
        return _hit(row) if row else None

    async def add_verdicts(self, verdicts: Sequence[Verdict]) -> list[UUID]:
        """See `ports.CacheRecords.add_verdicts`."""
        if not verdicts:
            return []
        verdicts = sorted(verdicts, key=lambda verdict: verdict.id)
        values = {
            "ids": [verdict.id for verdict in verdicts],
            "tenants": [verdict.tenant for verdict in verdicts],
            "questions": [verdict.question_id for verdict in verdicts],
            "requests": [verdict.request_id for verdict in verdicts],
            "same": [verdict.same for verdict in verdicts],
            "by": [verdict.by for verdict in verdicts],
            "scores": [verdict.score for verdict in verdicts],
            "served": [verdict.served for verdict in verdicts],
            "audit": [verdict.audit for verdict in verdicts],
            "ats": [verdict.at for verdict in verdicts],
        }
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            new = {name for (name,) in await (await connection.execute(_ADD, values)).fetchall()}
            told = list({verdict.id: verdict for verdict in verdicts if verdict.id in new}.values())
            await connection.execute(_NOTIFY, (_notes(told),))
        return [verdict.id for verdict in told]

    async def verdicts(self, limit: int, tenant: str | None = None) -> list[Verdict]:
        """See `ports.CacheRecords.verdicts`."""
        async with self._database.service() as connection:
            if tenant is None:
                cursor = await connection.execute(_VERDICTS, (limit,))
            else:
                cursor = await connection.execute(_VERDICTS_OF, (tenant, limit))
            rows = await cursor.fetchall()
        return [Verdict(**dict(zip(Verdict.__struct_fields__, row, strict=True))) for row in rows]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.CacheRecords.forget`."""
        if user_id is None:
            async with self._database.service() as connection:
                await erase(connection, tenant, "cache_hits", None, self._clock())
        statements = [_FORGET.format(table=table) for table, _ in _TABLES]
        return sum([await self._database.repeat(statement, {"tenant": tenant, "user": user_id}) for statement in statements])

    async def prune(self, *, max_hits: int, max_verdicts: int) -> int:
        """See `ports.CacheRecords.prune`. Returns 0 when another worker is at it."""
        statements = [_PRUNE.format(table=table, id=name) for table, name in _TABLES]
        bounds = zip(statements, (max_hits, max_verdicts), strict=True)
        return sum([await self._database.repeat(one, {"keep": keep}, alone=_PRUNING) for one, keep in bounds])


def _notes(verdicts: Sequence[Verdict]) -> list[str]:
    pages = [verdicts[at : at + _VERDICTS_PER_NOTICE] for at in range(0, len(verdicts), _VERDICTS_PER_NOTICE)]
    notes = [msgspec.json.encode(page).decode() for page in pages]
    return [note if len(note.encode()) <= _NOTICE_BYTES else "" for note in notes]


def _hit(row: TupleRow) -> ServedHit:
    return ServedHit(**dict(zip(ServedHit.__struct_fields__, row, strict=True)))
