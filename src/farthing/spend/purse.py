"""The purse: money and tokens are kept before each attempt and settled after it. See `ports.Purse`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from farthing.budgets import Budget
from farthing.errors import BudgetExceeded, BudgetUnverified, PriceUnknown
from farthing.ports import Reservation
from farthing.settings import BudgetSettings
from farthing.spend.budget_book import BudgetBook
from farthing.spend.leases import Lease, Leases
from farthing.spend.lengths import Bounds, Lengths
from farthing.spend.limits import TokenRates
from farthing.types import Limits, Price, Principal, Request, Usage, dollars, utc_now

_ASK_AGAIN_S = 0.1
_MILLION = 1_000_000


class _Held:
    """See `ports.Reservation`."""

    __slots__ = ("_leases", "_lengths", "_model", "_taken")

    def __init__(self, leases: Leases, lengths: Lengths, model: str, taken: list[tuple[Lease, int]]) -> None:
        self._leases = leases
        self._lengths = lengths
        self._model = model
        self._taken = taken

    def settle(self, usage: Usage, cost_microusd: int) -> None:
        if usage.output:
            self._lengths.saw(self._model, usage)
        for lease, amount in self._taken:
            self._leases.settle(lease, amount, cost_microusd)


class _HeldTokens:
    """A reservation of tokens per minute, over one of money."""

    __slots__ = ("_limits", "_money", "_rates", "_reserved", "_who")

    def __init__(self, money: Reservation, rates: TokenRates, who: Principal, limits: Limits, reserved: int) -> None:
        self._money = money
        self._rates = rates
        self._who = who
        self._limits = limits
        self._reserved = reserved

    def settle(self, usage: Usage, cost_microusd: int) -> None:
        self._rates.settle(self._who, self._limits, self._reserved, usage.input + usage.output)
        self._money.settle(usage, cost_microusd)


class _Nothing:
    """For callers without budgets."""

    __slots__ = ()

    def settle(self, usage: Usage, cost_microusd: int) -> None:
        """Nothing was kept."""


class BudgetPurse:
    """Keeps money of every budget of the caller, out of this worker's leases.

    A request that does not fit waits up to `wait_s` for calls under way to give back what they do not use; it is refused at once when the
    ledger says that the budget is spent. `refused` counts.
    """

    def __init__(self, book: BudgetBook, leases: Leases, lengths: Lengths, rates: TokenRates, settings: BudgetSettings) -> None:
        self._book = book
        self._leases = leases
        self._lengths = lengths
        self._rates = rates
        self._settings = settings
        self._nothing = _Nothing()
        self.refused = 0

    async def reserve(self, request: Request, upstream_model: str, price: Price) -> Reservation:
        """See `ports.Purse.reserve`."""
        who = request.principal
        if not self._book.ready and not await self._book.known() and not price.free:
            self.refused += 1
            raise BudgetUnverified("It is not known yet which budgets there are: the database is away.", retry_after_s=2.0)
        budgets = self._book.of(who, request.user)
        limits = self._rates.of(who)
        if not budgets and limits is None:
            return self._nothing
        bounds = self._lengths.bounds(request, upstream_model)
        tokens = bounds.input + bounds.wanted
        if limits is not None:
            self._rates.reserve(who, limits, tokens)
        money: Reservation = self._nothing
        try:
            if budgets and not price.free:
                taken = await self._keep(budgets, bounds, price, upstream_model)
                money = _Held(self._leases, self._lengths, upstream_model, taken)
                request.over_budget = any(not lease.budget.hard and lease.over for lease, _ in taken)
        except BaseException as error:
            self.refused += isinstance(error, BudgetExceeded | BudgetUnverified | PriceUnknown)
            if limits is not None:
                self._rates.settle(who, limits, tokens, 0)
            raise
        return money if limits is None else _HeldTokens(money, self._rates, who, limits, tokens)

    async def _keep(self, budgets: Sequence[Budget], bounds: Bounds, price: Price, model: str) -> list[tuple[Lease, int]]:
        """Take the same amount out of each budget's lease; soft ones only count."""
        leases = [self._leases.of(budget) for budget in budgets]
        hard = [lease for lease in leases if lease.budget.hard]
        if hard and price.source == "none" and self._settings.unknown_price == "refuse":
            raise PriceUnknown(
                f"A hard budget holds for this key, and what {model!r} costs is not known. The operator must give it a price: "
                "models.NAME.price.input_usd_per_1m and output_usd_per_1m in the settings.",
                param="model",
            )
        amount = _amount(price, bounds.input, bounds.wanted)
        now = time.monotonic()
        for lease in hard:
            if lease.free(now) < amount:
                amount = await self._wait_for(hard, amount, _amount(price, bounds.input, bounds.least))
                now = time.monotonic()
                break
        for lease in leases:
            self._leases.take(lease, amount, now)
        return [(lease, amount) for lease in leases]

    async def _wait_for(self, leases: Sequence[Lease], wanted: int, least: int) -> int:
        """Ask, and wait for what comes back, until there is enough.

        Returns how much there is: `wanted`, or, for one request at a time whose length nobody knows, what is left, down to `least`.
        """
        until = time.monotonic() + self._settings.wait_s
        while True:
            short = [lease for lease in leases if lease.free(time.monotonic()) < wanted]
            if not self._leases.away:  # else the background asks until it is back; nobody needs to wait for that
                await self._leases.refill([(lease, wanted, least) for lease in short])
            now = time.monotonic()
            found = min(lease.free(now) for lease in leases)
            if found >= wanted or (found >= least and all(lease.alone for lease in short)):
                return min(found, wanted)
            if self._leases.away:
                raise BudgetUnverified(
                    "A hard budget cannot be checked: the database is away and this worker's share is used up.", retry_after_s=2.0
                )
            for lease in short:
                if lease.spent_up(least):
                    raise BudgetExceeded(_spent_up(lease))
            if now >= until:
                raise BudgetExceeded(f"{_spent_up(short[0])} What is left is reserved by calls under way.", passing=True)
            await self._leases.freed(min(_ASK_AGAIN_S, until - now))


def _amount(price: Price, tokens_in: int, tokens_out: int) -> int:
    """Micro-dollars, rounded up, with the dearest way to count the input; at least one, so that an empty budget lets nothing through."""
    for start, tier in price.tiers:
        if tokens_in > start:
            price = tier
    total = tokens_in * max(price.input, price.cache_write, price.cache_write_1h or 0) + tokens_out * price.output
    return max(1, -(-total // _MILLION))


def _spent_up(lease: Lease) -> str:
    """For the caller: numbers of its own budgets only, not of those that it shares with strangers."""
    budget, state = lease.budget, lease.state
    whose = {"total": "of this installation", "tier": f"of the tier {budget.subject!r}", "key": "of this API key"}.get(
        budget.scope, f"of the {budget.scope} {budget.subject!r}"
    )
    numbers = ""
    if budget.tenant is not None and state is not None:
        numbers = f": {dollars(state.spent)} of {dollars(state.limit_microusd)} USD are spent"
    again = ""
    if budget.window.kind in {"hour", "day", "month"}:
        again = f" It begins anew at {budget.window.end(utc_now()):%Y-%m-%dT%H:%M:%SZ}."
    return f"The budget {whose} ({budget.window}) has no room for this request{numbers}.{again}"
