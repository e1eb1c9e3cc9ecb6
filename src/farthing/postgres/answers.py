"""The shared tier of the exact cache in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from farthing.ports import EVERYTHING
from farthing.postgres.erasures import UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import CacheScope, StoredAnswer, utc_now

_KEYS_PER_NOTICE = 120
"""64 hex digits and a comma each: below the 8,000 bytes that NOTIFY carries."""

_PRUNE_ROWS = 1000
"""Deleted in one transaction, so that no pruning holds locks for long."""

_GET = """
SELECT user_id, namespace, tags, model, payload, cost_microusd, created_at, expires_at FROM farthing.answers
WHERE tenant = %s AND key = %s AND expires_at > %s
"""
_PUT = f"""
WITH stored AS (
  INSERT INTO farthing.answers AS a (tenant, key, user_id, namespace, tags, model, payload, cost_microusd, created_at, expires_at)
  SELECT g.tenant, g.key, g.user_id, g.namespace, g.tags, g.model, g.payload, g.cost_microusd, g.created_at, g.expires_at FROM (
    SELECT u.*, ARRAY(SELECT jsonb_array_elements_text(u.tag_list::jsonb)) AS tags FROM unnest(
      %s::text[], %s::bytea[], %s::text[], %s::text[], %s::text[], %s::text[],
      %s::bytea[], %s::bigint[], %s::timestamptz[], %s::timestamptz[]
    ) AS u(tenant, key, user_id, namespace, tag_list, model, payload, cost_microusd, created_at, expires_at)
  ) AS g
  WHERE NOT {covered("answers", "g", "g.created_at", answer_key="key")}
  ON CONFLICT (tenant, key) DO UPDATE SET
    user_id = excluded.user_id, namespace = excluded.namespace, tags = excluded.tags, model = excluded.model, payload = excluded.payload,
    cost_microusd = excluded.cost_microusd, created_at = excluded.created_at, expires_at = excluded.expires_at
  WHERE a.created_at <= excluded.created_at
)
SELECT pg_notify('farthing_answers', notice) FROM unnest(%s::text[]) AS notice
"""  # noqa: S608  # all parts are ours
_KEYS = "SELECT key FROM farthing.answers WHERE expires_at > %s ORDER BY created_at DESC LIMIT %s"
_FORGET = """
DELETE FROM farthing.answers WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.answers
  WHERE tenant = %(tenant)s AND (%(namespace)s::text IS NULL OR namespace = %(namespace)s)
    AND (%(user)s::text IS NULL OR user_id = %(user)s)
    AND (%(tag)s::text IS NULL OR %(tag)s = ANY (tags)) AND (%(answer_key)s::bytea IS NULL OR key = %(answer_key)s)
  LIMIT %(rows)s
))
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.answers.prune', 0))"
_PRUNE_EXPIRED = """
DELETE FROM farthing.answers WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.answers WHERE expires_at <= %(now)s ORDER BY expires_at LIMIT %(rows)s
))
"""
_PRUNE_OLDEST = """
DELETE FROM farthing.answers WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.answers ORDER BY created_at DESC OFFSET %(keep)s LIMIT %(rows)s
))
"""


class PostgresAnswers:
    """`ports.AnswerStore` on `farthing.answers`. Storing tells other workers the keys (channel `answers`) in the same transaction.

    An entry is replaced only by one made at the same time or later. `clock` says what is expired.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def get(self, tenant: str, key: bytes) -> StoredAnswer | None:
        """See `ports.AnswerStore.get`. Row-level security checks the tenant once more."""
        async with self._database.tenant(tenant) as connection:
            row = await (await connection.execute(_GET, (tenant, key, self._clock()), binary=True)).fetchone()
        if row is None:
            return None
        user_id, namespace, tags, model, payload, cost, created_at, expires_at = row
        return StoredAnswer(
            key=key,
            tenant=tenant,
            user_id=user_id,
            namespace=namespace,
            tags=tuple(tags),
            model=model,
            payload=bytes(payload),
            cost_microusd=cost,
            created_at=created_at,
            expires_at=expires_at,
        )

    async def put(self, entries: Sequence[StoredAnswer]) -> None:
        """See `ports.AnswerStore.put`."""
        rows = _newest_by_key(entries)
        if not rows:
            return
        columns = (
            [row.tenant for row in rows],
            [row.key for row in rows],
            [row.user_id for row in rows],
            [row.namespace for row in rows],
            [msgspec.json.encode(row.tags).decode() for row in rows],
            [row.model for row in rows],
            [row.payload for row in rows],
            [row.cost_microusd for row in rows],
            [row.created_at for row in rows],
            [row.expires_at for row in rows],
        )
        keys = [row.key.hex() for row in rows]
        notices = [",".join(keys[start : start + _KEYS_PER_NOTICE]) for start in range(0, len(keys), _KEYS_PER_NOTICE)]
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            await connection.execute(_PUT, (*columns, notices))

    async def keys(self, limit: int) -> list[bytes]:
        """See `ports.AnswerStore.keys`."""
        async with self._database.service() as connection:
            rows = await (await connection.execute(_KEYS, (self._clock(), limit), binary=True)).fetchall()
        return [bytes(key) for (key,) in rows]

    async def forget(self, tenant: str, scope: CacheScope = EVERYTHING) -> int:
        """See `ports.AnswerStore.forget`. Other workers are told on the channel `retention`."""
        if scope.user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        values = {"tenant": tenant, "user": scope.user_id, "namespace": scope.namespace, "tag": scope.tag, "answer_key": scope.answer_key}
        async with self._database.service() as connection:
            await erase(connection, tenant, "answers", None, self._clock(), scope)
        return await self._database.repeat(_FORGET, values)

    async def prune(self, max_rows: int) -> int:
        """See `ports.AnswerStore.prune`. Returns 0 when another worker is at it."""
        pruned = 0
        for statement in (_PRUNE_EXPIRED, _PRUNE_OLDEST):
            gone = _PRUNE_ROWS
            while gone == _PRUNE_ROWS:
                gone = await self._prune_some(statement, max_rows)
                pruned += gone
        return pruned

    async def _prune_some(self, statement: str, max_rows: int) -> int:
        async with self._database.service() as connection:
            alone = await (await connection.execute(_PRUNING)).fetchone()
            if alone != (True,):
                return 0
            values = {"now": self._clock(), "keep": max_rows, "rows": _PRUNE_ROWS}
            return (await connection.execute(statement, values)).rowcount


def _newest_by_key(entries: Sequence[StoredAnswer]) -> list[StoredAnswer]:
    """One entry per tenant and key, in the order of these: writers that take their locks in one order cannot deadlock."""
    newest: dict[tuple[str, bytes], StoredAnswer] = {}
    for entry in entries:
        place = (entry.tenant, entry.key)
        if place not in newest or newest[place].created_at <= entry.created_at:
            newest[place] = entry
    return [newest[place] for place in sorted(newest)]
