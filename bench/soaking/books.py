"""What the database says after a soak."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psycopg

from soaking.facts import Row

_ROWS = """
SELECT request_id::text, attempt, final, tenant, task_type, source, upstream_model, tokens_in, tokens_out, usage_source, cost_microusd,
  status, error FROM farthing.ledger ORDER BY id
"""
_NAMES = ("request_id", "attempt", "final", "tenant", "ask_id", "source", "upstream_model", "tokens_in", "tokens_out", "usage_source")
_SUMS = """
SELECT (at AT TIME ZONE 'UTC')::date AS day, tenant, key_id, left(coalesce(model_used, model_asked), 255) AS model, source,
  price_source = 'notional' AS notional, count(*) FILTER (WHERE final) AS requests, count(*) FILTER (WHERE attempt > 0) AS attempts,
  count(error) FILTER (WHERE final) AS errors, sum(tokens_in)::bigint AS tokens_in, sum(tokens_out)::bigint AS tokens_out,
  sum(cost_microusd)::bigint AS spent_microusd, sum(saved_microusd)::bigint AS saved_microusd
FROM farthing.ledger GROUP BY 1, 2, 3, 4, 5, 6
"""
_DAILY = """
  day, tenant, key_id, model, source, notional, requests, attempts, errors, tokens_in, tokens_out, spent_microusd, saved_microusd
"""
_ROLLUP_DIFFERENCES = f"""
SELECT count(*) FROM ((TABLE sums EXCEPT ALL SELECT {_DAILY} FROM farthing.ledger_daily)
  UNION ALL (SELECT {_DAILY} FROM farthing.ledger_daily EXCEPT ALL TABLE sums)) AS differing
"""  # noqa: S608 - our own names
_BUDGETS = """
SELECT b.tenant, b.limit_microusd, b.hard,
  coalesce((SELECT sum(s.spent_microusd) FROM farthing.budget_spend s WHERE s.budget_id = b.id), 0)::bigint,
  coalesce((SELECT sum(l.cost_microusd) FROM farthing.ledger l
    WHERE l.key_id::text = b.subject AND l.price_source <> 'notional'), 0)::bigint
FROM farthing.budgets b WHERE b.scope = 'key'
"""


class Books:
    """`rows` of the ledger; `rollup_differences` counts groups of the rollup that are not the sum of the rows.

    `budgets` by tenant: limit, hard, spent by the budget's own count, spent by the ledger.
    """

    def __init__(self, rows: list[Row], rollup_differences: int, budgets: dict[str, dict[str, Any]]) -> None:
        self.rows = rows
        self.rollup_differences = rollup_differences
        self.budgets = budgets


async def settled(spool: Path, within_s: float = 60.0) -> float | None:
    """Wait until all that waits on disk is in the database. Returns the seconds that took, None when it did not happen."""
    began = time.monotonic()
    quiet = 0
    while time.monotonic() - began < within_s:
        quiet = 0 if await asyncio.to_thread(_waiting, spool) else quiet + 1
        if quiet == 8:  # longer than a pump's pause: nothing in its memory either
            return time.monotonic() - began
        await asyncio.sleep(0.25)
    return None


def _waiting(spool: Path) -> bool:
    return any(_size(path) for path in spool.glob("*.jsonl"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read(url: str) -> Books:
    """All of it, at one moment."""
    with psycopg.connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SET ROLE farthing_service")
        rows = [
            Row(**dict(zip((*_NAMES, "cost", "status", "error"), found, strict=True))) for found in connection.execute(_ROWS).fetchall()
        ]
        differing = connection.execute(f"WITH sums AS ({_SUMS}) {_ROLLUP_DIFFERENCES}".encode()).fetchone()
        budgets = {
            tenant: {"limit_microusd": limit, "hard": hard, "counted_microusd": counted, "ledger_microusd": ledger}
            for tenant, limit, hard, counted, ledger in connection.execute(_BUDGETS.encode()).fetchall()
        }
    return Books(rows, int(differing[0]) if differing else -1, budgets)
