"""Budgets as plain dictionaries over the ledger in process: what is spent is summed anew each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from farthing.budgets import Ask, Budget, BudgetUse, LeaseState
from farthing.errors import InvalidRequest, Unavailable
from farthing.inprocess.stores import InProcessChanges, InProcessLedger
from farthing.types import LedgerEntry, time_of, utc_now


class InProcessBudgets:
    """`ports.BudgetStore`. Holds `max_budgets` at most, then `put` raises `Unavailable`."""

    def __init__(
        self, ledger: InProcessLedger, changes: InProcessChanges, *, max_budgets: int = 10_000, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._ledger = ledger
        self._changes = changes
        self._max = max_budgets
        self._now = now
        self._budgets: dict[UUID, Budget] = {}
        # (budget, worker, window) → granted; when it lapses; what the worker had spent of the window before
        self._leases: dict[tuple[UUID, str, datetime], tuple[int, datetime, int]] = {}

    async def all(self, limit: int) -> list[Budget]:
        """See `ports.BudgetStore.all`."""
        return sorted(self._budgets.values(), key=lambda b: (b.created_at, b.id))[:limit]

    async def put(self, budget: Budget) -> None:
        """See `ports.BudgetStore.put`."""
        old = self._budgets.get(budget.id)
        if old is not None:
            if (old.scope, old.subject, old.tenant, old.window) != (budget.scope, budget.subject, budget.tenant, budget.window):
                raise InvalidRequest(f"There is a budget {budget.id} of another scope, subject or window.")
            budget = msgspec.structs.replace(old, limit_microusd=budget.limit_microusd, hard=budget.hard)
        elif len(self._budgets) >= self._max:
            raise Unavailable(f"The store in this process holds {self._max} budgets and no more.")
        self._budgets[budget.id] = budget
        self._changes.publish("budgets")

    async def delete(self, budget_id: UUID) -> bool:
        """See `ports.BudgetStore.delete`."""
        self._leases = {key: lease for key, lease in self._leases.items() if key[0] != budget_id}
        if self._budgets.pop(budget_id, None) is None:
            return False
        self._changes.publish("budgets")
        return True

    async def sync_settings(self, budgets: Sequence[Budget]) -> None:
        """See `ports.BudgetStore.sync_settings`."""
        wanted = {budget.id for budget in budgets}
        for budget in list(self._budgets.values()):
            if budget.origin == "settings" and budget.id not in wanted:
                await self.delete(budget.id)
        for budget in budgets:
            await self.put(budget)

    async def uses(self, budgets: Sequence[Budget], at: datetime) -> list[BudgetUse]:
        """See `ports.BudgetStore.uses`."""
        return [
            BudgetUse(
                budget=budget,
                spent_microusd=self._spent(budget, budget.window.since(at)),
                held_microusd=self._held_by_others(budget.id, budget.window.start(at), None),
            )
            for budget in budgets
            if budget.id in self._budgets
        ]

    async def lease(self, worker: str, asks: Sequence[Ask], ttl_s: float) -> list[LeaseState]:
        """See `ports.BudgetStore.lease`."""
        return [self._lease(worker, ask, ttl_s) for ask in asks if ask.budget_id in self._budgets]

    def _lease(self, worker: str, ask: Ask, ttl_s: float) -> LeaseState:
        budget = self._budgets[ask.budget_id]
        key = (budget.id, worker, ask.window_start)
        fresh = key not in self._leases
        before = self._settled(budget, worker, ask.window_start)
        granted, _, base = self._leases.get(key, (0, self._now(), before))
        settled = before - base
        own = granted - settled
        spent = self._spent(budget, ask.since)
        others = self._held_by_others(budget.id, ask.window_start, worker)
        room = budget.limit_microusd - spent - others
        if ask.change <= 0:
            held = own + ask.change
        elif room - own < ask.least:
            held = room if ask.rest is not None and others == 0 and room - own >= ask.rest else own - ask.spare
        else:
            held = own + min(ask.change, max(ask.least, (room - own) // 2))
        held = max(0, min(held, room))
        self._leases[key] = (settled + held, self._now() + timedelta(seconds=ttl_s), base)
        return LeaseState(
            budget_id=budget.id,
            limit_microusd=budget.limit_microusd,
            granted=settled + held,
            spent=spent,
            others=others,
            unsettled=held,
            fresh=fresh,
        )

    async def release(self, worker: str) -> None:
        """See `ports.BudgetStore.release`."""
        self._leases = {key: lease for key, lease in self._leases.items() if key[1] != worker}

    async def prune(self) -> None:
        """See `ports.BudgetStore.prune`."""
        self._leases = {key: lease for key, lease in self._leases.items() if lease[1] > self._now() - timedelta(days=1)}

    def _held_by_others(self, budget_id: UUID, start: datetime, worker: str | None) -> int:
        budget = self._budgets[budget_id]
        return sum(
            max(0, granted - (self._settled(budget, holder, start) - base))
            for (of, holder, window), (granted, expires_at, base) in self._leases.items()
            if of == budget_id and window == start and holder != worker and expires_at > self._now()
        )

    def _settled(self, budget: Budget, worker: str, start: datetime) -> int:
        return sum(e.cost_microusd for e in self._counted(budget) if e.worker == worker and budget.window.start(time_of(e.id)) == start)

    def _spent(self, budget: Budget, since: datetime) -> int:
        return sum(entry.cost_microusd for entry in self._counted(budget) if budget.window.bucket(time_of(entry.id)) >= since)

    def _counted(self, budget: Budget) -> list[LedgerEntry]:
        return [
            entry
            for entry in self._ledger.entries()
            if entry.price_source != "notional"
            and budget.covers(tenant=entry.tenant, key_id=entry.key_id, user=entry.user_id, tier=entry.tier)
        ]
