"""The two statements of the ledger. The first also counts what budgets have left: the ledger is the only truth about spending."""

from __future__ import annotations

from farthing.ports import ReportBy
from farthing.postgres.budgets_sql import BUCKET, COVERS, WINDOW_START

FIELDS: tuple[tuple[str, str, str | None], ...] = (
    ("id", "uuid", None),
    ("request_id", "uuid", None),
    ("attempt", "integer", None),
    ("final", "boolean", None),
    ("tenant", "text", None),
    ("key_id", "uuid", None),
    ("user_id", "text", None),
    ("tier", "text", None),
    ("operation", "text", None),
    ("purpose", "text", "'answer'"),
    ("source", "text", None),
    ("model_asked", "text", None),
    ("model_used", "text", None),
    ("provider", "text", None),
    ("upstream_model", "text", None),
    ("prompt_version", "text", None),
    ("route", "text", None),
    ("mode", "text", None),
    ("task_type", "text", None),
    ("stream", "boolean", "false"),
    ("tokens_in", "integer", "0"),
    ("tokens_out", "integer", "0"),
    ("tokens_cache_read", "integer", "0"),
    ("tokens_cache_write", "integer", "0"),
    ("tokens_reasoning", "integer", "0"),
    ("usage_source", "text", "'none'"),
    ("price_in_microusd_per_1m", "bigint", None),
    ("price_out_microusd_per_1m", "bigint", None),
    ("price_source", "text", "'none'"),
    ("cost_microusd", "bigint", "0"),
    ("baseline_microusd", "bigint", "0"),
    ("saved_microusd", "bigint", "0"),
    ("latency_us", "bigint", "0"),
    ("ttft_us", "bigint", None),
    ("status", "integer", "200"),
    ("error", "text", None),
    ("worker", "text", None),
    ("checks", "text", None),
    ("memory", "text", None),
    ("answer_key", "text", None),
)
"""The fields of `LedgerEntry`: name, type, and what an entry written by an older version without the field is given."""

_NAMES = ", ".join(name for name, _, _ in FIELDS)
_TYPES = ", ".join(f"{name} {kind}" for name, kind, _ in FIELDS)
_VALUES = ", ".join(name if default is None else f"coalesce({name}, {default})" for name, _, default in FIELDS)
_DAILY_SUMS = ("requests", "attempts", "errors", "tokens_in", "tokens_out", "spent_microusd", "saved_microusd")

# Index rows are bounded, names from outside are not.
_MODEL = "left(coalesce(model_used, model_asked), 255)"

_MILLISECONDS = "('x' || left(id::text, 8) || substr(id::text, 10, 4))::bit(48)::bigint"

