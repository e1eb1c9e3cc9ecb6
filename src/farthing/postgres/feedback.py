"""Feedback in PostgreSQL: what people say of answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from psycopg.rows import TupleRow

from farthing.postgres.erasures import UNTIL_WRITTEN, covered, erase
from farthing.postgres.events_storing import Append, append
from farthing.postgres.pool import Database
from farthing.types import Feedback, feedback_event, time_of, utc_now

_COLUMNS = "id, tenant, request_id, user_id, score, correction, reason, by, digest, at"
_ADD = f"""
INSERT INTO farthing.feedback ({_COLUMNS})
SELECT g.* FROM (VALUES (
  %(id)s::uuid, %(tenant)s::text, %(request_id)s::uuid, %(user)s::text, %(score)s::float8, %(correction)s::text, %(reason)s::text,
  %(by)s::uuid, %(digest)s::bytea, %(at)s::timestamptz
)) AS g({_COLUMNS})
WHERE NOT {covered("feedback", "g", "%(arrived)s::timestamptz")}
ON CONFLICT ON CONSTRAINT feedback_once DO NOTHING
"""  # noqa: S608  # all parts are ours
_OF = f"SELECT {_COLUMNS} FROM farthing.feedback WHERE tenant = %s AND request_id = %s ORDER BY id DESC"  # noqa: S608  # the same
_LATEST = f"""
SELECT {_COLUMNS} FROM farthing.feedback
WHERE (%(tenant)s::text IS NULL OR tenant = %(tenant)s) AND (%(before)s::uuid IS NULL OR id < %(before)s)
  AND (NOT %(corrected)s OR correction IS NOT NULL)
ORDER BY id DESC LIMIT %(limit)s
"""  # noqa: S608  # the same
_FORGET = """
DELETE FROM farthing.feedback WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.feedback WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.feedback.prune', 0))"
_PRUNE = """
DELETE FROM farthing.feedback WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.feedback ORDER BY id DESC OFFSET %(keep)s LIMIT %(rows)s
))
"""


class PostgresFeedback:
    """`ports.FeedbackStore` on `farthing.feedback`. What is stored is told (`append`) in the same transaction."""

    def __init__(self, database: Database, *, append: Append | None = append, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._append = append
        self._clock = clock

    async def add(self, feedback: Feedback) -> bool:
        """See `ports.FeedbackStore.add`."""
        values = {name: getattr(feedback, name) for name in feedback.__struct_fields__}
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            added = (await connection.execute(_ADD, {**values, "arrived": time_of(feedback.request_id)})).rowcount
            if added and self._append is not None:
                await self._append(connection, [feedback_event(feedback)])
        return bool(added)

    async def of(self, tenant: str, request_id: UUID) -> list[Feedback]:
        """See `ports.FeedbackStore.of`."""
        async with self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(_OF, (tenant, request_id))).fetchall()
        return [_feedback(row) for row in rows]

    async def latest(self, *, tenant: str | None, limit: int, before: UUID | None = None, corrected: bool = False) -> list[Feedback]:
        """See `ports.FeedbackStore.latest`."""
        values = {"tenant": tenant, "limit": limit, "before": before, "corrected": corrected}
        async with self._database.service() if tenant is None else self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(_LATEST, values)).fetchall()
        return [_feedback(row) for row in rows]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.FeedbackStore.forget`."""
        if user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        async with self._database.service() as connection:
            await erase(connection, tenant, "feedback", user_id, self._clock())
        return await self._database.repeat(_FORGET, {"tenant": tenant, "user": user_id})

    async def prune(self, max_rows: int) -> int:
        """See `ports.FeedbackStore.prune`. Returns 0 when another worker is at it."""
        return await self._database.repeat(_PRUNE, {"keep": max_rows}, alone=_PRUNING)


def _feedback(row: TupleRow) -> Feedback:
    found, tenant, request_id, user, score, correction, reason, by, digest, at = row
    return Feedback(
        id=found,
        tenant=tenant,
        request_id=request_id,
        user=user,
        score=score,
        correction=correction,
        reason=reason,
        by=by,
        digest=bytes(digest),
        at=at,
    )
