"""Modes decided from spending: the demand, one plan for each ceiling, and what follows for the state that all workers share. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from farthing.modes import MOST_ENTRIES, pin_of, set_mode, worst_of
from farthing.settings import ModesSettings
from farthing.spend.demand import Demand
from farthing.spend.forecast import NOTHING, Rate
from farthing.spend.mode_groups import Groups
from farthing.spend.mode_policy import Ceiling, Episode, Group, Rules, choose, eta_s
from farthing.spend.window import Series, breaks_in_s
from farthing.types import TOTAL, Mode, ModeState, SpendRow, dollars

POLICY = "policy"
_NEAR = 0.25
"""Below this share of its ceiling a key needs no forecast."""


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """How the total ceiling stands. `exhausted_in_s`: at the present rate, and at the ends of its interval; None: not within a window."""

    spent_microusd: int
    ceiling_microusd: int | None
    microusd_per_s: float
    exhausted_in_s: float | None
    exhausted_in_s_at_most: float | None
    exhausted_in_s_at_least: float | None
    requests_per_s: dict[str, float]


class ModeControl:
    """`saw` what was spent, `decide` now and then. `clock` is Unix time that does not jump; `priors` what a request costs in each mode.

    `changes` counts decisions; `announced` is as in `Demand`.
    """

    def __init__(
        self,
        settings: ModesSettings,
        ladder: Sequence[Mode],
        clock: Callable[[], float],
        priors: Sequence[float] | None = None,
        *,
        announced: bool = False,
    ) -> None:
        self._settings = settings
        self._ladder = ladder
        self.demand = Demand(
            ladder,
            priors or default_priors(ladder),
            clock,
            window_s=settings.window_s,
            tenants=settings.tenants,
            max_keys=settings.max_keys,
            announced=announced,
        )
        self._rules = Rules(
            window_s=settings.window_s,
            margin=settings.margin,
            trip_at=settings.trip_at,
            horizon_s=min(settings.horizon_s, settings.window_s),
            recover_at=settings.recover_at,
            dwell_s=min(settings.dwell_s, settings.window_s),
            lowest=len(ladder) - 1,
        )
        self._limit = _microusd(settings.ceiling_usd)
        self._key_limit = _microusd(settings.keys.ceiling_usd)
        self._groups = Groups(settings, ladder, self.demand)
        self._episodes: dict[str, Episode] = {}
        self.changes = 0

    def saw(self, row: SpendRow) -> None:
        """Count what a request of this worker was."""
        self.demand.saw(row.tenant, row.tier, row.key_id, row.mode, row.microusd, row.requests)

    def decide(self, state: ModeState) -> ModeState | None:
        """The state as it should be now; None: as it is. Reads the clock; the same calls at the same times decide the same.

        What people have set for scopes that no ceiling is about stays.
        """
        now = self.demand.fold()
        at = datetime.fromtimestamp(now, UTC)
        wanted: dict[str, tuple[int, str]] = {}
        for scope, rung, reason in (*self._total(state, now, at), *self._tenants(state, now, at), *self._keys(state, now, at)):
            if scope not in wanted or rung > wanted[scope][0]:
                wanted[scope] = rung, reason
        return self._changed(state, wanted, at)

    def _changed(self, state: ModeState, wanted: dict[str, tuple[int, str]], at: datetime) -> ModeState | None:
        down = {scope: want for scope, want in wanted.items() if want[0]}
        kept = {scope: entry for scope, entry in state.entries.items() if scope in down or (scope not in wanted and entry.by != POLICY)}
        new = ModeState(entries=kept, pins=state.pins)
        for scope, (rung, reason) in down.items():
            if scope in kept or len(new.entries) < MOST_ENTRIES:
                new = set_mode(new, scope, self._ladder[rung].name, by=POLICY, reason=reason, now=at)
        if new.entries == state.entries:
            return None
        self.changes += 1
        return new

    def _total(self, state: ModeState, now: float, at: datetime) -> list[tuple[str, int, str]]:
        """The total ceiling: keys that are down alone, then tier by tier."""
        if self._limit is None:
            return []
        alone = self._groups.alone(state, at)
        scopes, groups, fixed = self._groups.of(state, now, at, alone)
        coming = self.demand.under_way_microusd()
        ceiling = self._ceiling(self._limit, self.demand.window.total, now, fixed, coming)
        if not math.isinf(eta_s(ceiling, groups, self._rules)) and (suspects := self._groups.suspects(alone, now)):
            scopes, groups, fixed = self._groups.of(state, now, at, [*suspects, *alone])
            ceiling = self._ceiling(self._limit, self.demand.window.total, now, fixed, coming)
        chosen = self._choose(TOTAL, ceiling, groups, state, now, at)
        why = self._why(ceiling, groups, "")
        return [(scope, rung, why) for names, rung in zip(scopes, chosen, strict=True) for scope in names]

    def _tenants(self, state: ModeState, now: float, at: datetime) -> list[tuple[str, int, str]]:
        """Each tenant's own ceiling."""
        wanted = []
        for tenant, its in self._settings.tenants.items():
            scope = f"tenant:{tenant}"
            flows = {tier: flow for (name, tier), flow in self.demand.tenants.items() if name == tenant}
            if not flows or pin_of(state, (scope, TOTAL), self._ladder, at) is not None:
                continue
            floor = min(worst_of(state, (f"tier:{tier}", TOTAL), self._ladder, at).rank for tier in flows)
            sums = [sum((flow.rates(now)[rank] for flow in flows.values()), NOTHING) for rank in range(len(self._ladder))]
            limit = _microusd(its.ceiling_usd) or 0
            wanted += self._own(scope, limit, self.demand.window.tenants[tenant], sums, floor, state, now, at)
        return wanted

    def _keys(self, state: ModeState, now: float, at: datetime) -> list[tuple[str, int, str]]:
        """The ceiling of every key, for those that are near it."""
        limit = self._key_limit
        if limit is None:
            return []
        wanted = []
        for key, series in self.demand.window.keys.items():
            scope = f"key:{key}"
            if key not in self.demand.keys or (series.total < _NEAR * limit and scope not in state.entries):
                continue
            _, *wider = scopes = self._groups.scopes_of_key(key)
            if pin_of(state, scopes, self._ladder, at) is None:
                floor = worst_of(state, wider, self._ladder, at).rank
                wanted += self._own(scope, limit, series, self.demand.keys[key].rates(now), floor, state, now, at)
        return wanted

    def _own(
        self,
        scope: str,
        limit: int,
        series: Series,
        rates: Sequence[Rate],
        floor: int,
        state: ModeState,
        now: float,
        at: datetime,
    ) -> list[tuple[str, int, str]]:
        """A ceiling over one scope. `floor`: in this mode it is in any case."""
        ceiling = self._ceiling(limit, series, now, NOTHING)
        floored = tuple(rates[max(rank, floor)] for rank in range(len(rates)))
        group = Group(name=scope, rates=floored, rung=worst_of(state, (scope,), self._ladder, at).rank)
        [rung] = self._choose(scope, ceiling, [group], state, now, at)
        return [(scope, rung, self._why(ceiling, [group], f" of {scope}"))]

    def _choose(self, name: str, ceiling: Ceiling, groups: Sequence[Group], state: ModeState, now: float, at: datetime) -> list[int]:
        episode = self._episodes.get(name)
        if episode is None:
            if len(self._episodes) > 2 * self._settings.max_keys:
                self._episodes.clear()
            episode = self._episodes[name] = Episode()
        ages = [(at - entry.since).total_seconds() for entry in state.entries.values()]
        return choose(ceiling, groups, self._rules, episode, now, max(min(ages, default=math.inf), 0.0))

    def _ceiling(self, limit: int, series: Series, now: float, fixed: Rate, coming: int = 0) -> Ceiling:
        return Ceiling(limit=limit, spent=series.total + coming, ends=tuple(self.demand.window.ends_in_s(series, now)), fixed=fixed)

    def _why(self, ceiling: Ceiling, groups: Sequence[Group], whose: str) -> str:
        window = f"{dollars(ceiling.limit)} USD in {self._rules.window_s:g} s"
        share = ceiling.spent / ceiling.limit if ceiling.limit else 1.0
        eta = eta_s(ceiling, groups, self._rules)
        if share < self._rules.trip_at and not math.isinf(eta):
            return f"at this rate the ceiling{whose} ({window}) is reached in {eta:.0f} s; {share:.0%} is spent or under way"
        return f"{share:.0%} of the ceiling{whose} ({window}) is spent or under way"

    def outlook(self, state: ModeState) -> Outlook:
        """How the total ceiling stands in the present modes."""
        now = self.demand.fold()
        at = datetime.fromtimestamp(now, UTC)
        _, groups, fixed = self._groups.of(state, now, at, self._groups.alone(state, at))
        total = sum((group.rates[group.rung] for group in groups), fixed)
        series = self.demand.window.total

        def within(rate: float) -> float | None:
            if self._limit is None:
                return None
            ceiling = self._ceiling(self._limit, series, now, NOTHING)
            seconds = breaks_in_s(ceiling.ends, ceiling.spent, rate, self._limit, self._rules.window_s)
            return None if math.isinf(seconds) else seconds

        return Outlook(
            spent_microusd=series.total,
            ceiling_microusd=self._limit,
            microusd_per_s=total.fast,
            exhausted_in_s=within(total.fast),
            exhausted_in_s_at_least=within(total.at_most),
            exhausted_in_s_at_most=within(total.surely),
            requests_per_s={tier: flow.requests_per_s(now) for tier, flow in self.demand.tiers.items()},
        )


def _microusd(usd: Decimal | None) -> int | None:
    return None if usd is None else int(usd * 1_000_000)


def default_priors(ladder: Sequence[Mode], usual: float = 2000.0) -> tuple[float, ...]:
    """What a request may cost in each mode, when nothing is known of prices: a guess from what is held back (micro-dollars)."""
    priors = []
    for rung in ladder:
        less = 0.6 if rung.history_turns or rung.retrieval_tokens or rung.retrieval_chunks else 1.0
        priors.append(usual * less * (0.8 if rung.max_tokens else 1.0) * (0.3 if rung.model else 1.0))
    return tuple(priors)
