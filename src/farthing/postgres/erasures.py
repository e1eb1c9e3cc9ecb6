"""Erasures: what was deleted on request, and when, so that what arrived before and is still on its way is not stored afterwards.

Who stores first takes `UNTIL_WRITTEN`, then leaves out what an erasure covers (`COVERED`); who erases first calls `erase`, then deletes.
Whoever stores has therefore either committed before the erasure, and is deleted, or sees it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from farthing.postgres.connection import Connection
from farthing.types import CacheScope

Erased = Literal[
    "transcripts",
    "responses",
    "answers",
    "questions",
    "cache_hits",
    "outcomes",
    "events",
    "facts",
    "sightings",
    "turns",
    "feedback",
    "edge_answers",
    "foreseen",
]

KEPT_FOR: Final = timedelta(days=7)
"""Erasures are remembered for so long: nothing may be stored that arrived earlier than that."""

_LOCK = "hashtextextended('farthing.erasures', 0)"
UNTIL_WRITTEN = f"SELECT pg_advisory_xact_lock_shared({_LOCK})"
"""In a statement of its own: the next one then sees every erasure that is committed."""
ALONE = f"SELECT pg_advisory_xact_lock({_LOCK})"
_IMPATIENT = "SET LOCAL lock_timeout TO '2s'"

_ERASE = """
INSERT INTO farthing.erasures AS e (tenant, what, user_id, namespace, tag, answer_key, at)
VALUES (
  %(tenant)s, %(what)s, coalesce(%(user)s, ''), %(namespace)s, %(tag)s, %(answer_key)s, coalesce(%(at)s::timestamptz, clock_timestamp())
)
ON CONFLICT ON CONSTRAINT erasures_what DO UPDATE SET at = greatest(e.at, excluded.at)
"""
_NOTIFY = "SELECT pg_notify('farthing_retention', '')"
_TOLD: Final = frozenset({"transcripts", "responses", "answers"})
"""The others tell by themselves what went, where anybody holds copies."""
FORGET_ERASURES = "DELETE FROM farthing.erasures WHERE at < %(now)s - %(kept_for)s"


def covered(what: Erased, row: str, arrived: str, *, by_user: bool = True, answer_key: str | None = None) -> str:
    """The SQL condition that an erasure covers a row (an alias with `tenant` and, if `by_user`, `user_id`) that arrived at a time.

    `answer_key`: the rows are of a cache, with `namespace`, `tags` and this column.
    """
    conditions = [
        f"e.tenant = {row}.tenant AND e.what = '{what}' AND e.at >= {arrived}",
        f"e.user_id IN ('', coalesce({row}.user_id, ''))" if by_user else "e.user_id = ''",
    ]
    if answer_key is not None:
        conditions += [
            f"(e.namespace IS NULL OR e.namespace = {row}.namespace)",
            f"(e.tag IS NULL OR e.tag = ANY ({row}.tags))",
            f"(e.answer_key IS NULL OR e.answer_key = {row}.{answer_key})",
        ]
    return f"EXISTS (SELECT FROM farthing.erasures e WHERE {' AND '.join(conditions)})"


async def erase(
    connection: Connection, tenant: str, what: Erased, user: str | None, at: datetime | None = None, scope: CacheScope | None = None
) -> None:
    """Note an erasure, of one user or (None) of the whole tenant; with a `scope`, of that part of a cache and of the scope's user.

    `at`: the database's own time unless it is given.

    The transaction must end soon: writers wait for it. A writer that froze in its own may be in the way: then this raises
    `LockNotAvailable` soon, so that the others need not wait, until the server has ended that writer's transaction.
    """
    part = scope or CacheScope(user_id=user)
    await connection.execute(_IMPATIENT)
    await connection.execute(ALONE)
    values = {"namespace": part.namespace, "tag": part.tag, "answer_key": part.answer_key, "user": part.user_id}
    await connection.execute(_ERASE, {"tenant": tenant, "what": what, "at": at, **values})
    if what in _TOLD:
        await connection.execute(_NOTIFY)
