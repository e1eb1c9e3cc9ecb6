"""Events that rules count, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from farthing.postgres.erasures import KEPT_FOR, UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import Sighting, utc_now

_COLUMNS: Final = "tenant, user_id, rule, alike, event, at, arrived"
# Of two workers that note events of one user at the same time, one must see what the other has noted.
_ALONE: Final = "SELECT pg_advisory_xact_lock(hashtextextended('farthing.sightings:' || %s || ':' || %s, 0))"
_ADD: Final = f"""
INSERT INTO farthing.memory_sightings ({_COLUMNS})
SELECT g.* FROM (VALUES (
  %(tenant)s::text, %(user)s::text, %(rule)s::text, %(alike)s::bytea, %(event)s::text, %(at)s::timestamptz, %(arrived)s::timestamptz
)) AS g({_COLUMNS})
WHERE NOT {covered("sightings", "g", "g.arrived")}
ON CONFLICT (tenant, user_id, rule, event) DO NOTHING
"""  # noqa: S608  # all parts are ours
_ALIKE: Final = "tenant = %(tenant)s AND user_id = %(user)s AND rule = %(rule)s AND alike = %(alike)s"
_NEAR: Final = f"""
(
  SELECT {_COLUMNS} FROM farthing.memory_sightings
  WHERE {_ALIKE} AND (at, event) <= (%(at)s, %(event)s::text COLLATE "C") AND at >= %(at)s - %(within)s
  ORDER BY at DESC, event DESC LIMIT %(most)s
) UNION ALL (
  SELECT {_COLUMNS} FROM farthing.memory_sightings
  WHERE {_ALIKE} AND (at, event) > (%(at)s, %(event)s::text COLLATE "C") AND at <= %(at)s + %(within)s
  ORDER BY at, event LIMIT %(most)s
) ORDER BY at, event
"""  # noqa: S608  # the same
_FORGET: Final = """
DELETE FROM farthing.memory_sightings WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.memory_sightings WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
"""
_PRUNING: Final = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.sightings.prune', 0))"
_OLD: Final = """
DELETE FROM farthing.memory_sightings WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.memory_sightings WHERE at < %(before)s LIMIT %(rows)s
))
"""
_SURPLUS: Final = """
DELETE FROM farthing.memory_sightings WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.memory_sightings ORDER BY at DESC OFFSET %(keep)s LIMIT %(rows)s
))
"""


class PostgresSightings:
    """`ports.SightingStore` on `farthing.memory_sightings`."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def see(self, sighting: Sighting, *, within_s: float, most: int) -> list[Sighting]:
        """See `ports.SightingStore.see`."""
        if sighting.arrived <= self._clock() - KEPT_FOR:
            return []  # nobody knows any more whether the user was forgotten since
        values = {
            "tenant": sighting.tenant,
            "user": sighting.user,
            "rule": sighting.rule,
            "alike": sighting.group,
            "event": sighting.event,
            "at": sighting.at,
            "arrived": sighting.arrived,
            "within": timedelta(seconds=within_s),
            "most": most,
        }
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            await connection.execute(_ALONE, (sighting.tenant, sighting.user))
            await connection.execute(_ADD, values)
            rows = await (await connection.execute(_NEAR, values)).fetchall()
        near = [
            Sighting(tenant=tenant, user=user, rule=rule, group=bytes(alike), event=event, at=at, arrived=arrived)
            for tenant, user, rule, alike, event, at, arrived in rows
        ]
        return near if any(one.event == sighting.event for one in near) else []

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.SightingStore.forget`."""
        if user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        async with self._database.service() as connection:
            await erase(connection, tenant, "sightings", user_id, self._clock())
        return await self._database.repeat(_FORGET, {"tenant": tenant, "user": user_id})

    async def prune(self, before: datetime, *, max_rows: int) -> int:
        """See `ports.SightingStore.prune`. Returns 0 when another worker is at it."""
        old = await self._database.repeat(_OLD, {"before": before}, alone=_PRUNING)
        return old + await self._database.repeat(_SURPLUS, {"keep": max_rows}, alone=_PRUNING)
