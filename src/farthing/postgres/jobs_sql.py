"""The statements of `PostgresJobs`."""

from __future__ import annotations

from typing import Final

from farthing.types import Run

RUN: Final = tuple(name for name in Run.__struct_fields__ if name != "progress")
COUNTED: Final = ("waiting", "running", "done", "failed", "cancelled")
_RUN = ", ".join(f"r.{name}" for name in RUN)

# Of a run that has ended the counts are in its row; of others they are counted.
_COUNTS = """
CROSS JOIN LATERAL (
  SELECT
    count(*) FILTER (WHERE i.state = 'waiting') AS waiting, count(*) FILTER (WHERE i.state = 'running') AS running,
    count(*) FILTER (WHERE i.state = 'done') AS done, count(*) FILTER (WHERE i.state = 'failed') AS failed,
    count(*) FILTER (WHERE i.state = 'cancelled') AS cancelled
  FROM farthing.items i WHERE i.run = r.id AND r.ended_at IS NULL
) c
"""
_SHOWN = f"""
SELECT {_RUN}, c.waiting, c.running, c.done + r.done, c.failed + r.failed, c.cancelled + r.cancelled
FROM farthing.runs r {_COUNTS}
"""  # noqa: S608  # all parts are ours
OF = f"{_SHOWN} WHERE r.id = %(run)s"
LIST = f"""
{_SHOWN}
WHERE (%(tenant)s::text IS NULL OR r.tenant = %(tenant)s) AND (%(kind)s::text IS NULL OR r.kind = %(kind)s)
  AND (%(state)s::text IS NULL OR r.state = %(state)s) AND (%(before)s::uuid IS NULL OR r.id < %(before)s)
ORDER BY r.id DESC LIMIT %(limit)s
"""

START = """
INSERT INTO farthing.runs
  (id, tenant, kind, name, wide, attempts, deadline_s, backoff_s, state, added, done, failed, cancelled, created_at)
VALUES (
  %(id)s, %(tenant)s, %(kind)s, %(name)s, %(wide)s, %(attempts)s, %(deadline_s)s, %(backoff_s)s, 'filling', 0, 0, 0, 0, %(now)s
)
ON CONFLICT ON CONSTRAINT runs_name DO NOTHING
"""
NAMED = "SELECT id FROM farthing.runs WHERE tenant = %(tenant)s AND kind = %(kind)s AND name = %(name)s"
LOCKED = "SELECT state, added, tenant, kind FROM farthing.runs WHERE id = %(run)s FOR UPDATE"
ADD = """
INSERT INTO farthing.items (tenant, run, position, key, payload, state, lease, attempts, at)
SELECT %(tenant)s, %(run)s, %(added)s + g.ordinal - 1, g.key, g.payload::json, 'waiting', 0, 0, %(now)s
FROM unnest(%(keys)s::text[], %(payloads)s::text[]) WITH ORDINALITY AS g(key, payload, ordinal)
ORDER BY g.ordinal
ON CONFLICT ON CONSTRAINT items_key DO NOTHING
RETURNING id, position
"""
ADDED = "UPDATE farthing.runs SET added = added + %(more)s WHERE id = %(run)s"
SEAL = "UPDATE farthing.runs SET state = 'running' WHERE id = %(run)s AND state = 'filling'"
NOTIFY = "SELECT pg_notify('farthing_jobs', %s)"

# Which runs may have items to give: those that got least go first by the priorities of their items, whatever the order here.
OPEN = """
SELECT id, kind, tenant, wide, attempts, deadline_s, backoff_s FROM farthing.runs
WHERE ended_at IS NULL AND state IN ('filling', 'running') AND kind = ANY (%(kinds)s)
  AND EXISTS (SELECT FROM farthing.items i WHERE i.run = runs.id AND i.state IN ('waiting', 'running'))
ORDER BY id LIMIT %(most)s
"""
LEASE = """
UPDATE farthing.items SET state = 'running', lease = lease + 1, attempts = attempts + 1, at = %(now)s
WHERE id = ANY (%(items)s) AND state IN ('waiting', 'running')
RETURNING id, run, key, payload, attempts, lease
"""
# Entries first and items then, as whoever leases does: or the two may wait for each other.
LOCK_ENTRIES = "SELECT FROM farthing.pgqueuer WHERE id = ANY (%s) ORDER BY id FOR UPDATE"
END = """
UPDATE farthing.items i SET
  state = CASE WHEN g.state <> 'waiting' THEN g.state WHEN r.state = 'cancelled' THEN 'cancelled' ELSE 'waiting' END,
  attempts = i.attempts - g.uncounted, result = g.result::json, error = g.error, at = %(now)s
FROM unnest(
  %(items)s::bigint[], %(leases)s::integer[], %(states)s::text[], %(uncounted)s::integer[], %(results)s::text[], %(errors)s::text[]
) AS g(id, lease, state, uncounted, result, error), farthing.runs r
WHERE i.id = g.id AND i.lease = g.lease AND i.state = 'running' AND r.id = i.run
RETURNING i.id, i.state
"""
EXTEND = """
UPDATE farthing.pgqueuer q SET heartbeat = clock_timestamp()
FROM unnest(%(entries)s::bigint[], %(items)s::bigint[], %(leases)s::integer[]) AS g(entry, item, lease), farthing.items i, farthing.runs r
WHERE q.id = g.entry AND q.status = 'picked' AND i.id = g.item AND i.lease = g.lease AND i.state = 'running' AND r.id = i.run
RETURNING i.id, r.state = 'cancelled'
"""

