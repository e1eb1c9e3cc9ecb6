"""How events go: those of who is forgotten, and those that are old."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from farthing.postgres.events_sql import SETTLE
from farthing.postgres.events_storing import take_turns
from farthing.postgres.pool import Database

_ROWS: Final = 1000
"""Deleted in one transaction, so that nothing holds locks for long."""
_NAMES_KEPT_FOR: Final = timedelta(days=7)

_THEIRS = """
SELECT position FROM farthing.events WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
"""
_THEIR_LANES = """
SELECT l.handler, l.tenant, l.lane FROM farthing.event_lanes l
WHERE (l.handler, l.tenant, l.lane) IN (
  SELECT d.handler, d.tenant, d.lane FROM farthing.event_deliveries d WHERE d.position = ANY (%(positions)s)
) ORDER BY l.handler, l.tenant, l.lane FOR UPDATE
"""
_FORGET = """
WITH undelivered AS (
  DELETE FROM farthing.event_deliveries WHERE position = ANY (%(positions)s)
), unburied AS (
  DELETE FROM farthing.event_dead_letters WHERE position = ANY (%(positions)s)
), gone AS (
  DELETE FROM farthing.events WHERE position = ANY (%(positions)s) RETURNING tenant, name
)
INSERT INTO farthing.event_names (tenant, name, at) SELECT tenant, name, clock_timestamp() FROM gone ON CONFLICT DO NOTHING
"""

# One process prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.events.prune', 0))"
_LETTERS = """
DELETE FROM farthing.event_dead_letters WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.event_dead_letters x
  WHERE at < %(before)s OR NOT EXISTS (SELECT FROM farthing.event_subscriptions s WHERE s.handler = x.handler) LIMIT %(rows)s
))
"""
_NOBODYS = """
DELETE FROM farthing.event_deliveries WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.event_deliveries d
  WHERE due_at < %(before)s AND NOT EXISTS (SELECT FROM farthing.event_subscriptions s WHERE s.handler = d.handler) LIMIT %(rows)s
))
"""
_NOBODYS_LANES = """
DELETE FROM farthing.event_lanes WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.event_lanes l
  WHERE NOT EXISTS (SELECT FROM farthing.event_subscriptions s WHERE s.handler = l.handler)
    AND NOT EXISTS (
      SELECT FROM farthing.event_deliveries d WHERE d.handler = l.handler AND d.tenant = l.tenant AND d.lane = l.lane
    ) LIMIT %(rows)s
))
"""
_NAMES = """
DELETE FROM farthing.event_names WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.event_names
  WHERE at < greatest(
    %(names_before)s, (SELECT at FROM farthing.event_names ORDER BY at DESC OFFSET %(most)s LIMIT 1)
  ) LIMIT %(rows)s
))
"""
_IDLE = """
NOT EXISTS (SELECT FROM farthing.event_deliveries d WHERE d.position = e.position)
AND NOT EXISTS (SELECT FROM farthing.event_dead_letters x WHERE x.position = e.position)
"""
_CROWD = "SELECT coalesce((SELECT position FROM farthing.events ORDER BY position DESC OFFSET %(most)s LIMIT 1), 0)"
_OLD = f"""
SELECT e.position, e.tenant FROM farthing.events e
WHERE e.position > %(after)s AND (e.received_at < %(before)s OR e.position <= %(crowd)s) AND {_IDLE}
ORDER BY e.position LIMIT %(rows)s
"""  # noqa: S608  # all parts are ours
_PRUNE = f"""
WITH gone AS (
  DELETE FROM farthing.events e WHERE e.position = ANY (%(positions)s) AND {_IDLE} RETURNING e.tenant, e.name
)
INSERT INTO farthing.event_names (tenant, name, at)
SELECT tenant, name, coalesce(%(now)s::timestamptz, clock_timestamp()) FROM gone ON CONFLICT DO NOTHING
"""  # noqa: S608


async def forget(database: Database, tenant: str, user: str | None, now: datetime | None) -> int:
    """Delete what is there of a user, or (None) a tenant. Who has events of theirs under way loses his lease. Returns how many."""
    gone = 0
    while True:
        async with database.service() as connection:
            rows = await (await connection.execute(_THEIRS, {"tenant": tenant, "user": user, "rows": _ROWS})).fetchall()
            positions = {"positions": [position for (position,) in rows]}
            lanes = await (await connection.execute(_THEIR_LANES, positions)).fetchall()
            await connection.execute(_FORGET, positions)
            places = {"handlers": [one[0] for one in lanes], "tenants": [one[1] for one in lanes], "lanes": [one[2] for one in lanes]}
            await connection.execute(SETTLE, {**places, "now": now})
        gone += len(rows)
        if len(rows) < _ROWS:
            return gone


async def prune(database: Database, before: datetime, max_rows: int, now: datetime) -> int:
    """Delete old dead letters, what nobody waits for any more, then events and names. Returns how many events."""
    values = {"before": before, "most": max_rows, "names_before": now - _NAMES_KEPT_FOR}
    for statement in (_LETTERS, _NOBODYS, _NOBODYS_LANES, _NAMES):
        await database.repeat(statement, values, alone=_PRUNING)
    async with database.service() as connection:
        row = await (await connection.execute(_CROWD, values)).fetchone()
        assert row is not None
    return await _prune_events(database, {**values, "crowd": row[0], "rows": _ROWS, "now": now})


async def _prune_events(database: Database, values: Mapping[str, Any]) -> int:
    gone, after = 0, 0
    while True:
        async with database.service() as connection:
            if await (await connection.execute(_PRUNING)).fetchone() != (True,):
                return gone
            rows = await (await connection.execute(_OLD, {**values, "after": after})).fetchall()
            # Whoever stores meanwhile sees either the event or its name.
            await take_turns(connection, {tenant for _, tenant in rows})
            gone += (await connection.execute(_PRUNE, {**values, "positions": [position for position, _ in rows]})).rowcount
        if len(rows) < _ROWS:
            return gone
        after = rows[-1][0]
