"""Answers ready before the click, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from psycopg.rows import TupleRow

from farthing.postgres.edge_reader import EdgeReader
from farthing.postgres.erasures import UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.postgres.states import bump
from farthing.types import EdgeAnswer, time_of, utc_now

_COLUMNS = "body, model, states, versions, request_id, made_at, expires_at, cost_microusd"


def stale(row: str) -> str:
    """The SQL condition that a state which a row (an alias with `tenant`, `states` and `versions`) hangs on has changed since."""
    return f"""EXISTS (
  SELECT FROM unnest({row}.states, {row}.versions) AS v(state, version)
  WHERE v.version <> coalesce((
    SELECT s.version FROM farthing.state_versions s WHERE s.tenant = {row}.tenant COLLATE "C" AND s.state = v.state COLLATE "C"
  ), 0)
)"""  # noqa: S608  # all parts are ours


# One look by index for each place, whatever the planner thinks of the sizes: it is on the way of a click.
_GET = f"""
SELECT w.n::int, {", ".join(f"a.{column}" for column in _COLUMNS.split(", "))}
FROM unnest(%s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS w(tenant, user_id, action, n)
CROSS JOIN LATERAL (
  SELECT * FROM farthing.edge_answers o WHERE o.tenant = w.tenant AND o.user_id = w.user_id AND o.action = w.action LIMIT 1
) a
WHERE NOT {stale("a")}
"""  # noqa: S608  # all parts are ours
_PUT = f"""
WITH given AS (
  SELECT g.* FROM (SELECT
    %(tenant)s::text, %(user)s::text, %(action)s::text, %(body)s::bytea, %(model)s::text, %(states)s::text[], %(versions)s::bigint[],
    %(request_id)s::uuid, %(made_at)s::timestamptz, %(expires_at)s::timestamptz, %(cost)s::bigint
  ) AS g(tenant, user_id, action, {_COLUMNS})
  WHERE g.expires_at > %(now)s AND NOT {stale("g")} AND NOT {covered("edge_answers", "g", "%(begun)s")}
), stored AS (
  INSERT INTO farthing.edge_answers AS a (tenant, user_id, action, {_COLUMNS}) SELECT * FROM given
  ON CONFLICT (tenant, user_id, action) DO UPDATE SET
    {", ".join(f"{column} = excluded.{column}" for column in _COLUMNS.split(", "))}
  WHERE a.made_at <= excluded.made_at OR a.expires_at <= %(now)s OR {stale("a")}
)
SELECT FROM given
"""  # noqa: S608  # the same
_VERSIONS = "SELECT state, version FROM farthing.state_versions WHERE tenant = %s AND state = ANY (%s)"
_FORGET = """
DELETE FROM farthing.edge_answers WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.edge_answers WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.edge_answers.prune', 0))"
_PRUNE_DEAD = f"""
DELETE FROM farthing.edge_answers WHERE ctid = ANY (ARRAY(
  SELECT a.ctid FROM farthing.edge_answers a WHERE a.expires_at <= %(now)s OR {stale("a")} LIMIT %(rows)s
))
"""  # noqa: S608  # the same
_PRUNE_OLDEST = """
DELETE FROM farthing.edge_answers WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.edge_answers ORDER BY made_at DESC OFFSET %(keep)s LIMIT %(rows)s
))
"""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class PostgresEdge:
    """`ports.EdgeStore` on `farthing.edge_answers` and `farthing.state_versions`, which the event bus makes go up.

    Whether an answer is fresh is asked of the database at each read (see `edge_reader`). `clock` says what is expired.
    """

    def __init__(self, database: Database, url: str, *, connect_timeout_s: float = 3.0, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock
        self.reader = EdgeReader(url, _GET, connect_timeout_s=connect_timeout_s)

    async def get(self, tenant: str, user: str, action: str) -> EdgeAnswer | None:
        """See `ports.EdgeStore.get`."""
        if "\0" in tenant + user + action:
            return None
        row = await self.reader.read((tenant, user, action))
        found = None if row is None else _answer(tenant, user, action, row)
        return found if found is not None and found.expires_at > self._clock() else None

    async def put(self, answer: EdgeAnswer) -> bool:
        """See `ports.EdgeStore.put`."""
        values = {
            "tenant": answer.tenant,
            "user": answer.user,
            "action": answer.action,
            "body": _encode(answer.body),
            "model": answer.model,
            "states": list(answer.versions),
            "versions": list(answer.versions.values()),
            "request_id": answer.request_id,
            "made_at": answer.made_at,
            "expires_at": answer.expires_at,
            "cost": answer.cost_microusd,
            "now": self._clock(),
            "begun": time_of(answer.request_id),
        }
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            return await (await connection.execute(_PUT.encode(), values)).fetchone() is not None

    async def versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """See `ports.EdgeStore.versions`."""
        if not states:
            return {}
        async with self._database.service() as connection:
            rows = await (await connection.execute(_VERSIONS, (tenant, list(states)))).fetchall()
        return {**dict.fromkeys(states, 0), **dict(rows)}

    async def bump(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """See `ports.EdgeStore.bump`."""
        async with self._database.service() as connection:
            return await bump(connection, tenant, states)

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.EdgeStore.forget`."""
        if user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        async with self._database.service() as connection:
            await erase(connection, tenant, "edge_answers", user_id, self._clock())
        return await self._database.repeat(_FORGET, {"tenant": tenant, "user": user_id})

    async def prune(self, max_rows: int) -> int:
        """See `ports.EdgeStore.prune`. Returns 0 when another worker is at it."""
        dead = await self._database.repeat(_PRUNE_DEAD, {"now": self._clock()}, alone=_PRUNING)
        return dead + await self._database.repeat(_PRUNE_OLDEST, {"keep": max_rows}, alone=_PRUNING)

    async def close(self) -> None:
        """See `ports.EdgeStore.close`."""
        await self.reader.close()


def _answer(tenant: str, user: str, action: str, row: TupleRow) -> EdgeAnswer:
    body, model, states, versions, request_id, made_at, expires_at, cost = row
    return EdgeAnswer(
        tenant=tenant,
        user=user,
        action=action,
        body=_decode(body),
        model=model,
        versions=dict(zip(states, versions, strict=True)),
        request_id=request_id,
        made_at=made_at,
        expires_at=expires_at,
        cost_microusd=cost,
    )
