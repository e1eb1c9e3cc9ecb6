"""Who goes down for the sake of the total ceiling, in which order, and what each of them would spend. Pure, over the demand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from statistics import median

from farthing.modes import pin_of, worst_of
from farthing.settings import ModesSettings
from farthing.spend.demand import Demand
from farthing.spend.forecast import NOTHING, Flow, Rate
from farthing.spend.mode_policy import Group
from farthing.types import TOTAL, Mode, ModeState

_MOST_ALONE = 16
"""Keys that may be down alone for the sake of the total ceiling."""
_FEWEST_KEYS = 3
"""Of so few keys none is out of the ordinary."""


class Groups:
    """First keys that are down alone, then tiers that the settings do not name, then those they name, in their order.

    Whoever is pinned is in no group. Whoever has a worse mode than his tier counts in the tier's group by his own mode.
    """

    def __init__(self, settings: ModesSettings, ladder: Sequence[Mode], demand: Demand) -> None:
        self._settings = settings
        self._ladder = ladder
        self._demand = demand

    def of(self, state: ModeState, now: float, at: datetime, alone: Sequence[str]) -> tuple[list[list[str]], list[Group], Rate]:
        """Who may be sent down, in which order, by which scopes; and what those spend that are pinned."""
        rates = {tier: list(flow.rates(now)) for tier, flow in self._demand.tiers.items()}
        fixed = self._take_out(state, now, at, alone, rates)
        scopes: list[list[str]] = []
        groups: list[Group] = []
        for key in alone:
            scope = f"key:{key}"
            scopes.append([scope])
            groups.append(Group(name=scope, rates=self._demand.keys[key].rates(now), rung=worst_of(state, [scope], self._ladder, at).rank))
        for tiers in self._order():
            free = []
            for tier in tiers:
                pin = pin_of(state, (f"tier:{tier}", TOTAL), self._ladder, at)
                if pin is not None:
                    fixed += rates[tier][pin.rank]
                else:
                    free.append(tier)
            if free:
                names = [f"tier:{tier}" for tier in free] if self._settings.tiers else [TOTAL]
                summed = tuple(sum((rates[tier][rank] for tier in free), NOTHING) for rank in range(len(self._ladder)))
                scopes.append(names)
                groups.append(Group(name=names[0], rates=summed, rung=worst_of(state, names, self._ladder, at).rank))
        return scopes, groups, fixed

    def _order(self) -> list[list[str]]:
        """Tiers, the first ones to go down first. Those that are not named go together, before all."""
        seen = self._demand.tiers
        named = self._settings.tiers
        others = [tier for tier in seen if tier not in named]
        return [group for group in (others, *([tier] for tier in named if tier in seen)) if group]

    def _take_out(self, state: ModeState, now: float, at: datetime, alone: Sequence[str], rates: dict[str, list[Rate]]) -> Rate:
        """Take those whose mode is not that of their tier out of their tier's rates. Returns what the pinned ones spend."""
        for tier in {self._demand.keys[key].tier for key in alone}:
            rates[tier] = self._without(tier, alone, now)
        fixed = NOTHING
        apart = {scope.removeprefix("tenant:") for held in (state.entries, state.pins) for scope in held if scope.startswith("tenant:")}
        for (tenant, tier), flow in self._demand.tenants.items():
            if tenant in apart:
                fixed += self._take_one(state, (f"tenant:{tenant}",), flow, tier, rates, now, at)
        for scope in {**state.entries, **state.pins}:
            key = scope.removeprefix("key:")
            flow_of_key = self._demand.keys.get(key) if scope.startswith("key:") else None
            if flow_of_key is None or key in alone or (flow_of_key.tenant in apart and flow_of_key.tenant in self._settings.tenants):
                continue
            fixed += self._take_one(state, (scope, f"tenant:{flow_of_key.tenant}"), flow_of_key, flow_of_key.tier, rates, now, at)
        return fixed

    def _without(self, tier: str, alone: Sequence[str], now: float) -> list[Rate]:
        """What a tier would spend without some keys. Summed over the others: what those cost has nothing to do with what these cost."""
        rates = [NOTHING] * len(self._ladder)
        seen = 0.0
        left = self._demand.tiers[tier].requests_per_s(now)
        for key, flow in self._demand.keys.items():
            if flow.tier != tier:
                continue
            if key in alone:
                left -= flow.requests_per_s(now)
                continue
            seen += flow.requests_per_s(now)
            rates = [whole + part for whole, part in zip(rates, flow.rates(now), strict=True)]
        more = max(left / seen, 1.0) if seen > 0 and len(self._demand.keys) >= self._settings.max_keys // 2 else 1.0
        return [rate.scaled(more, more, more) for rate in rates]

    def _take_one(
        self,
        state: ModeState,
        scopes: tuple[str, ...],
        flow: Flow,
        tier: str,
        rates: dict[str, list[Rate]],
        now: float,
        at: datetime,
    ) -> Rate:
        """Count a part of a tier by its own mode. Returns what it spends if it is pinned; else it stays in the tier's rates."""
        parts = flow.rates(now)
        brisk, fast, slow = flow.share_of(self._demand.tiers[tier], now)
        rest = [whole.scaled(1 - brisk, 1 - fast, 1 - slow) for whole in rates[tier]]
        pin = pin_of(state, scopes, self._ladder, at)
        if pin is not None:
            rates[tier] = rest
            return parts[pin.rank]
        own = worst_of(state, scopes, self._ladder, at).rank
        rates[tier] = [whole + parts[max(own, rank)] for rank, whole in enumerate(rest)]
        return NOTHING

    def alone(self, state: ModeState, at: datetime) -> list[str]:
        """Keys that are down by themselves, and not pinned."""
        keys = [scope.removeprefix("key:") for scope in state.entries if scope.startswith("key:")]
        return [key for key in keys if key in self._demand.keys and pin_of(state, self.scopes_of_key(key), self._ladder, at) is None][
            :_MOST_ALONE
        ]

    def scopes_of_key(self, key: str) -> tuple[str, str, str, str]:
        """The scopes that a key is in, the narrowest first."""
        flow = self._demand.keys[key]
        return f"key:{key}", f"tenant:{flow.tenant}", f"tier:{flow.tier}", TOTAL

    def suspects(self, alone: Sequence[str], now: float) -> list[str]:
        """The key that alone makes most of the spending, far out of the ordinary, if there is one."""
        rates = {key: flow.rates(now)[0].fast for key, flow in self._demand.keys.items()}
        busy = {key: rate for key, rate in rates.items() if rate > 0}
        if len(busy) < _FEWEST_KEYS:
            return []
        settings = self._settings.keys
        others = {key: rate for key, rate in busy.items() if key not in alone}
        key, rate = max(others.items(), key=lambda one: one[1], default=("", 0.0))
        usual = median(value for name, value in busy.items() if name != key)
        abuses = rate > settings.abuse_share * sum(others.values()) and rate >= settings.abuse_factor * usual
        return [key] if abuses and len(alone) < _MOST_ALONE else []
