"""The statements of `postgres.foresight_log`."""

from __future__ import annotations

from farthing.postgres.edge import stale
from farthing.postgres.erasures import covered

NUMBERS = ("computed", "read", "stale", "expired", "served", "live", "tokens_in", "tokens_out", "spent_microusd", "saved_microusd")
_ALL = ", ".join(NUMBERS)


def _counting(rows: str, sums: dict[str, str]) -> str:
    """Add sums over rows (with `tenant`, `day`, `action`, `segment`) to the counts, in one order: two writers must not block each other."""
    values = ", ".join(f"coalesce({sums[name]}, 0)" if name in sums else "0" for name in NUMBERS)
    added = ", ".join(f"{name} = c.{name} + excluded.{name}" for name in NUMBERS)
    return f"""
INSERT INTO farthing.foresight_counts AS c (tenant, action, day, segment, {_ALL})
SELECT tenant, action, day, segment, {values} FROM {rows} GROUP BY tenant, action, day, segment ORDER BY tenant, action, day, segment
ON CONFLICT (tenant, action, day, segment) DO UPDATE SET {added}
"""  # noqa: S608  # all parts are ours


ADD = f"""
WITH given AS (
  SELECT u.*, (u.made_at AT TIME ZONE 'UTC')::date AS day,
    ARRAY(SELECT jsonb_object_keys(u.hangs_on::jsonb)) AS states FROM unnest(
    %(requests)s::uuid[], %(tenants)s::text[], %(users)s::text[], %(actions)s::text[], %(segments)s::text[], %(versions)s::text[],
    %(made)s::timestamptz[], %(expire)s::timestamptz[], %(costs)s::bigint[], %(ins)s::bigint[], %(outs)s::bigint[], %(begun)s::timestamptz[]
  ) AS u(request_id, tenant, user_id, action, segment, hangs_on, made_at, expires_at, cost, tokens_in, tokens_out, begun)
), new AS (
  INSERT INTO farthing.foreseen (tenant, request_id, user_id, action, segment, states, versions, made_at, expires_at)
  SELECT g.tenant, g.request_id, g.user_id, g.action, g.segment, g.states,
    ARRAY(SELECT (g.hangs_on::jsonb ->> state)::bigint FROM unnest(g.states) WITH ORDINALITY AS s(state, n) ORDER BY n),
    g.made_at, g.expires_at
  FROM given g WHERE NOT {covered("foreseen", "g", "g.begun")}
  ON CONFLICT (tenant, request_id) DO NOTHING RETURNING tenant, request_id
), kept AS (SELECT g.* FROM given g JOIN new USING (tenant, request_id))
{
    _counting(
        "kept",
        {"computed": "count(*)", "tokens_in": "sum(tokens_in)", "tokens_out": "sum(tokens_out)", "spent_microusd": "sum(cost)"},
    )
}"""  # noqa: S608  # the same
CLICKED = f"""
WITH given AS (
  SELECT g.*, (g.at AT TIME ZONE 'UTC')::date AS day FROM unnest(
    %(requests)s::uuid[], %(tenants)s::text[], %(users)s::text[], %(actions)s::text[], %(saved)s::bigint[], %(ats)s::timestamptz[]
  ) AS g(request_id, tenant, user_id, action, saved, at)
  WHERE NOT {covered("foreseen", "g", "g.at")}
), first AS (
  UPDATE farthing.foreseen f SET read_at = g.at
  FROM (SELECT tenant, request_id, min(at) AS at, min(day) AS day FROM given GROUP BY tenant, request_id) g
  WHERE f.tenant = g.tenant AND f.request_id = g.request_id AND f.read_at IS NULL RETURNING f.tenant, f.action, f.segment, g.day
), counted AS (
  SELECT g.tenant, g.action, g.day, coalesce(f.segment, '') AS segment, 0 AS read, (g.request_id IS NOT NULL)::int AS served,
    (g.request_id IS NULL)::int AS live, g.saved
  FROM given g LEFT JOIN farthing.foreseen f ON f.tenant = g.tenant AND f.request_id = g.request_id
  UNION ALL SELECT tenant, action, day, segment, 1, 0, 0, 0 FROM first
)
{_counting("counted", {"read": "sum(read)", "served": "sum(served)", "live": "sum(live)", "saved_microusd": "sum(saved)"})}"""  # noqa: S608  # the same