# The rows are inserted in the order of their ids, and the rollups after all of them in the order of their groups, so that appenders
# with overlapping batches wait for each other in one direction only.
APPEND = f"""
WITH new AS (
  INSERT INTO farthing.ledger (at, {_NAMES})
  SELECT to_timestamp({_MILLISECONDS} / 1000.0), {_VALUES}
  FROM json_to_recordset(%s::json) AS entry ({_TYPES})
  ORDER BY id
  ON CONFLICT (id) DO NOTHING
  RETURNING (at AT TIME ZONE 'UTC')::date AS day, tenant, key_id, {_MODEL} AS model, source, price_source = 'notional' AS notional,
    final, attempt, error, tokens_in, tokens_out, cost_microusd, saved_microusd, at, user_id, tier, worker
), budgeted AS (
  SELECT b.id AS budget_id, {BUCKET.format(at="e.at")} AS bucket, {WINDOW_START.format(at="e.at")} AS window_start, e.worker,
    sum(e.cost_microusd) AS cost
  FROM new e CROSS JOIN LATERAL {COVERS}
  WHERE e.cost_microusd > 0 AND NOT e.notional
  GROUP BY 1, 2, 3, 4
), counted AS (
  INSERT INTO farthing.budget_spend AS s (budget_id, bucket, spent_microusd)
  SELECT budget_id, bucket, sum(cost) FROM budgeted GROUP BY 1, 2 ORDER BY 1, 2
  ON CONFLICT (budget_id, bucket) DO UPDATE SET spent_microusd = s.spent_microusd + excluded.spent_microusd
), settled AS (
  UPDATE farthing.budget_leases l SET settled_microusd = l.settled_microusd + b.cost
  FROM (SELECT budget_id, worker, window_start, sum(cost) AS cost FROM budgeted GROUP BY 1, 2, 3) b
  WHERE l.budget_id = b.budget_id AND l.worker = b.worker AND l.window_start = b.window_start
), rolled_up AS (
  INSERT INTO farthing.ledger_daily AS d (day, tenant, key_id, model, source, notional, {", ".join(_DAILY_SUMS)})
  SELECT day, tenant, key_id, model, source, notional,
    count(*) FILTER (WHERE final), count(*) FILTER (WHERE attempt > 0), count(error) FILTER (WHERE final),
    sum(tokens_in), sum(tokens_out), sum(cost_microusd), sum(saved_microusd)
  FROM new
  GROUP BY 1, 2, 3, 4, 5, 6
  ORDER BY 1, 2, 3, 4, 5, 6
  ON CONFLICT (tenant, day, key_id, model, source, notional)
  DO UPDATE SET {", ".join(f"{name} = d.{name} + excluded.{name}" for name in _DAILY_SUMS)}
)
SELECT count(*) FROM new
"""  # noqa: S608  # all parts are ours

REPORT_GROUPS = {7: "total", 3: "source", 5: "rows", 6: "notional"}
"""What GROUPING(source, name, notional_model) says about a row of the report."""

_GROUP_NAME: dict[ReportBy, str] = {"model": "model", "tenant": "tenant", "key": "key_id::text", "source": "NULL::text"}


def report_sql(by: ReportBy, *, one_tenant: bool) -> str:
    """The totals of a window, by source, by name, and of the models at notional prices; the costliest first, names last.

    Each part reads by an index: days by (tenant, day) or (day), edges by (tenant, id) or (id).
    """
    tenant = "AND tenant = %(tenant)s" if one_tenant else ""
    edge = f"""
    SELECT tenant, key_id, {_MODEL}, source, price_source = 'notional', final::integer, (attempt > 0)::integer,
      (final AND error IS NOT NULL)::integer, tokens_in, tokens_out, cost_microusd, saved_microusd
    FROM farthing.ledger WHERE id >= %({{0}}_from)s::uuid AND id < %({{0}}_to)s::uuid {tenant}"""  # noqa: S608  # all parts are ours
    return f"""
WITH part AS (
    SELECT tenant, key_id, model, source, notional, {", ".join(_DAILY_SUMS)}
    FROM farthing.ledger_daily WHERE day >= date '1970-01-01' + %(first_day)s::integer AND day < date '1970-01-01' + %(end_day)s::integer
      {tenant}
    UNION ALL {edge.format("head")}
    UNION ALL {edge.format("tail")}
), named AS (
    SELECT *, {_GROUP_NAME[by]} AS name, CASE WHEN notional THEN coalesce(model, '(none)') END AS notional_model FROM part
)
SELECT GROUPING(source, name, notional_model) AS level, coalesce(name, source, notional_model) COLLATE "C" AS title,
  coalesce(sum(requests), 0), coalesce(sum(attempts), 0), coalesce(sum(errors), 0), coalesce(sum(tokens_in), 0),
  coalesce(sum(tokens_out), 0), coalesce(sum(spent_microusd), 0) AS spent,
  coalesce(sum(spent_microusd) FILTER (WHERE notional), 0), coalesce(sum(saved_microusd), 0)
FROM named
GROUP BY GROUPING SETS ((), (source), (name), (notional_model))
ORDER BY GROUPING(source, name, notional_model) = 5, spent DESC, title
LIMIT 1000 + %(limit)s
"""  # noqa: S608  # all parts are ours
