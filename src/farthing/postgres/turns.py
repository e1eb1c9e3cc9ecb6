"""Turns of conversations in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from uuid import UUID

from psycopg.rows import TupleRow

from farthing.ports import MOST_TURN_BYTES
from farthing.postgres.erasures import UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import Turn, utc_now

_COLUMNS = "id, tenant, user_id, conversation, number, role, payload, vector, embedder, at"
_NOBODY = ""

# One writer of a conversation at a time: each sees the numbers that the one before it gave.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 7202))"
_ADD = f"""
INSERT INTO farthing.turns AS t ({_COLUMNS})
SELECT g.id, %(tenant)s, %(user)s, %(conversation)s,
  (SELECT coalesce(max(number), 0) FROM farthing.turns WHERE tenant = %(tenant)s AND user_id = %(user)s AND conversation = %(conversation)s)
    + row_number() OVER (ORDER BY g.place),
  g.role, g.payload, g.vector, g.embedder, g.at
FROM (
  SELECT u.*, %(tenant)s::text AS tenant, %(user)s::text AS user_id
  FROM unnest(%(ids)s::uuid[], %(roles)s::text[], %(payloads)s::bytea[], %(vectors)s::bytea[], %(embedders)s::text[],
    %(ats)s::timestamptz[]) WITH ORDINALITY AS u(id, role, payload, vector, embedder, at, place)
) AS g
WHERE NOT EXISTS (SELECT FROM farthing.turns t WHERE t.tenant = %(tenant)s AND t.id = g.id) AND NOT {covered("turns", "g", "g.at")}
ON CONFLICT (tenant, id) DO NOTHING
"""  # noqa: S608  # all parts are ours
_LEARN = """
UPDATE farthing.turns AS t SET vector = g.vector, embedder = g.embedder
FROM unnest(%(ids)s::uuid[], %(vectors)s::bytea[], %(embedders)s::text[]) AS g(id, vector, embedder)
WHERE t.tenant = %(tenant)s AND t.user_id = %(user)s AND t.id = g.id AND t.vector IS NULL AND g.vector IS NOT NULL
"""
_OF = f"""
SELECT {_COLUMNS} FROM (
  SELECT t.*, sum(octet_length(payload)) OVER (ORDER BY number DESC) AS held
  FROM (SELECT * FROM farthing.turns WHERE tenant = %s AND user_id = %s AND conversation = %s ORDER BY number DESC LIMIT %s) AS t
) AS t WHERE held <= {MOST_TURN_BYTES} ORDER BY number DESC
"""  # noqa: S608  # the same
_OF_USER = f"""
SELECT {_COLUMNS} FROM (
  SELECT t.*, sum(octet_length(payload)) OVER (ORDER BY at DESC, number DESC, conversation DESC) AS held
  FROM (SELECT * FROM farthing.turns WHERE tenant = %s AND user_id = %s ORDER BY at DESC, number DESC LIMIT %s) AS t
) AS t WHERE held <= {MOST_TURN_BYTES} ORDER BY at DESC, number DESC, conversation DESC
"""  # noqa: S608  # the same
_FORGET = """
DELETE FROM farthing.turns WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.turns WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.turns.prune', 0))"
_PRUNE_OLD = """
DELETE FROM farthing.turns WHERE ctid = ANY (ARRAY(SELECT ctid FROM farthing.turns WHERE at < %(before)s ORDER BY at LIMIT %(rows)s))
"""
_PRUNE_BOUNDS = """
DELETE FROM farthing.turns WHERE ctid = ANY (ARRAY(
  SELECT place FROM (
    SELECT ctid AS place, row_number() OVER (ORDER BY at DESC, number DESC) AS of_all,
      row_number() OVER (PARTITION BY tenant, user_id ORDER BY at DESC, number DESC) AS of_user,
      row_number() OVER (PARTITION BY tenant, user_id, conversation ORDER BY number DESC) AS of_conversation, user_id
    FROM farthing.turns
  ) AS ranked
  WHERE of_conversation > %(per_conversation)s OR (user_id <> '' AND of_user > %(per_user)s) OR of_all > %(max_rows)s LIMIT %(rows)s
))
"""


class PostgresTurns:
    """`ports.TurnStore` on `farthing.turns`. Row-level security checks the tenant of what is read once more."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def add(self, turns: Sequence[Turn]) -> None:
        """See `ports.TurnStore.add`."""
        if not turns:
            return
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            # In one order everywhere, or two writers may wait for each other; sorting keeps the order within a conversation.
            for whose, some in groupby(sorted(turns, key=_whose), key=_whose):
                tenant, user, conversation = whose
                await connection.execute(_LOCK, ("\0".join(whose).replace("\0", "\x1f"),))
                values = {"tenant": tenant, "user": user, "conversation": conversation, **_columns(_each_once(some))}
                await connection.execute(_ADD, values)
                await connection.execute(_LEARN, values)

    async def of(self, tenant: str, user: str | None, conversation: str, *, limit: int) -> list[Turn]:
        """See `ports.TurnStore.of`."""
        async with self._database.tenant(tenant) as connection:
            found = await connection.execute(_OF, (tenant, user or _NOBODY, conversation, limit), binary=True)
            return [_turn(row) for row in reversed(await found.fetchall())]

    async def of_user(self, tenant: str, user: str, *, limit: int) -> list[Turn]:
        """See `ports.TurnStore.of_user`."""
        async with self._database.tenant(tenant) as connection:
            found = await connection.execute(_OF_USER, (tenant, user, limit), binary=True)
            return [_turn(row) for row in reversed(await found.fetchall())]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.TurnStore.forget`."""
        async with self._database.service() as connection:
            await erase(connection, tenant, "turns", user_id, self._clock())
        return await self._database.repeat(_FORGET, {"tenant": tenant, "user": user_id})

    async def prune(self, before: datetime, *, per_conversation: int, per_user: int, max_rows: int) -> int:
        """See `ports.TurnStore.prune`. Returns 0 when another worker is at it."""
        bounds = {"per_conversation": per_conversation, "per_user": per_user, "max_rows": max_rows}
        old = await self._database.repeat(_PRUNE_OLD, {"before": before}, alone=_PRUNING)
        return old + await self._database.repeat(_PRUNE_BOUNDS, bounds, alone=_PRUNING)


def _whose(turn: Turn) -> tuple[str, str, str]:
    return turn.tenant, turn.user or _NOBODY, turn.conversation


def _each_once(turns: Iterable[Turn]) -> list[Turn]:
    """Where an id comes twice, the first counts."""
    found: dict[UUID, Turn] = {}
    for turn in turns:
        found.setdefault(turn.id, turn)
    return list(found.values())


def _columns(turns: Sequence[Turn]) -> dict[str, list[object]]:
    return {
        "ids": [turn.id for turn in turns],
        "roles": [turn.role for turn in turns],
        "payloads": [turn.payload for turn in turns],
        "vectors": [turn.vector for turn in turns],
        "embedders": [turn.embedder for turn in turns],
        "ats": [turn.at for turn in turns],
    }


def _turn(row: TupleRow) -> Turn:
    turn_id, tenant, user, conversation, number, role, payload, vector, embedder, at = row
    return Turn(
        id=turn_id,
        tenant=tenant,
        user=user or None,
        conversation=conversation,
        number=number,
        role=role,
        payload=bytes(payload),
        vector=None if vector is None else bytes(vector),
        embedder=embedder,
        at=at,
    )
