"""The statements by which deliveries are taken, given back and got rid of. See `farthing.postgres.events`."""

from __future__ import annotations

from typing import Final

from farthing.postgres.events_storing import DELIVER, LANE

_NOW: Final = "coalesce(%(now)s::timestamptz, now())"
_COLUMNS: Final = (
    "e.position, e.tenant, e.source, e.id, e.type, e.subject, e.user_id, e.time, e.data::text, e.extensions::text, e.touches, e.received_at"
)
_THIS: Final = "handler = %(handler)s AND tenant = %(tenant)s AND lane = %(lane)s AND token = %(token)s"

SUBSCRIBING = "SELECT pg_advisory_xact_lock(hashtextextended('farthing.event_subscriptions', 0))"
SUBSCRIBE = """
INSERT INTO farthing.event_subscriptions AS s (handler, types, per, most, linger_s)
SELECT g.handler, g.types::text[], g.per, g.most, g.linger_s
FROM unnest(%(handlers)s::text[], %(types)s::text[], %(pers)s::text[], %(mosts)s::integer[], %(lingers)s::float8[])
  AS g(handler, types, per, most, linger_s)
ON CONFLICT (handler) DO UPDATE SET types = excluded.types, per = excluded.per, most = excluded.most, linger_s = excluded.linger_s
WHERE (s.types, s.per, s.most, s.linger_s) IS DISTINCT FROM (excluded.types, excluded.per, excluded.most, excluded.linger_s)
"""
UNSUBSCRIBE = "DELETE FROM farthing.event_subscriptions WHERE handler <> ALL (%(handlers)s)"
CROWDED = """
SELECT s.handler, (SELECT count(*) FROM (SELECT FROM farthing.event_deliveries d WHERE d.handler = s.handler LIMIT %(most)s) AS waiting)
FROM farthing.event_subscriptions s
"""

LEASE = f"""
WITH free AS MATERIALIZED (
  SELECT handler, tenant, lane FROM farthing.event_lanes
  WHERE handler = %(handler)s AND ready_at <= {_NOW} ORDER BY ready_at LIMIT %(lanes)s FOR UPDATE SKIP LOCKED
)
UPDATE farthing.event_lanes l
SET ready_at = {_NOW} + make_interval(secs => %(lease_s)s), token = %(token)s, tried = l.tried + 1
FROM free f WHERE l.handler = f.handler AND l.tenant = f.tenant AND l.lane = f.lane
RETURNING l.tenant, l.lane, l.tried, l.upto, l.ready_at
"""  # noqa: S608  # all parts are ours
# In a statement of its own, so that it sees all that was committed before the lanes were locked.
CONTENT = f"""
SELECT g.place, d.attempts, {_COLUMNS}
FROM unnest(%(tenants)s::text[], %(lanes)s::text[]) WITH ORDINALITY AS g(tenant, lane, place)
CROSS JOIN LATERAL (
  SELECT d.position, d.attempts FROM farthing.event_deliveries d
  WHERE d.handler = %(handler)s AND d.tenant = g.tenant AND d.lane = g.lane
  ORDER BY d.position
  LIMIT coalesce((SELECT s.most FROM farthing.event_subscriptions s WHERE s.handler = %(handler)s), 1)
) AS d
JOIN farthing.events e ON e.position = d.position
ORDER BY g.place, e.position
"""  # noqa: S608
EXTEND = f"""
UPDATE farthing.event_lanes SET ready_at = {_NOW} + make_interval(secs => %(lease_s)s) WHERE {_THIS} RETURNING ready_at
"""  # noqa: S608