REPLACED = """
UPDATE farthing.foreseen o SET expires_at = %(now)s
FROM unnest(%(requests)s::uuid[], %(tenants)s::text[], %(users)s::text[], %(actions)s::text[], %(made)s::timestamptz[])
  AS n(request_id, tenant, user_id, action, made_at)
WHERE n.tenant = o.tenant AND n.user_id = o.user_id AND n.action = o.action AND o.made_at < n.made_at AND o.expires_at > %(now)s
"""
_UNREAD = "count(*) FILTER (WHERE read_at IS NULL AND {}went_stale)"
SETTLE = f"""
WITH gone AS (
  DELETE FROM farthing.foreseen f WHERE f.ctid = ANY (ARRAY(
    SELECT ctid FROM farthing.foreseen WHERE expires_at <= %(now)s - %(late)s ORDER BY expires_at LIMIT %(rows)s
  )) RETURNING f.tenant, f.action, f.segment, f.read_at, {stale("f")} AS went_stale, (%(now)s AT TIME ZONE 'UTC')::date AS day
), counted AS ({_counting("gone", {"stale": _UNREAD.format(""), "expired": _UNREAD.format("NOT ")})})
SELECT FROM gone
"""  # noqa: S608  # the same
# One worker settles at a time; another one that comes meanwhile has nothing to do.
SETTLING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.foreseen.settle', 0))"

_AGED = ", ".join(f"sum({name} * w)::float8" for name in NUMBERS)
LEARNED = f"""
SELECT action, segment, {_AGED} FROM (
  SELECT *, power(0.5, greatest(%(today)s::date - day, 0) / %(half_life)s::float8) AS w FROM farthing.foresight_counts
  WHERE tenant = %(tenant)s AND action = ANY (%(actions)s)
) c GROUP BY action, segment ORDER BY action, segment
"""  # noqa: S608  # the same
_SUMS = ", ".join(f"sum({name})::bigint AS {name}" for name in NUMBERS)
_WEEK = f"""
SELECT tenant, jsonb_agg(to_jsonb(c) - 'tenant' ORDER BY action, segment) AS rows FROM (
  SELECT tenant, action, segment, {_SUMS} FROM farthing.foresight_counts
  WHERE day >= %(monday)s AND day < %(monday)s::date + 7 AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
  GROUP BY tenant, action, segment
) c GROUP BY tenant
"""  # noqa: S608  # the same
WEEK = f"""
SELECT tenant, coalesce(r.rows, n.rows), coalesce(r.made_at, %(now)s)
FROM ({_WEEK}) n
FULL JOIN (
  SELECT * FROM farthing.foresight_reports WHERE week = %(monday)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
) r USING (tenant)
ORDER BY tenant LIMIT %(limit)s
"""  # noqa: S608  # the same
STORE_WEEK = f"""
INSERT INTO farthing.foresight_reports AS r (week, tenant, rows, made_at) SELECT %(monday)s, tenant, rows, %(now)s FROM ({_WEEK}) n
ON CONFLICT (week, tenant) DO UPDATE SET rows = excluded.rows, made_at = excluded.made_at
"""  # noqa: S608  # the same
FORGET = {
    "foreseen": """
DELETE FROM farthing.foreseen WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.foreseen WHERE tenant = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s) LIMIT %(rows)s
))
""",
    "counts": """
DELETE FROM farthing.foresight_counts WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.foresight_counts WHERE tenant = %(tenant)s LIMIT %(rows)s
))
""",
    "reports": """
DELETE FROM farthing.foresight_reports WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.foresight_reports WHERE tenant = %(tenant)s LIMIT %(rows)s
))
""",
}
PRUNE = (
    """
DELETE FROM farthing.foresight_counts WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.foresight_counts WHERE day < %(before)s LIMIT %(rows)s
))
""",
    """
DELETE FROM farthing.foresight_reports WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.foresight_reports WHERE week < %(before)s LIMIT %(rows)s
))
""",
)
