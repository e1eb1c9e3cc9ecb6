"""Spending, put together: the ledger on its way to the store, limits, budgets, and who counts. Part of the composition root."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from farthing.app_stores import Stores
from farthing.background import Background
from farthing.budgets import Budget
from farthing.settings import Settings
from farthing.snapshot import Snapshot
from farthing.spend.admission import Admission
from farthing.spend.budget_book import BudgetBook
from farthing.spend.calls import ModelCalls
from farthing.spend.journal import Journal
from farthing.spend.leases import Leases
from farthing.spend.lengths import Lengths
from farthing.spend.limit_rules import LimitRules
from farthing.spend.limit_table import LimitTable, columns_for
from farthing.spend.limits import KeyLimits, TokenRates
from farthing.spend.meter import LedgerMeter, Observer
from farthing.spend.pump import Pump
from farthing.spend.purse import BudgetPurse
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics


class Spending:
    """`admission` and `calls` are stages, `purse` and `meter` what dispatch pays and counts with. `observers` see each ledger entry."""

    def __init__(self, settings: Settings, stores: Stores, worker: str, observers: Sequence[Observer]) -> None:
        ledger, bounds = settings.ledger, settings.limits
        self._sync = ledger.fsync == "batch"
        self._journal = Journal(
            settings.data / "ledger",
            segment_bytes=ledger.segment_bytes,
            max_bytes=ledger.max_spool_bytes,
            max_in_memory=ledger.max_in_memory,
            worker=worker,
        )
        self.pump = Pump(
            self._journal,
            stores.ledger,
            interval_s=ledger.flush_interval_s,
            max_batch=ledger.max_batch,
            ended=stores.budgets.release,
        )
        rules = LimitRules(bounds)
        columns = columns_for(settings.server.workers + settings.jobs.workers)
        table = LimitTable(settings.data / "run", rows=bounds.max_keys, columns=columns)
        self._limits = KeyLimits(table, max_wait_s=bounds.max_wait_s)
        self.admission = Admission(rules, self._limits, max_wait_s=bounds.max_wait_s, max_queue=bounds.max_queue)
        self.calls = ModelCalls(most=bounds.max_calls, max_queue=bounds.max_queued_calls, max_wait_s=bounds.max_wait_s)
        self._leases = Leases(stores.budgets, settings.budgets, worker, self._journal.begin)
        self.budgets = BudgetBook(
            stores.budgets,
            settings.budgets,
            Snapshot(settings.data / "snapshot", "budgets", Budget),
            self._leases.changed,
            refresh_s=settings.keys.refresh_s,
        )
        lengths = Lengths(settings.budgets.assumed_output_tokens)
        self.purse = BudgetPurse(self.budgets, self._leases, lengths, TokenRates(rules, self._limits), settings.budgets)
        self.meter = LedgerMeter(self._journal, observers, worker=worker, anonymous_per_minute=ledger.unauthenticated_rows_per_minute)

    async def open(self) -> None:
        """Before anything else begins."""
        await self.budgets.open()

    def start(self, background: Background) -> None:
        """Begin the background work."""
        background.start("ledger", self.pump.run)
        if self._sync:
            background.start("ledger sync", self.pump.keep_synced)
        background.start("limits", self._limits.run)
        background.start("budgets", self.budgets.run)
        background.start("budget snapshot", self.budgets.save)
        background.start("leases", self._leases.run)

    async def drain(self) -> None:
        """Store all that waits, and give back what is reserved. Raises the stores' errors."""
        await self.pump.drain()
        await self._leases.release()

    def close(self) -> None:
        """Let go of the files. What the store does not have waits on disk for the next start."""
        self._journal.close()
        self._limits.close()

    def register(self, metrics: Metrics) -> None:
        """Show how it does."""
        gauge, counter = metrics.gauge, metrics.counter
        backlog = "Ledger entries that the store does not have yet."
        gauge(names.LEDGER_BACKLOG, backlog, lambda: self._journal.backlog_bytes, unit="By")
        counter(names.LEDGER_DROPPED, "Ledger entries for which there was no room.", lambda: self._journal.dropped)
        counter(names.LEDGER_REJECTED, "Ledger entries, and pieces of damaged ones, set aside.", lambda: self._journal.rejected)
        gauge(names.LEDGER_STORE_AWAY, "1 while the ledger's store is away.", lambda: int(self.pump.store_away), merge="max")
        gauge(names.CALLS, "Model calls under way.", lambda: self.calls.under_way)
        in_line = "Requests that wait for one of their key, or for a model call, to end."
        gauge(names.WAITING, in_line, lambda: self.admission.waiting, attributes={names.LIMIT: "concurrency"})
        gauge(names.WAITING, in_line, lambda: self.calls.waiting, attributes={names.LIMIT: "calls"})
        refused = "Requests refused for a limit of their key, or because the worker had too many model calls under way."
        for limit in self._limits.refused:
            counter(names.LIMITED, refused, partial(self._limits.refused.__getitem__, limit), attributes={names.LIMIT: limit})
        counter(names.LIMITED, refused, lambda: self.calls.refused, attributes={names.LIMIT: "calls"})
        counter(names.BUDGET_REFUSED, "Attempts refused by a hard budget, or for want of a price.", lambda: self.purse.refused)
        gauge(names.BUDGET_STORE_AWAY, "1 while budgets cannot be renewed.", lambda: int(self._leases.away), merge="max")
        counter(names.LIMITS_UNCOUNTED, "Requests that limits could not count: no file, or no row in it.", lambda: self._limits.uncounted)
