"""Facts of users in PostgreSQL: the history in rows, and what holds now in one row of each user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from psycopg import sql
from psycopg.rows import TupleRow

from farthing.facts import Most, checked, checked_user, holds, is_open, learn, packed, retracted, unpacked
from farthing.postgres.connection import Connection
from farthing.postgres.erasures import KEPT_FOR, UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import Fact, NewFact, Profile, utc_now

_MOST_KNOWN: Final = 1000
"""Rows of history that new facts are compared with, the newest."""
_COLUMNS = """tenant, user_id, id, key, value, multi, confidence, sources, by, valid_from, valid_to, known_from, known_to, confirmed_at,
  expires_at, ended_by"""
_SHOWN = _COLUMNS.replace("value", "value::text")
_HOT = sql.SQL("SELECT version, facts::text FROM farthing.profiles WHERE tenant = {} AND user_id = {}")
_PROFILE = "SELECT version, facts::text FROM farthing.profiles WHERE tenant = %s AND user_id = %s"
_COVERED = f"SELECT {covered('facts', 'g', '%(arrived)s')} FROM (SELECT %(tenant)s::text AS tenant, %(user)s::text AS user_id) g"  # noqa: S608  # all parts are ours
# Locked whether it was there or not; one that is being deleted meanwhile is made anew.
_MAKE = """
INSERT INTO farthing.profiles AS p (tenant, user_id, version, facts) VALUES (%s, %s, 0, '[]')
ON CONFLICT (tenant, user_id) DO UPDATE SET version = p.version RETURNING version, facts::text
"""
_LOCK = f"{_PROFILE} FOR UPDATE"
_KNOWN = f"""
SELECT {_SHOWN} FROM farthing.facts
WHERE tenant = %s AND user_id = %s AND key = ANY (%s) AND (valid_to IS NOT NULL OR known_to IS NOT NULL)
ORDER BY known_from DESC LIMIT {_MOST_KNOWN}
"""  # noqa: S608  # the same
_ONE = f"SELECT {_SHOWN} FROM farthing.facts WHERE tenant = %s AND user_id = %s AND id = %s"  # noqa: S608  # the same
_HISTORY = f"""
SELECT {_SHOWN} FROM farthing.facts
WHERE tenant = %(tenant)s AND user_id = %(user)s AND (%(key)s::text IS NULL OR key = %(key)s)
ORDER BY known_from DESC, valid_from DESC, id DESC LIMIT %(limit)s
"""  # noqa: S608  # the same
_STORE = f"""
INSERT INTO farthing.facts ({_COLUMNS}) VALUES (
  %(tenant)s, %(user)s, %(id)s, %(key)s, %(value)s::jsonb, %(multi)s, %(confidence)s, %(sources)s::text[], %(by)s, %(valid_from)s,
  %(valid_to)s, %(known_from)s, %(known_to)s, %(confirmed_at)s, %(expires_at)s, %(ended_by)s
)
ON CONFLICT (tenant, user_id, id) DO UPDATE SET
  confidence = excluded.confidence, sources = excluded.sources, valid_to = excluded.valid_to, known_to = excluded.known_to,
  confirmed_at = excluded.confirmed_at, expires_at = excluded.expires_at, ended_by = excluded.ended_by
"""  # noqa: S608  # the same
_TURN = "UPDATE farthing.profiles SET version = %s, facts = %s::jsonb WHERE tenant = %s AND user_id = %s"
_NOTIFY = "SELECT pg_notify('farthing_facts', %s)"
_FORGOTTEN = """
SELECT user_id FROM farthing.profiles WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s)
ORDER BY user_id LIMIT %(rows)s FOR UPDATE
"""
_FORGET = "DELETE FROM farthing.facts WHERE tenant = %s AND user_id = ANY (%s)"
_FORGET_PROFILES = "DELETE FROM farthing.profiles WHERE tenant = %s AND user_id = ANY (%s)"
_USERS = 100
"""Forgotten in one transaction, so that nothing holds locks for long."""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.facts.prune', 0))"
# Who learns locks the profile first, then the rows: so does this.
_PRUNE_EXPIRED = """
WITH old AS MATERIALIZED (
  SELECT tenant, user_id, id FROM farthing.facts WHERE expires_at <= %(now)s ORDER BY expires_at LIMIT %(rows)s
), shorter AS (
  UPDATE farthing.profiles p SET version = p.version + 1, facts = (
    SELECT coalesce(jsonb_agg(f ORDER BY n), '[]') FROM jsonb_array_elements(p.facts) WITH ORDINALITY AS t(f, n)
    WHERE coalesce((f ->> 'expires_at')::timestamptz > %(now)s, true)
  ) WHERE (tenant, user_id) IN (SELECT tenant, user_id FROM old) RETURNING tenant, user_id
)
DELETE FROM farthing.facts WHERE (tenant, user_id, id) IN (SELECT tenant, user_id, id FROM old) AND expires_at <= %(now)s
  AND (SELECT count(*) FROM shorter) >= 0
