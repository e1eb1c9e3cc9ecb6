"""The decision: how far down must whom, so that a ceiling holds for the whole window? Pure.

It is model-predictive. What is in the window leaves it at known times; what each group would spend in each mode is forecast (`forecast`).
A plan says how deep all groups are: the first group goes down rung by rung to the lowest, then the next. Of the plans that keep under
the ceiling for a whole window, the one that degrades least is taken. It is left for a worse one only when it surely breaks the ceiling
soon, and for a better one only when that would hold though there came a good deal more: so a noisy demand changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from farthing.spend.forecast import NOTHING, Rate
from farthing.spend.window import breaks_in_s

_SETTLE_S = 15.0
_SETTLE_SHARE = 0.1
"""A break that is forecast must be forecast for this share of the time that is left before it is believed."""
_PATIENCE = 0.25
"""Of a window: so long a group waits for all of its rungs instead of taking one now and the others later."""
_RELAPSE = 0.25
"""Of a window: who comes up and must go down again within that time came up too early."""
_LONGER = 3.0
_MOST_RELAPSES = 6


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the policy; see `settings.ModesSettings`. `lowest` is the rank of the lowest rung."""

    window_s: float
    margin: float
    trip_at: float
    horizon_s: float
    recover_at: float
    dwell_s: float
    lowest: int


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Who goes down together. `rates` is what they would spend in each mode, `rung` the mode in which they are."""

    name: str
    rates: tuple[Rate, ...]
    rung: int


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """How a ceiling stands: what is spent, with what is under way, and when that leaves the window (seconds, micro-dollars).

    `fixed` is what those spend whom no plan moves.
    """

    limit: int
    spent: int
    ends: tuple[tuple[float, int], ...]
    fixed: Rate = NOTHING


class Episode:
    """What must be remembered of one ceiling from one decision to the next. `now` is in seconds and never goes back.

    A group that had to go down again soon after it had come up makes the next way up wait three times as long, and so on.
    """

    def __init__(self) -> None:
        self._breaking_since: float | None = None
        self._last: dict[str, int] | None = None
        self._changed_at = -math.inf
        self._rose_at = -math.inf
        self._relapses = 0
        self._halfway_since: float | None = None

    def note(self, groups: Sequence[Group], now: float, age_s: float, rules: Rules) -> None:
        """See which modes hold now, whoever decided it. `age_s` is for how long they have, where that is not known from here."""
        rungs = {group.name: group.rung for group in groups if group.rung}
        if self._last is None:
            self._changed_at = now - age_s
        elif rungs != self._last:
            if sum(rungs.values()) < sum(self._last.values()):
                self._rose_at = now
            elif now - self._rose_at < _RELAPSE * rules.window_s:
                self._relapses = min(self._relapses + 1, _MOST_RELAPSES)
            self._changed_at = now
            self._breaking_since = None
        elif now - self._changed_at > rules.window_s:
            self._relapses = 0
        self._last = rungs

    def rested(self, now: float, rules: Rules) -> bool:
        """Whether these modes have held for long enough to go up."""
        return now - self._changed_at >= min(rules.dwell_s * _LONGER**self._relapses, rules.window_s)

    def insists(self, now: float, *, halfway: bool, rules: Rules) -> bool:
        """Whether only a part of the way up could be gone for so long that it should be gone."""
        if not halfway:
            self._halfway_since = None
            return False
        if self._halfway_since is None:
            self._halfway_since = now
        return now - self._halfway_since >= 2 * rules.dwell_s

    def believes(self, now: float, eta_s: float) -> bool:
        """Whether a break that is forecast in `eta_s` has been for long enough; inf: none is."""
        if math.isinf(eta_s):
            self._breaking_since = None
            return False
        if self._breaking_since is None:
            self._breaking_since = now
        return now - self._breaking_since >= min(_SETTLE_S, _SETTLE_SHARE * eta_s)


def choose(ceiling: Ceiling, groups: Sequence[Group], rules: Rules, episode: Episode, now: float, age_s: float = math.inf) -> list[int]:
    """The rung of each group, in the order in which they go down."""
    rungs = tuple(group.rung for group in groups)
    episode.note(groups, now, age_s, rules)
    if ceiling.spent >= rules.trip_at * ceiling.limit:
        return [rules.lowest] * len(groups)
    if episode.believes(now, eta_s(ceiling, groups, rules)):
        return _down(ceiling, groups, rules, rungs)
    if any(rungs) and episode.rested(now, rules):
        plan, halfway = _up(ceiling, groups, rules, rungs)
        if plan != list(rungs) and (not halfway or episode.insists(now, halfway=True, rules=rules)):
            return plan
        episode.insists(now, halfway=halfway, rules=rules)
    return list(rungs)


def eta_s(ceiling: Ceiling, groups: Sequence[Group], rules: Rules) -> float:
    """In how many seconds the present modes surely break the ceiling; inf: not within the horizon."""
    present = _sum(ceiling, groups, [group.rung for group in groups])
    return _eta(ceiling, present.surely, _aim(ceiling, rules), min(rules.horizon_s, rules.window_s))


def _aim(ceiling: Ceiling, rules: Rules) -> float:
    """What plans keep under: the ceiling less the margin; when that is spent already, what is left before all must go down."""
    limit = ceiling.limit * (1 - rules.margin)
    return limit if ceiling.spent < limit else rules.trip_at * ceiling.limit


def _down(ceiling: Ceiling, groups: Sequence[Group], rules: Rules, rungs: tuple[int, ...]) -> list[int]:
    """The least that lasts for a whole window; the lowest, when nothing does."""
    limit = _aim(ceiling, rules)
    for depth in range(len(groups) * rules.lowest + 1):
        plan = [max(there, now) for there, now in zip(_plan(depth, len(groups), rules.lowest), rungs, strict=True)]
        if plan != list(rungs) and math.isinf(_eta(ceiling, _sum(ceiling, groups, plan).likely, limit, rules.window_s)):
            return plan
    return [rules.lowest] * len(groups)


def _up(ceiling: Ceiling, groups: Sequence[Group], rules: Rules, rungs: tuple[int, ...]) -> tuple[list[int], bool]:
    """The best plan that would hold though more came, and whether it takes a group a part of the way up only.

    The present plan, when none does, or when the whole way could be gone before long.
    """
    if ceiling.spent > ceiling.limit * (rules.recover_at + 1 - rules.margin) / 2:
        return list(rungs), False
    for depth in range(len(groups) * rules.lowest):
        plan = [min(there, now) for there, now in zip(_plan(depth, len(groups), rules.lowest), rungs, strict=True)]
        if plan == list(rungs):
            break
        if not _stands(ceiling, _sum(ceiling, groups, plan).at_most, rules):
            continue
        halfway = [at for at, (there, now) in enumerate(zip(plan, rungs, strict=True)) if 0 < there < now]
        if not halfway:
            return plan, False
        whole = [0 if at == halfway[0] else there for at, there in enumerate(plan)]
        later = _later(ceiling, _sum(ceiling, groups, rungs).fast, _PATIENCE * rules.window_s)
        if not _stands(later, _sum(ceiling, groups, whole).surely, rules):
            return plan, True
        plan[halfway[0]] = rungs[halfway[0]]
        return plan, False
    return list(rungs), False


def _stands(ceiling: Ceiling, rate: float, rules: Rules) -> bool:
    """Whether spending at a rate, and a good deal more, lasts for a whole window."""
    return math.isinf(_eta(ceiling, rate / rules.recover_at, _aim(ceiling, rules), rules.window_s))


def _later(ceiling: Ceiling, rate: float, seconds: float) -> Ceiling:
    """How the ceiling will stand when it goes on like this for a while."""
    gone = sum(microusd for at, microusd in ceiling.ends if at <= seconds)
    ends = tuple((at - seconds, microusd) for at, microusd in ceiling.ends if at > seconds)
    return Ceiling(limit=ceiling.limit, spent=ceiling.spent - gone + round(rate * seconds), ends=ends, fixed=ceiling.fixed)


def _eta(ceiling: Ceiling, rate: float, limit: float, within_s: float) -> float:
    return breaks_in_s(ceiling.ends, ceiling.spent, rate, limit, within_s)


def _plan(depth: int, groups: int, lowest: int) -> list[int]:
    return [min(max(depth - at * lowest, 0), lowest) for at in range(groups)]


def _sum(ceiling: Ceiling, groups: Sequence[Group], rungs: Sequence[int]) -> Rate:
    total = ceiling.fixed
    for group, rung in zip(groups, rungs, strict=True):
        total += group.rates[rung]
    return total
