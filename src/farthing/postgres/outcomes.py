"""Outcomes in PostgreSQL: how good the answers of models were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from psycopg.rows import TupleRow

from farthing.postgres.erasures import UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import Outcome, supersedes, time_of, utc_now

_COLUMNS = "request_id, tenant, user_id, router, model, score, by, vector, embedder, features, explored, at"
_PEOPLE = "('thumb', 'correction')"

# The features of each come as the text of an array: arrays of arrays cannot be of different lengths.
_ADD = f"""
INSERT INTO farthing.outcomes AS o ({_COLUMNS})
SELECT g.request_id, g.tenant, g.user_id, g.router, g.model, g.score, g.by, g.vector, g.embedder, g.features::float8[], g.explored, g.at
FROM unnest(
  %(requests)s::uuid[], %(tenants)s::text[], %(users)s::text[], %(routers)s::text[], %(models)s::text[], %(scores)s::float8[],
  %(bys)s::text[], %(vectors)s::bytea[], %(embedders)s::text[], %(features)s::text[], %(explored)s::boolean[],
  %(ats)s::timestamptz[], %(arrivals)s::timestamptz[]
) AS g(request_id, tenant, user_id, router, model, score, by, vector, embedder, features, explored, at, arrived)
WHERE NOT {covered("outcomes", "g", "g.arrived")}
ON CONFLICT (tenant, request_id, model) DO UPDATE SET
  user_id = excluded.user_id, router = excluded.router, score = excluded.score, by = excluded.by, vector = excluded.vector,
  embedder = excluded.embedder, features = excluded.features, explored = excluded.explored,
  at = excluded.at
WHERE excluded.by IN {_PEOPLE} OR (o.by NOT IN {_PEOPLE} AND (excluded.score IS NOT NULL OR o.score IS NULL))
"""  # noqa: S608  # all parts are ours
_OF = f"SELECT {_COLUMNS} FROM farthing.outcomes WHERE tenant = %s AND request_id = %s ORDER BY model"  # noqa: S608  # the same
_LATEST = f"""
SELECT {_COLUMNS} FROM farthing.outcomes
WHERE score IS NOT NULL AND (%(router)s::text IS NULL OR router = %(router)s) AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
  AND (%(request)s::uuid IS NULL OR (request_id, model) < (%(request)s, %(model)s::text))
ORDER BY request_id DESC, model DESC LIMIT %(limit)s
"""  # noqa: S608  # the same
_FORGET = """
DELETE FROM farthing.outcomes WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.outcomes WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.outcomes.prune', 0))"
_PRUNE = """
DELETE FROM farthing.outcomes WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.outcomes WHERE (score IS NULL) = %(unsaid)s
  ORDER BY request_id DESC, model DESC OFFSET %(keep)s LIMIT %(rows)s
))
"""


class PostgresOutcomes:
    """`ports.OutcomeStore` on `farthing.outcomes`. Row-level security checks the tenant of what is read for one once more."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def add(self, outcomes: Sequence[Outcome]) -> None:
        """See `ports.OutcomeStore.add`."""
        rows = _each_once(outcomes)
        if not rows:
            return
        values = {
            "requests": [one.request_id for one in rows],
            "tenants": [one.tenant for one in rows],
            "users": [one.user_id for one in rows],
            "routers": [one.router for one in rows],
            "models": [one.model for one in rows],
            "scores": [one.score for one in rows],
            "bys": [one.by for one in rows],
            "vectors": [one.vector for one in rows],
            "embedders": [one.embedder for one in rows],
            "features": ["{" + ",".join([repr(float(value)) for value in one.features]) + "}" for one in rows],
            "explored": [one.explored for one in rows],
            "ats": [one.at for one in rows],
            "arrivals": [time_of(one.request_id) for one in rows],
        }
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            await connection.execute(_ADD, values)

    async def of(self, tenant: str, request_id: UUID) -> list[Outcome]:
        """See `ports.OutcomeStore.of`."""
        async with self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(_OF, (tenant, request_id), binary=True)).fetchall()
        return [_outcome(row) for row in rows]

    async def latest(self, *, router: str | None, tenant: str | None, limit: int, before: tuple[UUID, str] | None = None) -> list[Outcome]:
        """See `ports.OutcomeStore.latest`."""
        request, model = before or (None, None)
        values = {"router": router, "tenant": tenant, "limit": limit, "request": request, "model": model}
        async with self._database.service() if tenant is None else self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(_LATEST, values, binary=True)).fetchall()
        return [_outcome(row) for row in rows]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.OutcomeStore.forget`."""
        if user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        async with self._database.service() as connection:
            await erase(connection, tenant, "outcomes", user_id, self._clock())
        return await self._database.repeat(_FORGET, {"tenant": tenant, "user": user_id})

    async def prune(self, max_rows: int) -> int:
        """See `ports.OutcomeStore.prune`. Returns 0 when another worker is at it."""
        return sum([await self._database.repeat(_PRUNE, {"keep": max_rows, "unsaid": unsaid}, alone=_PRUNING) for unsaid in (False, True)])


def _each_once(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """What counts of outcomes of the same request and model; in one order everywhere, or two writers may wait for each other."""
    counting: dict[tuple[str, UUID, str], Outcome] = {}
    for one in outcomes:
        place = (one.tenant, one.request_id, one.model)
        if place not in counting or supersedes(one, counting[place]):
            counting[place] = one
    return [counting[place] for place in sorted(counting)]


def _outcome(row: TupleRow) -> Outcome:
    facts = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return Outcome(**{**facts, "vector": bytes(facts["vector"]), "features": tuple(facts["features"])})
