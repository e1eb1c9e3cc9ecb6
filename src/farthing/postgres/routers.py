"""Trained routers in PostgreSQL: their versions, and which of them decides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from psycopg.types.json import Jsonb

from farthing.errors import InvalidRequest, NotFound
from farthing.ports import MOST_ARTEFACT_BYTES
from farthing.postgres.pool import Database
from farthing.types import Json, Promotion, RouterVersion, utc_now

_PROTECTED = 5
"""So many of the latest promotions keep their versions, so that roll-backs find them."""

# One router's versions and promotions change one after another.
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('farthing.routers ' || %s, 0))"
_ADD = """
INSERT INTO farthing.routers (router, version, artefact, metrics, created_at, created_by)
SELECT %(router)s, coalesce(max(version), 0) + 1, %(artefact)s, %(metrics)s, %(at)s, %(by)s FROM farthing.routers WHERE router = %(router)s
RETURNING version
"""
_PRUNE = """
DELETE FROM farthing.routers WHERE router = %(router)s AND version IN (
  SELECT version FROM farthing.routers WHERE router = %(router)s ORDER BY version DESC OFFSET %(keep)s
) AND NOT version = ANY (ARRAY(
  SELECT version FROM farthing.router_promotions WHERE router = %(router)s AND version IS NOT NULL ORDER BY id DESC LIMIT %(protected)s
))
"""
_PROMOTED = """
SELECT DISTINCT ON (router) router, version, at FROM farthing.router_promotions ORDER BY router, id DESC
"""
_VERSIONS = f"""
SELECT r.router, r.version, r.metrics, r.created_at, r.created_by, p.at
FROM farthing.routers r LEFT JOIN ({_PROMOTED}) p USING (router, version)
WHERE %(router)s::text IS NULL OR router = %(router)s ORDER BY router, version DESC
"""  # noqa: S608  # all parts are ours
_DECIDES = """
SELECT r.version, r.artefact, r.metrics, r.created_at, r.created_by, p.at
FROM (SELECT version, at FROM farthing.router_promotions WHERE router = %(router)s ORDER BY id DESC LIMIT 1) p
JOIN farthing.routers r ON r.router = %(router)s AND r.version = p.version
"""
_ONE = "SELECT metrics, created_at, created_by FROM farthing.routers WHERE router = %s AND version = %s"
_KNOWN = "SELECT EXISTS (SELECT FROM farthing.routers WHERE router = %s)"
_PROMOTE = "INSERT INTO farthing.router_promotions (router, version, at, by) VALUES (%s, %s, %s, %s)"
_FORGET_PROMOTIONS = """
DELETE FROM farthing.router_promotions WHERE router = %(router)s AND id IN (
  SELECT id FROM farthing.router_promotions WHERE router = %(router)s ORDER BY id DESC OFFSET %(keep)s
)
"""
_PROMOTIONS = "SELECT version, at, by FROM farthing.router_promotions WHERE router = %s ORDER BY id DESC LIMIT %s"
_NOTIFY = "SELECT pg_notify('farthing_routers', %s)"


class PostgresRouters:
    """`ports.RouterStore` on `farthing.routers` and `farthing.router_promotions`."""

    def __init__(
        self, database: Database, *, max_versions: int = 20, max_promotions: int = 100, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._max_versions = max_versions
        self._max_promotions = max_promotions
        self._clock = clock

    async def add(self, router: str, artefact: bytes, metrics: Json, by: str) -> RouterVersion:
        """See `ports.RouterStore.add`."""
        if len(artefact) > MOST_ARTEFACT_BYTES:
            raise InvalidRequest(f"a trained router may have {MOST_ARTEFACT_BYTES} bytes, this one has {len(artefact)}", param="artefact")
        at = self._clock()
        values = {"router": router, "artefact": artefact, "metrics": Jsonb(metrics), "at": at, "by": by}
        async with self._database.service() as connection:
            await connection.execute(_ALONE, (router,))
            row = await (await connection.execute(_ADD, values)).fetchone()
            assert row is not None
            await connection.execute(_PRUNE, {"router": router, "keep": self._max_versions, "protected": _PROTECTED})
        return RouterVersion(router=router, version=row[0], metrics=metrics, created_at=at, created_by=by)

    async def versions(self, router: str | None = None) -> list[RouterVersion]:
        """See `ports.RouterStore.versions`."""
        async with self._database.service() as connection:
            rows = await (await connection.execute(_VERSIONS.encode(), {"router": router})).fetchall()
        return [
            RouterVersion(router=name, version=version, metrics=metrics, created_at=made, created_by=by, promoted_at=promoted)
            for name, version, metrics, made, by, promoted in rows
        ]

    async def promoted(self, router: str) -> RouterVersion | None:
        """See `ports.RouterStore.promoted`."""
        async with self._database.service() as connection:
            row = await (await connection.execute(_DECIDES, {"router": router}, binary=True)).fetchone()
        if row is None:
            return None
        version, artefact, metrics, made, by, at = row
        return RouterVersion(
            router=router, version=version, artefact=bytes(artefact), metrics=metrics, created_at=made, created_by=by, promoted_at=at
        )

    async def promote(self, router: str, version: int | None, by: str) -> RouterVersion | None:
        """See `ports.RouterStore.promote`."""
        at = self._clock()
        async with self._database.service() as connection:
            await connection.execute(_ALONE, (router,))
            if version is None:
                row = None
                known = await (await connection.execute(_KNOWN, (router,))).fetchone()
                if known != (True,):
                    raise NotFound(f"there is no trained router {router[:128]!r}", param="router")
            else:
                row = await (await connection.execute(_ONE, (router, version))).fetchone()
                if row is None:
                    raise NotFound(f"the router {router[:128]!r} has no version {version}", param="version")
            await connection.execute(_PROMOTE, (router, version, at, by))
            await connection.execute(_FORGET_PROMOTIONS, {"router": router, "keep": self._max_promotions})
            await connection.execute(_NOTIFY, (router,))
        if row is None or version is None:
            return None
        metrics, made, made_by = row
        return RouterVersion(router=router, version=version, metrics=metrics, created_at=made, created_by=made_by, promoted_at=at)

    async def promotions(self, router: str, limit: int) -> list[Promotion]:
        """See `ports.RouterStore.promotions`."""
        async with self._database.service() as connection:
            rows = await (await connection.execute(_PROMOTIONS, (router, limit))).fetchall()
        return [Promotion(router=router, version=version, at=at, by=by) for version, at, by in rows]