_GIVEN: Final = "unnest(%(handlers)s::text[], %(tenants)s::text[], %(lanes)s::text[]) AS g(handler, tenant, lane)"
_SAME: Final = "{a}.handler = {b}.handler AND {a}.tenant = {b}.tenant AND {a}.lane = {b}.lane"
HELD = f"""
SELECT g.place FROM unnest(%(handlers)s::text[], %(tenants)s::text[], %(lanes)s::text[], %(tokens)s::bigint[])
  WITH ORDINALITY AS g(handler, tenant, lane, token, place)
JOIN farthing.event_lanes l ON {_SAME.format(a="l", b="g")} AND l.token = g.token
ORDER BY l.handler, l.tenant, l.lane FOR UPDATE OF l
"""  # noqa: S608
"""Which of the leases are still held. Nobody else changes their lanes then; in one order everywhere, or two may wait for each other."""
HANDLED = """
DELETE FROM farthing.event_deliveries d
USING unnest(%(handlers)s::text[], %(tenants)s::text[], %(lanes)s::text[], %(positions)s::bigint[]) AS g(handler, tenant, lane, position)
WHERE d.handler = g.handler AND d.tenant = g.tenant AND d.lane = g.lane AND d.position = g.position
"""
# In a statement of its own too: the lanes are locked, and what is there now is what is left.
SETTLE = f"""
WITH next AS MATERIALIZED (
  SELECT g.handler, g.tenant, g.lane, (
    SELECT d.due_at FROM farthing.event_deliveries d WHERE {_SAME.format(a="d", b="g")} ORDER BY d.position LIMIT 1
  ) AS due_at
  FROM {_GIVEN}
), left_over AS (
  UPDATE farthing.event_lanes l SET ready_at = greatest(n.due_at, {_NOW}), token = NULL, tried = 0, upto = NULL
  FROM next n WHERE {_SAME.format(a="l", b="n")} AND n.due_at IS NOT NULL
)
DELETE FROM farthing.event_lanes l USING next n WHERE {_SAME.format(a="l", b="n")} AND n.due_at IS NULL
"""  # noqa: S608
"""Lanes that are locked: the next delivery is due, after those of the lanes that wait already; or the lane ends."""

AGAIN = f"UPDATE farthing.event_lanes SET ready_at = %(at)s, token = NULL, upto = %(upto)s WHERE {_THIS}"  # noqa: S608
PART = """
UPDATE farthing.event_deliveries SET attempts = %(attempt)s
WHERE handler = %(handler)s AND tenant = %(tenant)s AND lane = %(lane)s AND position = ANY (%(positions)s)
"""
PARTED = f"UPDATE farthing.event_lanes SET ready_at = {_NOW}, token = NULL, tried = 0, upto = NULL WHERE {_THIS}"  # noqa: S608
BURY = f"""
INSERT INTO farthing.event_dead_letters (id, handler, tenant, position, attempts, error, at)
VALUES (%(id)s, %(handler)s, %(tenant)s, %(position)s, %(attempt)s, %(error)s, {_NOW})
"""  # noqa: S608
DEAD = f"""
SELECT x.id, x.handler, x.attempts, x.error, x.at, {_COLUMNS}
FROM farthing.event_dead_letters x JOIN farthing.events e ON e.position = x.position
WHERE (%(tenant)s::text IS NULL OR x.tenant = %(tenant)s) AND (%(handler)s::text IS NULL OR x.handler = %(handler)s)
ORDER BY x.at DESC, x.id DESC LIMIT %(limit)s
"""  # noqa: S608
REPLAY = f"""
WITH back AS (
  DELETE FROM farthing.event_dead_letters x USING farthing.event_subscriptions s
  WHERE x.id = ANY (%(ids)s) AND s.handler = x.handler RETURNING x.handler, x.position, s.per
), due AS (
  SELECT s.handler, e.tenant, {LANE} AS lane, e.position, {_NOW} AS due_at FROM back s JOIN farthing.events e ON e.position = s.position
  WHERE {LANE} IS NOT NULL
), {DELIVER}
SELECT (SELECT count(*) FROM back), (SELECT count(*) FROM told)
"""  # noqa: S608
TAIL = f"""
SELECT {_COLUMNS} FROM farthing.events e
WHERE (%(tenant)s::text IS NULL OR e.tenant = %(tenant)s) AND e.position > %(after)s ORDER BY e.position {{order}} LIMIT %(limit)s
"""  # noqa: S608
BACKLOG = f"""
SELECT s.handler, w.waiting, (SELECT count(*) FROM farthing.event_dead_letters x WHERE x.handler = s.handler),
  greatest(0, extract(epoch FROM {_NOW} - w.oldest))::float8
FROM farthing.event_subscriptions s
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting, coalesce(min(d.due_at), {_NOW}) AS oldest FROM farthing.event_deliveries d WHERE d.handler = s.handler
) AS w ORDER BY s.handler
"""  # noqa: S608
