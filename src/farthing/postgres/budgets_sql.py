"""The statements of the budgets."""

from __future__ import annotations

_COLUMNS = "id, scope, subject, tenant, limit_microusd, window_kind, window_s, hard, origin, created_at"

_BUCKET_S = "(b.window_s / 60)"
_EPOCH = "timestamptz 'epoch'"

BUCKET = f"""CASE WHEN b.window_kind = 'lifetime' THEN {_EPOCH}
      WHEN b.window_kind = 'rolling' THEN to_timestamp(floor(extract(epoch FROM {{at}}) / {_BUCKET_S}) * {_BUCKET_S})
      ELSE date_trunc(b.window_kind, {{at}}, 'UTC') END"""
"""Where spending at an instant is counted (`budgets.Window.bucket`); `b` is the budget."""

WINDOW_START = f"CASE WHEN b.window_kind IN ('rolling', 'lifetime') THEN {_EPOCH} ELSE date_trunc(b.window_kind, {{at}}, 'UTC') END"
"""`budgets.Window.start`."""

COVERS = """(VALUES ('total', ''), ('tier', e.tier), ('tenant', e.tenant), ('key', e.key_id::text), ('user', e.user_id))
    AS who (scope, subject)
  JOIN farthing.budgets b ON b.scope = who.scope AND b.subject = who.subject AND (b.tenant IS NULL OR b.tenant = e.tenant)"""
"""The budgets that an entry `e` counts for (`budgets.Budget.covers`)."""

ALL = f"SELECT {_COLUMNS} FROM farthing.budgets ORDER BY created_at, id LIMIT %s"  # noqa: S608  # the column names are ours

PUT = f"""
WITH stored AS (
  INSERT INTO farthing.budgets AS b ({_COLUMNS})
  VALUES (%(id)s, %(scope)s, %(subject)s, %(tenant)s, %(limit)s, %(kind)s, %(seconds)s, %(hard)s, %(origin)s, %(created_at)s)
  ON CONFLICT (id) DO UPDATE SET limit_microusd = excluded.limit_microusd, hard = excluded.hard
  WHERE (b.scope, b.subject, b.window_kind) = (excluded.scope, excluded.subject, excluded.window_kind)
    AND b.tenant IS NOT DISTINCT FROM excluded.tenant AND b.window_s IS NOT DISTINCT FROM excluded.window_s
  RETURNING xmax = 0 AS is_new
)
SELECT is_new, pg_current_xact_id()::text::bigint, pg_notify('farthing_budgets', '') FROM stored
"""  # noqa: S608  # the same

OLDER_THAN = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint <= %s"
"""Whether a transaction as old as that one is still under way."""

COUNT_SPENT = f"""
INSERT INTO farthing.budget_spend (budget_id, bucket, spent_microusd)
SELECT b.id, {BUCKET.format(at="e.at")} AS bucket, sum(e.cost_microusd)
FROM farthing.ledger e CROSS JOIN LATERAL {COVERS}
WHERE b.id = %(id)s AND e.id >= %(first)s AND e.cost_microusd > 0 AND e.price_source <> 'notional'
GROUP BY 1, 2
ON CONFLICT (budget_id, bucket) DO UPDATE SET spent_microusd = excluded.spent_microusd
"""  # noqa: S608  # the same

DELETE = """
WITH gone AS (DELETE FROM farthing.budgets WHERE id = ANY(%(ids)s) RETURNING id, tenant),
spend AS (DELETE FROM farthing.budget_spend WHERE budget_id = ANY(%(ids)s)),
leases AS (DELETE FROM farthing.budget_leases WHERE budget_id = ANY(%(ids)s))
SELECT pg_notify('farthing_budgets', ''), id, tenant FROM gone
"""

LOCK = "SELECT FROM farthing.budgets WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"

USES = """
SELECT a.id,
  coalesce((SELECT sum(s.spent_microusd) FROM farthing.budget_spend s WHERE s.budget_id = a.id AND s.bucket >= a.since), 0),
  coalesce((SELECT sum(greatest(l.granted_microusd - l.settled_microusd, 0)) FROM farthing.budget_leases l
    WHERE l.budget_id = a.id AND l.window_start = a.start AND l.expires_at > now()), 0)
FROM unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[]) AS a (id, since, start) JOIN farthing.budgets USING (id)
"""

# `own` is what this worker holds and the ledger has not seen spent; `room` is the most that it may be.
LEASE = """
WITH ask AS (
  SELECT * FROM unnest(%(ids)s::uuid[], %(starts)s::timestamptz[], %(since)s::timestamptz[], %(changes)s::bigint[], %(least)s::bigint[],
    %(spare)s::bigint[], %(rest)s::bigint[]) AS a (id, start, since, change, minimum, spare, rest)
), state AS (
  SELECT a.*, b.limit_microusd,
    coalesce((SELECT sum(s.spent_microusd) FROM farthing.budget_spend s
      WHERE s.budget_id = a.id AND s.bucket >= a.since), 0)::bigint AS spent,
    coalesce((SELECT sum(greatest(l.granted_microusd - l.settled_microusd, 0)) FROM farthing.budget_leases l
      WHERE l.budget_id = a.id AND l.window_start = a.start AND l.expires_at > now() AND l.worker <> %(worker)s), 0)::bigint AS others,
    coalesce(mine.granted_microusd - mine.settled_microusd, 0) AS own,
    coalesce(mine.settled_microusd, 0) AS settled,
    mine.worker IS NULL AS fresh
  FROM ask a JOIN farthing.budgets b USING (id)
  LEFT JOIN farthing.budget_leases mine ON mine.budget_id = a.id AND mine.window_start = a.start AND mine.worker = %(worker)s
), room AS (
  SELECT *, limit_microusd - spent - others AS room FROM state
), decided AS (
  SELECT *, greatest(0, least(room, CASE
    WHEN change <= 0 THEN own + change
    WHEN room - own < minimum AND others = 0 AND room - own >= rest THEN room
    WHEN room - own < minimum THEN own - spare
    ELSE own + least(change, greatest(minimum, (room - own) / 2)) END)) AS held
  FROM room
), leased AS (
  INSERT INTO farthing.budget_leases AS l (budget_id, worker, window_start, granted_microusd, settled_microusd, expires_at)
  SELECT id, %(worker)s, start, settled + held, settled, now() + make_interval(secs => %(ttl)s) FROM decided
  ON CONFLICT (budget_id, worker, window_start) DO UPDATE
    SET granted_microusd = excluded.granted_microusd, expires_at = excluded.expires_at -- not settled_microusd: that is the ledger's
  RETURNING l.budget_id, l.granted_microusd
)
SELECT d.id, d.limit_microusd, leased.granted_microusd, d.spent, d.others, d.held, d.fresh
FROM decided d JOIN leased ON leased.budget_id = d.id
"""

RELEASE = "DELETE FROM farthing.budget_leases WHERE worker = %s"

PRUNE = """
WITH lapsed AS (DELETE FROM farthing.budget_leases WHERE expires_at < now() - interval '1 day')
DELETE FROM farthing.budget_spend s
WHERE NOT EXISTS (
  SELECT FROM farthing.budgets b WHERE b.id = s.budget_id AND s.bucket >= CASE b.window_kind
    WHEN 'lifetime' THEN timestamptz 'epoch'
    WHEN 'rolling' THEN now() - make_interval(secs => b.window_s * 1.1)
    ELSE now() - interval '62 days' END
)
"""
