"""The outcome of a soak as one document, and as a table for people."""

from __future__ import annotations

import os
import platform
import statistics
from collections import Counter, defaultdict
from typing import Any

from soaking.books import Books
from soaking.facts import Ask, Tenant, Window
from soaking.judge import Finding, Verdict
from soaking.weights import Weights

MUST_BE_ZERO = (
    "wrong",
    "lost",
    "doubled",
    "lost_rows",
    "misbilled",
    "overspend_beyond_bound_microusd",
    "rollup_differences",
    "unsettled",
    "never_well_again",
)
BOUND_MICROUSD = 0
"""Every question of a soak names its `max_tokens` and its upstream keeps to it: no attempt costs more than what was reserved for it."""


def document(
    *,
    settings: dict[str, Any],
    asks: dict[str, Ask],
    verdict: Verdict,
    windows: list[Window],
    books: Books,
    tenants: list[Tenant],
    weights: Weights,
    settled_s: float | None,
    exit_status: int,
    warm_at: float,
    loaded_until: float,
) -> dict[str, Any]:
    """`failed` names what must be zero and is not."""
    ends = Counter(ask.outcome for ask in asks.values())
    overspend, unknown = _overspend(books, tenants, verdict)
    found: dict[str, Any] = {
        "bench": "soak",
        "settings": settings,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
        "requests": len(asks),
        "http_requests": sum(len(ask.tries) for ask in asks.values()),
        "answered": ends["answered"],
        "answered_at_first_try": sum(ask.outcome == "answered" and len(ask.tries) == 1 for ask in asks.values()),
        "by_source": dict(Counter(ask.tries[-1].source for ask in asks.values() if ask.outcome == "answered")),
        "refused": dict(verdict.refused),
        "exhausted": dict(verdict.exhausted),
        "streams_broken_with_error_event": dict(verdict.told),
        "streams_cut_by_worker_death": verdict.cut_by_death,
        "wrong": verdict.wrong.count,
        "lost": verdict.lost.count,
        "doubled": verdict.doubled.count,
        "lost_rows": verdict.lost_rows.count,
        "misbilled": verdict.misbilled.count,
        "attempts_died_with_worker": verdict.died.count,
        "cost_died_with_worker_microusd": sum(verdict.died_cost.values()),
        "answers_after_time_out": verdict.late.count,
        "cost_after_time_out_microusd": verdict.late_cost,
        "ledger": {
            "rows": len(books.rows),
            "final_rows_expected": verdict.rows_expected,
            "final_rows_found": verdict.rows_found,
            "final_rows_unheard": verdict.rows_unheard,
            "provider_answered_for_microusd": verdict.served_cost,
            "of_which_billed_microusd": verdict.billed_cost,
            "settled_after_s": None if settled_s is None else round(settled_s, 2),
        },
        "unsettled": int(settled_s is None),
        "never_well_again": sum(window.recovered is None for window in windows),
        "rollup_differences": books.rollup_differences,
        "budgets": {
            tenant: {**budget, "spent_at_first_refusal": _first_refusal(books, tenant)} for tenant, budget in books.budgets.items()
        },
        "overspend_microusd": overspend,
        "overspend_bound_microusd": BOUND_MICROUSD,
        "overspend_beyond_bound_microusd": max(0, overspend - BOUND_MICROUSD),
        "overspend_unknown_to_ledger_microusd": unknown,
        "faults": [_told(window, warm_at) for window in windows],
        "latency_ms": _latencies(asks, windows, warm_at),
        "connection_errors": _connection_errors(asks, windows),
        "memory": (memory := weights.slopes()),
        "memory_within_noise": all(row["within_noise"] for row in memory),
        "open_files": _files(weights, warm_at, loaded_until),
        "exit_status_of_farthing": exit_status,
        "examples": {
            name: getattr(verdict, name).examples
            for name in ("wrong", "lost", "doubled", "lost_rows", "misbilled", "died", "late")
            if isinstance(getattr(verdict, name), Finding) and getattr(verdict, name).count
        },
    }
    found["failed"] = [name for name in MUST_BE_ZERO if found[name]] + (["exit_status_of_farthing"] if exit_status else [])
    return found


