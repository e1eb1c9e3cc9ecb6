"""A worker's share of the budgets: how much of each it may spend without asking, kept up by one conversation with the store.

A lease is a part of a budget that only this worker spends from. It is asked for in the background before it runs out, and on the spot
when a request does not fit; all that is wanted at one time goes in one question. What is not needed goes back when the budget is tight.
A lease holds until its time is over by this worker's own clock, counted from before the question: whatever becomes of the database, two
workers never hold the same money.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from farthing.budgets import Ask, Budget, LeaseState
from farthing.errors import FarthingError
from farthing.ports import BudgetStore
from farthing.settings import BudgetSettings
from farthing.types import utc_now

_log = logging.getLogger("farthing.budgets")
_TICK_S = 1.0
_PAUSE_S = 0.5
_BACK_AFTER_S = 0.05
"""Money that came free and is not needed goes back after this time: another worker may wait for it."""
_IDLE_S = 60.0
_AHEAD_S = 10.0
"""A worker keeps what it spends in this time, where the budget is wide enough."""
_TIGHT = 4
"""A budget of which less is left than this many cushions is tight: workers keep what a second takes, and give back the rest."""


class Lease:
    """Of one budget, in one window. All amounts are micro-dollars; `used` and `reserved` are taken out of `granted`."""

    def __init__(self, budget: Budget, window_start: datetime, ends: float) -> None:
        self.budget = budget
        self.window_start = window_start
        self.ends = ends
        self.granted = 0
        self.used = 0
        self.reserved = 0
        self.valid_until = 0.0
        self.touched = time.monotonic()
        self.state: LeaseState | None = None
        self.cushion = 0
        self._rate = 0.0
        self._used_then = 0

    def free(self, now: float) -> int:
        """What may be reserved now. `now` is monotonic, in seconds."""
        return self.granted - self.used - self.reserved if now < self.valid_until else 0

    def spent_up(self, least: int) -> bool:
        """Whether the ledger says that `least` cannot be had in this window, whatever calls under way give back."""
        return self.state is not None and self.state.spent + least > self.state.limit_microusd

    @property
    def over(self) -> bool:
        """Whether the ledger says that the limit is reached."""
        return self.state is not None and self.state.spent >= self.state.limit_microusd

    @property
    def alone(self) -> bool:
        """Whether no call under way, here or elsewhere, may still spend of the budget."""
        return self.reserved == 0 and self.state is not None and self.state.others == 0

    def take_in(self, state: LeaseState, valid_until: float) -> None:
        """The store's word. Where it knows of no lease while we do, it has forgotten ours: what was used is in the ledger by then."""
        if state.fresh and self.state is not None:
            self.used = self._used_then = 0
        was_over = self.over
        self.granted = state.granted
        self.valid_until = valid_until
        self.state = state
        if self.over and not was_over:
            whose = f"{self.budget.scope} {self.budget.subject}".strip()
            _log.warning("the %s budget of %s (%s) is spent", "hard" if self.budget.hard else "soft", whose, self.budget.window)

    def beat(self, seconds: float) -> None:
        """Learn how fast it is spent."""
        self._rate = (self._rate + (self.used - self._used_then) / seconds) / 2
        self._used_then = self.used

    def plan(self, share: float) -> None:
        """Decide how much to keep in hand: `cushion`."""
        state = self.state
        usual = int(self.budget.limit_microusd * share)
        left = usual * _TIGHT if state is None else state.limit_microusd - state.spent - state.others
        if left < usual * _TIGHT:
            self.cushion = min(usual, int(self._rate * _TICK_S))
        else:
            self.cushion = max(usual, min(int(self._rate * _AHEAD_S), left // 8))


class Leases:
    """All leases of this worker. `away`: the store did not answer the last time. `begin` is called before the first question."""

    def __init__(self, store: BudgetStore, settings: BudgetSettings, worker: str, begin: Callable[[], None]) -> None:
        self._store = store
        self._settings = settings
        self._worker = worker
        self._begin = begin
        self._leases: dict[UUID, Lease] = {}
        self._wants: dict[UUID, tuple[int, int]] = {}
        self._wake = asyncio.Event()
        self._round: asyncio.Future[None] | None = None
        self._freed: asyncio.Future[None] | None = None
        self._soon: asyncio.TimerHandle | None = None
        self.away = False

    def of(self, budget: Budget) -> Lease:
        """The lease of a budget in its present window."""
        lease = self._leases.get(budget.id)
        if lease is not None and time.time() < lease.ends:
            return lease
        now = utc_now()
        lease = self._leases[budget.id] = Lease(budget, budget.window.start(now), budget.window.end(now).timestamp())
        lease.plan(self._settings.grant_share)
        return lease

    def changed(self, budgets: Sequence[Budget]) -> None:
        """Budgets came, went, or have other limits. A lease of one that was lowered counts no more until the store has spoken."""
        known = {budget.id: budget for budget in budgets}
        for budget_id, lease in list(self._leases.items()):
            budget = known.get(budget_id)
            if budget is None:
                del self._leases[budget_id]
                continue
            if budget.limit_microusd < lease.budget.limit_microusd:
                lease.valid_until = 0.0
                self._wake.set()
            lease.budget = budget
            lease.plan(self._settings.grant_share)

    def take(self, lease: Lease, amount: int, now: float) -> None:
        """Reserve what is free."""
        lease.reserved += amount
        lease.touched = now
        if lease.granted - lease.used - lease.reserved < lease.cushion // 4:
            self._wake.set()

    def settle(self, lease: Lease, amount: int, cost: int) -> None:
        """Let go of a reservation. What was spent counts in the window of now, as it does in the ledger."""
        lease.reserved -= amount
        if cost:
            self.of(lease.budget).used += cost
        if self._soon is None and lease.granted - lease.used - lease.reserved > 2 * lease.cushion:
            self._soon = asyncio.get_running_loop().call_later(_BACK_AFTER_S, self._give_back)
        if self._freed is not None:
            freed, self._freed = self._freed, None
            freed.set_result(None)

    def _give_back(self) -> None:
        self._soon = None
        self._wake.set()

    async def refill(self, needs: Sequence[tuple[Lease, int, int]]) -> None:
        """Ask the store for more: (lease, wanted, least) each, together with all who ask now. Returns when it has answered or is away.

        Of those who want the same budget's, the smallest wish is what must be had.
        """
        for lease, wanted, least in needs:
            known = self._wants.get(lease.budget.id, (wanted, least))
            self._wants[lease.budget.id] = (min(known[0], wanted), min(known[1], least))
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        self._wake.set()
        await asyncio.shield(self._round)

    async def freed(self, timeout_s: float) -> None:
        """Wait until a reservation of this worker is settled, or the time is over."""
        if self._freed is None:
            self._freed = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._freed)
        except TimeoutError:
            return

    async def run(self) -> None:
        """Converse with the store until cancelled."""
        beat = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(_TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            now = time.monotonic()
            if now - beat >= _TICK_S:
                for lease in self._leases.values():
                    lease.beat(now - beat)
                    lease.plan(self._settings.grant_share)
                beat = now
            await self._converse(now)
            if self.away:
                await asyncio.sleep(_PAUSE_S)

    async def _converse(self, now: float) -> None:
        """One question, and its answer for all who wait for it."""
        waiting, self._round = self._round, None
        wants, self._wants = self._wants, {}
        try:
            await self._ask(wants, now)
        except (FarthingError, TimeoutError) as error:
            if not self.away:
                _log.warning("budgets: the store is away; %s", error)
            self.away = True
        finally:
            if waiting is not None:
                waiting.set_result(None)

    async def _ask(self, wants: dict[UUID, tuple[int, int]], now: float) -> None:
        asks = []
        wall = utc_now()
        for budget_id, lease in self._leases.items():
            found = self._change(lease, wants.get(budget_id), now)
            if found is None:
                continue
            change, least, spare, rest = found
            # What goes back, or may, is not to be spent while the question is under way, nor after one without an answer.
            lease.granted += min(change, 0) - spare
            window = lease.budget.window
            asks.append(
                Ask(
                    budget_id=budget_id,
                    window_start=lease.window_start,
                    since=window.since(wall),
                    change=change,
                    least=least,
                    spare=spare,
                    rest=rest,
                )
            )
        if not asks:
            self.away = False  # as far as anybody knows: the next request that needs a grant finds out
            return
        self._begin()
        async with asyncio.timeout(self._settings.store_timeout_s):
            states = await self._store.lease(self._worker, asks, self._settings.lease_ttl_s)
        self.away = False
        for state in states:
            lease_now = self._leases.get(state.budget_id)
            if lease_now is not None:
                lease_now.take_in(state, now + self._settings.lease_ttl_s)
                lease_now.plan(self._settings.grant_share)

    def _change(self, lease: Lease, want: tuple[int, int] | None, now: float) -> tuple[int, int, int, int | None] | None:
        """What to ask for a lease, as `Ask` has it: (change, least, spare, rest); None for nothing."""
        in_hand = lease.granted - lease.used - lease.reserved
        if not lease.budget.hard:
            return (0, 0, 0, None) if now - lease.touched < _IDLE_S else None
        cushion = lease.cushion
        if want is not None:
            full, rest = want
            return (
                max(1, full + cushion - in_hand),
                max(0, full - in_hand),
                max(0, in_hand),
                None if lease.reserved else max(0, rest - in_hand),
            )
        if now - lease.touched > _IDLE_S:
            return (-in_hand, 0, 0, None) if in_hand > 0 and now < lease.valid_until else None
        if in_hand < cushion // 2:
            return cushion - in_hand, 0, 0, None
        return min(0, cushion * 2 - in_hand), 0, 0, None

    async def release(self) -> None:
        """At the end, when all entries are in the ledger: give everything back."""
        await self._store.release(self._worker)