ANY_OPEN = "SELECT FROM farthing.runs WHERE ended_at IS NULL LIMIT 1"
GIVE_UP = "UPDATE farthing.runs SET state = 'cancelled' WHERE state = 'filling' AND ended_at IS NULL AND created_at < %(before)s"
CANCEL = "UPDATE farthing.runs SET state = 'cancelled' WHERE id = %(run)s AND state IN ('filling', 'running')"
# Items of cancelled runs that nobody works on: those that wait, and those whose worker went away. Their entries go first.
DROP = """
WITH gone AS (
  DELETE FROM farthing.pgqueuer q WHERE q.id = ANY (ARRAY(
    SELECT q.id FROM farthing.pgqueuer q JOIN farthing.runs r ON q.entrypoint = r.id::text
    WHERE r.state = 'cancelled' AND r.ended_at IS NULL
      AND (q.status = 'queued' OR q.heartbeat < clock_timestamp() - make_interval(secs => %(lease_s)s))
    LIMIT %(rows)s FOR UPDATE OF q SKIP LOCKED
  )) RETURNING convert_from(q.payload, 'UTF8')::bigint AS item
)
UPDATE farthing.items i SET state = 'cancelled', at = %(now)s FROM gone WHERE i.id = gone.item AND i.state IN ('waiting', 'running')
"""
FINISH = f"""
WITH over AS MATERIALIZED (
  SELECT r.id, r.ended_at FROM farthing.runs r
  WHERE r.ended_at IS NULL AND r.state IN ('running', 'cancelled')
    AND NOT EXISTS (SELECT FROM farthing.items o WHERE o.run = r.id AND o.state IN ('waiting', 'running'))
)
UPDATE farthing.runs r SET
  state = CASE r.state WHEN 'running' THEN 'done' ELSE r.state END, ended_at = %(now)s,
  done = s.done, failed = s.failed, cancelled = s.cancelled
FROM (SELECT r.id, c.* FROM over r {_COUNTS}) s
WHERE r.id = s.id AND r.ended_at IS NULL
"""  # noqa: S608  # all parts are ours

RESULTS = """
WITH page AS (
  SELECT position, key, state, attempts, result, error, at, coalesce(octet_length(result::text), 0) AS size FROM farthing.items
  WHERE run = %(run)s AND position > %(after)s AND (%(state)s::text IS NULL OR state = %(state)s) ORDER BY position LIMIT %(limit)s
), sized AS (SELECT *, sum(size) OVER (ORDER BY position) - size AS before FROM page)
SELECT position, key, state, attempts, result, error, at FROM sized WHERE before < %(bytes)s ORDER BY position
"""

SCHEDULE = """
INSERT INTO farthing.schedules AS s (name, expression, next_at) VALUES (%(name)s, %(expression)s, %(first)s)
ON CONFLICT (name) DO UPDATE SET
  expression = excluded.expression, next_at = CASE WHEN s.expression = excluded.expression THEN s.next_at ELSE excluded.next_at END
RETURNING next_at
"""
FIRED = "UPDATE farthing.schedules SET next_at = %(following)s WHERE name = %(name)s AND next_at = %(at)s"

# Runs go when their items are gone: a run may have more of them than one transaction should delete.
_OLD = """
SELECT id FROM farthing.runs WHERE ended_at < %(before)s
UNION (SELECT id FROM farthing.runs WHERE ended_at IS NOT NULL ORDER BY ended_at DESC OFFSET %(keep)s)
"""
_OF_TENANT = "SELECT id FROM farthing.runs WHERE tenant = %(tenant)s"


def _items_of(runs: str) -> str:
    return f"DELETE FROM farthing.items WHERE id = ANY (ARRAY(SELECT id FROM farthing.items WHERE run IN ({runs}) LIMIT %(rows)s))"  # noqa: S608


def _runs_of(runs: str) -> str:
    return f"""
    DELETE FROM farthing.runs WHERE id = ANY (ARRAY(
      SELECT r.id FROM farthing.runs r
      WHERE r.id IN ({runs}) AND NOT EXISTS (SELECT FROM farthing.items i WHERE i.run = r.id) LIMIT %(rows)s
    ))"""  # noqa: S608  # all parts are ours


PRUNE: Final = (_items_of(_OLD), _runs_of(_OLD))
FORGET: Final = (_items_of(_OF_TENANT), _runs_of(_OF_TENANT))
STRAY_ENTRIES = """
DELETE FROM farthing.pgqueuer WHERE id = ANY (ARRAY(
  SELECT q.id FROM farthing.pgqueuer q WHERE q.entrypoint IN (SELECT id::text FROM farthing.runs WHERE tenant = %(tenant)s) LIMIT %(rows)s
))
"""
LOG = """
DELETE FROM farthing.pgqueuer_log
WHERE id = ANY (ARRAY(SELECT id FROM farthing.pgqueuer_log WHERE id <= %(last)s ORDER BY id LIMIT %(rows)s))
"""
LAST_LOGGED = "SELECT coalesce(max(id), 0) FROM farthing.pgqueuer_log"