def _overspend(books: Books, tenants: list[Tenant], verdict: Verdict) -> tuple[int, int]:
    """By the ledger, over all hard budgets; and how much more the provider bills for what died with a worker."""
    by_ledger = unknown = 0
    for tenant in tenants:
        if tenant.hard_limit is not None:
            spent = books.budgets[tenant.name]["ledger_microusd"]
            over = max(0, spent - tenant.hard_limit)
            by_ledger += over
            unknown += max(0, spent + verdict.died_cost[tenant.name] - tenant.hard_limit) - over
    return by_ledger, unknown


def _first_refusal(books: Books, tenant: str) -> float | None:
    """The share of its budget that a tenant had spent when it was first refused for it; rows come in the order of time."""
    spent = 0
    for row in books.rows:
        if row.tenant == tenant:
            if row.error == "insufficient_quota":
                return round(spent / int(books.budgets[tenant]["limit_microusd"]), 4)
            spent += row.cost
    return None


def _told(window: Window, warm_at: float) -> dict[str, Any]:
    return {
        "fault": window.fault,
        "at_s": round(window.began - warm_at, 1),
        "lasted_s": round(window.ended - window.began, 1),
        "well_again_after_s": None if window.recovered is None else round(window.recovered - window.ended, 1),
    }


def _during(at: float, windows: list[Window]) -> str:
    return next((window.fault for window in windows if window.began <= at <= (window.recovered or window.ended)), "calm")


def _latencies(asks: dict[str, Ask], windows: list[Window], warm_at: float) -> dict[str, Any]:
    """Of answered questions, their retries included, by the fault that they began in."""
    times: dict[str, list[float]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for ask in asks.values():
        if ask.at >= warm_at and ask.ended is not None and ask.model != "local":
            name = _during(ask.at, windows)
            counts[name] += 1
            if ask.outcome == "answered":
                times[name].append((ask.ended - ask.at) * 1e3)
    return {
        name: {
            "asked": counts[name],
            "answered": len(some),
            "p50": round(statistics.median(some), 1),
            "p99": round(sorted(some)[int(len(some) * 0.99)], 1),
        }
        for name, some in times.items()
    }


def _connection_errors(asks: dict[str, Ask], windows: list[Window]) -> dict[str, int]:
    """Tries that broke, by the fault that they broke in. The SDK repeats them unless a stream had begun."""
    return dict(
        Counter(
            f"{_during(tried.ended or tried.at, windows)}: {tried.error}"
            for ask in asks.values()
            for tried in ask.tries
            if tried.error is not None
        )
    )


def _files(weights: Weights, warm_at: float, loaded_until: float) -> dict[str, Any]:
    last = max((samples[-1][0] for samples in weights.samples.values()), default=0.0)
    return {
        "after_warm_up": list(weights.files(warm_at).values()),
        "at_end_of_load": list(weights.files(loaded_until).values()),
        "after_clients_left": list(weights.files(last).values()),
        "most_ever": max((sample[2] for samples in weights.samples.values() for sample in samples), default=0),
    }


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"\n{found['requests']} questions in {found['http_requests']} HTTP requests, {found['answered']} answered"]
    lines += [f"  {name:34}{found[name]}" for name in ("by_source", "refused", "exhausted", "streams_broken_with_error_event")]
    lines += [f"  {name:34}{found[name]}" for name in ("streams_cut_by_worker_death", "attempts_died_with_worker")]
    lines += [f"  {name:34}{found[name]}" for name in ("answers_after_time_out", "connection_errors")]
    lines += ["", *(f"  {name:34}{found[name]:>8}{'  FAILED' if found[name] else ''}" for name in MUST_BE_ZERO), ""]
    lines += [f"  ledger: {found['ledger']}", f"  budgets: {found['budgets']}", ""]
    lines += [f"  {'':26}{'asked':>8}{'answered':>10}{'p50 ms':>10}{'p99 ms':>10}"]
    lines += [
        f"  {name:26}{row['asked']:>8}{row['answered']:>10}{row['p50']:>10}{row['p99']:>10}" for name, row in found["latency_ms"].items()
    ]
    lines += [""]
    lines += [
        f"  {fault['fault']:26} at {fault['at_s']:>6} s for {fault['lasted_s']:>5} s, well again after {fault['well_again_after_s']} s"
        for fault in found["faults"]
    ]
    lines += [
        "",
        *(f"  memory {row}" for row in found["memory"]),
        f"  memory within noise: {found['memory_within_noise']}",
        f"  open files {found['open_files']}",
    ]
    for name, examples in found["examples"].items():
        lines += [f"\n{name}:", *(f"  {example}" for example in examples)]
    return "\n".join(lines)
