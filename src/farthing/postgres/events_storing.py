"""How events are stored: their rows, their deliveries and the versions of what they touch, all in one transaction.

Publishers of a tenant take turns (an advisory lock until the transaction ends), so that the order of positions is the order in which
events can be seen. Names known from before, and events that an erasure covers, are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final
from zlib import crc32

from farthing.events.payload import encoded
from farthing.postgres.connection import Connection
from farthing.postgres.erasures import UNTIL_WRITTEN, covered
from farthing.postgres.states import bump
from farthing.types import Event

_TURNS: Final = 256
"""Tenants share these locks: a transaction that stores events of many tenants holds no more."""

_TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('farthing.events'), turn) FROM unnest(%s::integer[]) AS turn"
_WAIT = f"{UNTIL_WRITTEN} UNION ALL {_TAKE_TURNS}"
"""In a statement of its own: the next one sees what those who were waited for have stored, and every erasure."""
LANE = """CASE WHEN s.per = 'user' THEN e.user_id ELSE coalesce(e.subject, e.user_id, e.source) END COLLATE "C\""""
"""See `types.Event.lane`. The collation is that of the tables: all lock lanes in one order."""
_WANTED = """
EXISTS (
  SELECT FROM unnest(s.types) AS wanted
  WHERE wanted IN ('*', e.type) OR (right(wanted, 2) = '.*' AND starts_with(e.type, left(wanted, -1)))
)
"""
# Rows of lanes that are there are locked and not changed: whoever finishes the last delivery of a lane deletes it, and may not do so now.
DELIVER = """
delivered AS (
  INSERT INTO farthing.event_deliveries (handler, tenant, lane, position, due_at)
  SELECT handler, tenant, lane, position, due_at FROM due
  ON CONFLICT DO NOTHING
), lanes AS (
  INSERT INTO farthing.event_lanes AS l (handler, tenant, lane, ready_at)
  SELECT handler, tenant, lane, min(due_at) FROM due GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
  ON CONFLICT (handler, tenant, lane) DO UPDATE SET ready_at = l.ready_at WHERE false
), told AS (
  SELECT pg_notify('farthing_events', names) FROM (SELECT string_agg(DISTINCT handler, ',') AS names FROM due) AS n WHERE names IS NOT NULL
)
"""
"""What is `due` (handler, tenant, lane, position, due_at) is delivered. Select from `told`, or nobody is told."""

# Names are looked up one by one: a join might be planned while there are few of them, and read them all when there are many.
_STORE = f"""
WITH given AS MATERIALIZED (
  SELECT g.*
  FROM unnest(
    %(tenants)s::text[], %(names)s::bytea[], %(sources)s::text[], %(ids)s::text[], %(types)s::text[], %(subjects)s::text[],
    %(users)s::text[], %(times)s::timestamptz[], %(data)s::text[], %(extensions)s::text[], %(touches)s::text[],
    %(arrivals)s::timestamptz[]
  ) WITH ORDINALITY AS g(tenant, name, source, id, type, subject, user_id, time, data, extensions, touches, received_at, place)
  WHERE (SELECT true FROM farthing.event_names n WHERE n.tenant = g.tenant AND n.name = g.name) IS NULL
    AND NOT {covered("events", "g", "g.received_at")}
), stored AS (
  INSERT INTO farthing.events (
    tenant, name, source, id, type, subject, user_id, time, data, extensions, touches, received_at
  )
  SELECT tenant, name, source, id, type, subject, user_id, time, data::json, extensions::json, touches::text[], received_at
  FROM given ORDER BY place
  ON CONFLICT (tenant, name) DO NOTHING
  RETURNING position, tenant, name, source, type, subject, user_id
), due AS (
  SELECT s.handler, e.tenant, {LANE} AS lane, e.position,
    coalesce(%(now)s::timestamptz, clock_timestamp()) + make_interval(secs => s.linger_s) AS due_at
  FROM stored e JOIN farthing.event_subscriptions s ON {_WANTED}
  WHERE {LANE} IS NOT NULL
), {DELIVER}
SELECT tenant, name, (SELECT count(*) FROM told) FROM stored
"""  # noqa: S608  # all parts are ours


Append = Callable[[Connection, Sequence[Event]], Awaitable[object]]
"""Stores events in the transaction of a connection; see `append`."""


async def append(connection: Connection, events: Sequence[Event], *, now: Any = None) -> list[bool]:
    """Store events in a transaction of the service role: a change and what is to be heard of it, both or neither. False: it was there.

    Last in the transaction, and once: until it ends, other publishers of the same tenants wait. `now` is the database's unless given.
    Raises `InvalidRequest` for data that are no JSON, psycopg's errors, and never `Overloaded`.
    """
    if not events:
        return []
    names = [_name(event) for event in events]
    await connection.execute(_WAIT, (_turns({event.tenant for event in events}),))
    rows = await (await connection.execute(_STORE, {**_columns(events), "names": names, "now": now})).fetchall()
    left = {(tenant, bytes(name)) for tenant, name, _ in rows}
    new = []
    for event, name in zip(events, names, strict=True):
        new.append((event.tenant, name) in left)
        left.discard((event.tenant, name))
    await _touch(connection, [event for event, is_new in zip(events, new, strict=True) if is_new])
    return new


async def take_turns(connection: Connection, tenants: Collection[str]) -> None:
    """Wait until nobody else stores events of these tenants, and keep others waiting until the transaction ends."""
    await connection.execute(_TAKE_TURNS, (_turns(tenants),))


def _turns(tenants: Collection[str]) -> list[int]:
    """Their locks; in one order everywhere, or two may wait for each other."""
    return sorted({crc32(tenant.encode()) % _TURNS for tenant in tenants})


async def _touch(connection: Connection, events: Sequence[Event]) -> None:
    touched: dict[str, set[str]] = {}
    for event in events:
        if event.touches:
            touched.setdefault(event.tenant, set()).update(event.touches)
    for tenant in sorted(touched):
        await bump(connection, tenant, sorted(touched[tenant]))


def _name(event: Event) -> bytes:
    """By what an event is known within its tenant: 128 bits of source and id."""
    source = event.source.encode()
    return hashlib.blake2b(b"%d:%b%b" % (len(source), source, event.id.encode()), digest_size=16).digest()


def _columns(events: Sequence[Event]) -> dict[str, list[Any]]:
    return {
        "tenants": [one.tenant for one in events],
        "sources": [one.source for one in events],
        "ids": [one.id for one in events],
        "types": [one.type for one in events],
        "subjects": [one.subject for one in events],
        "users": [one.user for one in events],
        "times": [one.time for one in events],
        "data": [None if one.data is None else encoded(one, one.data) for one in events],
        "extensions": [encoded(one, one.extensions) for one in events],
        "touches": [_array(one.touches) for one in events],
        "arrivals": [one.received_at for one in events],
    }


def _array(texts: Sequence[str]) -> str:
    """The text of an array: arrays of arrays cannot be of different lengths."""
    quoted = ('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts)
    return "{" + ",".join(quoted) + "}"