"""
_PRUNE_OLDEST = """
DELETE FROM farthing.facts WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.facts WHERE valid_to IS NOT NULL OR known_to IS NOT NULL ORDER BY known_from DESC OFFSET %(keep)s LIMIT %(rows)s
))
"""
_encode = msgspec.json.Encoder().encode


class PostgresFacts:
    """`ports.FactStore` on `farthing.facts` and `farthing.profiles`. Changes are told on the channel `facts`."""

    def __init__(self, database: Database, *, most: Most | None = None, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._most = most or Most()
        self._clock = clock

    async def profile(self, tenant: str, user: str) -> Profile | None:
        """See `ports.FactStore.profile`. Row-level security checks the tenant once more."""
        rows = await self._database.look(tenant, _HOT.format(sql.Literal(tenant), sql.Literal(user)))
        return self._shown(tenant, user, rows[0][0], unpacked(tenant, user, rows[0][1])) if rows else None

    def _shown(self, tenant: str, user: str, version: int, facts: Sequence[Fact]) -> Profile:
        now = self._clock()
        return Profile(tenant=tenant, user=user, facts=tuple([one for one in facts if holds(one, now)]), version=version)

    async def learn(self, tenant: str, user: str, facts: Sequence[NewFact], *, arrived: datetime) -> Profile:
        """See `ports.FactStore.learn`."""
        now = self._clock()
        new = checked(facts, now)
        values = {"tenant": tenant, "user": checked_user(user), "arrived": arrived}
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            erased = await (await connection.execute(_COVERED, values)).fetchone()
            if erased == (True,) or arrived <= now - KEPT_FOR or not new:
                row = await (await connection.execute(_PROFILE, (tenant, user))).fetchone()
                return self._shown(tenant, user, *((row[0], unpacked(tenant, user, row[1])) if row else (0, ())))
            version, held = await _locked(connection, tenant, user, make=True)
            keys = list({one.key for one in new})
            known = await (await connection.execute(_KNOWN, (tenant, user, keys))).fetchall()
            learnt = learn(tenant, user, [*held, *map(_fact, known)], new, now=now, most=self._most)
            if learnt.changed:
                version = await _turned(connection, tenant, user, version, learnt.facts, learnt.changed, now)
        return self._shown(tenant, user, version, learnt.facts)

    async def retract(self, tenant: str, user: str, fact: UUID, *, by: str) -> bool:
        """See `ports.FactStore.retract`."""
        now = self._clock()
        async with self._database.service() as connection:
            version, held = await _locked(connection, tenant, user, make=False)
            row = await (await connection.execute(_ONE, (tenant, user, fact))).fetchone()
            found = _fact(row) if row else None
            if found is None or found.known_to is not None:
                return False
            rest = [one for one in held if one.id != fact]
            await _turned(connection, tenant, user, version, rest, [retracted(found, by=by, now=now)], now)
        return True

    async def history(self, tenant: str, user: str, *, key: str | None, limit: int) -> list[Fact]:
        """See `ports.FactStore.history`."""
        values = {"tenant": tenant, "user": user, "key": key, "limit": limit}
        async with self._database.tenant(tenant) as connection:
            return [_fact(row) for row in await (await connection.execute(_HISTORY, values)).fetchall()]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.FactStore.forget`."""
        if user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        async with self._database.service() as connection:
            await erase(connection, tenant, "facts", user_id, self._clock())
        values = {"tenant": tenant, "user": user_id, "rows": _USERS}
        done, users = 0, [""]
        while users:
            async with self._database.service() as connection:
                users = [user for (user,) in await (await connection.execute(_FORGOTTEN, values)).fetchall()]
                done += (await connection.execute(_FORGET, (tenant, users))).rowcount
                await connection.execute(_FORGET_PROFILES, (tenant, users))
                await connection.cursor().executemany(_NOTIFY, [(_notice(tenant, user),) for user in users])
        return done

    async def prune(self, *, max_history: int) -> int:
        """See `ports.FactStore.prune`. Returns 0 when another worker is at it."""
        values = {"now": self._clock(), "keep": max_history}
        return sum([await self._database.repeat(one, values, alone=_PRUNING) for one in (_PRUNE_EXPIRED, _PRUNE_OLDEST)])


async def _locked(connection: Connection, tenant: str, user: str, *, make: bool) -> tuple[int, tuple[Fact, ...]]:
    """Version and facts of a profile, which nobody else changes until the transaction ends."""
    row = await (await connection.execute(_MAKE if make else _LOCK, (tenant, user))).fetchone()
    return (0, ()) if row is None else (row[0], unpacked(tenant, user, row[1]))


async def _turned(
    connection: Connection, tenant: str, user: str, version: int, facts: Sequence[Fact], changed: Sequence[Fact], now: datetime
) -> int:
    """Write what has changed and tell. Returns the new version: never one that there was before the user was forgotten."""
    turned = max(version + 1, int(now.timestamp() * 1000))
    await connection.cursor().executemany(_STORE, [_values(one) for one in changed])
    await connection.execute(_TURN, (turned, packed([one for one in facts if is_open(one)]).decode(), tenant, user))
    await connection.execute(_NOTIFY, (_notice(tenant, user),))
    return turned


def _notice(tenant: str, user: str) -> str:
    return _encode({"tenant": tenant, "user": user}).decode()


def _values(fact: Fact) -> dict[str, object]:
    return {**msgspec.structs.asdict(fact), "value": _encode(fact.value).decode(), "sources": list(fact.sources)}


def _fact(row: TupleRow) -> Fact:
    facts = dict(zip([name.strip() for name in _COLUMNS.split(",")], row, strict=True))
    value, user = msgspec.json.decode(facts["value"]), facts.pop("user_id")
    return Fact(**{**facts, "user": user, "value": value, "sources": tuple(facts["sources"])})
