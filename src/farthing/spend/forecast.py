"""How much is asked, and what a request costs in each mode: kept apart, so that the same demand can be priced in another mode.

Demand is a compound Poisson process: its rate is an exponentially weighted count, of which the variance is λ·E[c²]/2τ (Campbell's
theorem for the kernel e^(-t/τ)/τ). Costs are means by mode, over the long run and of the last minute; a mode that was not seen yet is
priced by what its rung holds back, at the level of those that were seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Constants(msgspec.Struct, frozen=True):
    """Time constants of the demand, in seconds."""

    brisk: float = 2.0
    fast: float = 15.0
    slow: float = 120.0

    @classmethod
    def within(cls, window_s: float) -> Constants:
        """Those for a window: shorter ones for one of minutes."""
        return cls(min(2.0, window_s / 60), min(15.0, window_s / 20), min(120.0, window_s / 4))


_RECENT_S = 60.0
_PRIOR = 5.0
"""How many requests the price of a mode that was not seen weighs."""
_LONG_RUN = 20.0
"""How many requests of the long run the last minute is held against."""
_UNDOUBTED = 50.0
"""Requests, after which little is left of the first guess of the level."""
_REMEMBERED = 400.0
_DISPERSION = 2.0
"""E[c²]/E[c]² where nothing is known: that of an exponential distribution."""
_MOST_DISPERSION = 50.0


class Costs:
    """What a request costs in each mode (micro-dollars). `priors` are guesses, by rung; `like`: those of whom these are a part."""

    __slots__ = ("_at", "_like", "_long", "_means", "_priors", "_recent")

    def __init__(self, priors: Sequence[float], like: Costs | None = None) -> None:
        self._priors = priors
        self._like = like
        self._long = [[0.0, 0.0, 0.0] for _ in priors]
        self._recent = [[0.0, 0.0] for _ in priors]
        self._at = 0.0
        self._means: tuple[float, ...] | None = None

    def saw(self, now: float, rung: int, requests: int, microusd: float, squares: float) -> None:
        """Count what requests in a mode cost, and the sum of the squares of that."""
        if self._at and now > self._at:
            fade = math.exp((self._at - now) / _RECENT_S)
            for recent in self._recent:
                recent[0] *= fade
                recent[1] *= fade
        self._at = max(now, self._at)
        self._recent[rung][0] += requests
        self._recent[rung][1] += microusd
        long = self._long[rung]
        long[0] += requests
        long[1] += microusd
        long[2] += squares
        if long[0] > _REMEMBERED:
            fade = _REMEMBERED / long[0]
            long[:] = [value * fade for value in long]
        self._means = None

    def means(self) -> tuple[float, ...]:
        """By rung. A lower rung is never expected to be dearer."""
        if self._means is None or self._like is not None:
            priors = self._priors if self._like is None else self._like.means()
            level = self._level(priors)
            means, least = [], math.inf
            for prior, long, recent in zip(priors, self._long, self._recent, strict=True):
                in_the_long_run = (long[1] + _PRIOR * prior * level) / (long[0] + _PRIOR)
                least = min(least, (recent[1] + _LONG_RUN * in_the_long_run) / (recent[0] + _LONG_RUN))
                means.append(least)
            self._means = tuple(means)
        return self._means

    def _level(self, priors: Sequence[float]) -> float:
        """How many times as dear these requests are as the priors say."""
        known = [(long[0], long[0] * prior, long[1]) for prior, long in zip(priors, self._long, strict=True) if prior > 0]
        if not known:
            return 1.0
        doubt = _PRIOR * max(priors) * math.exp(-sum(requests for requests, _, _ in known) / _UNDOUBTED)
        return (sum(cost for _, _, cost in known) + doubt) / (sum(expected for _, expected, _ in known) + doubt)

    def dispersion(self) -> float:
        """E[c²]/E[c]² within a mode."""
        requests = squares = expected = 0.0
        for count, cost, square in self._long:
            if cost > 0 and count >= 1:
                requests += count
                squares += square
                expected += cost * cost / count
        return min(max(squares / expected, 1.0), _MOST_DISPERSION) if requests >= _PRIOR else _DISPERSION


class Rate(msgspec.Struct, frozen=True, gc=False):
    """Expected spending (micro-dollars a second) and its variance, for each time constant."""

    brisk: float = 0.0
    fast: float = 0.0
    slow: float = 0.0
    brisk_var: float = 0.0
    fast_var: float = 0.0
    slow_var: float = 0.0

    def __add__(self, other: Rate) -> Rate:
        return Rate(
            self.brisk + other.brisk,
            self.fast + other.fast,
            self.slow + other.slow,
            self.brisk_var + other.brisk_var,
            self.fast_var + other.fast_var,
            self.slow_var + other.slow_var,
        )

    def scaled(self, brisk: float, fast: float, slow: float) -> Rate:
        """The rate of a share of the demand, one for each time constant."""
        return Rate(
            self.brisk * brisk, self.fast * fast, self.slow * slow, self.brisk_var * brisk, self.fast_var * fast, self.slow_var * slow
        )

    @property
    def surely(self) -> float:
        """It is at least this: what a mode is left for. What was long ago counts no further than it still goes on."""
        fast = self.fast - _SIGMAS * math.sqrt(self.fast_var)
        slow = self.slow - _SIGMAS * math.sqrt(self.slow_var)
        return max(fast, min(self.fast, slow), 0.0)

    @property
    def likely(self) -> float:
        """The rate to plan with on the way down: also what has only just begun."""
        return max(self.brisk - _SIGMAS * math.sqrt(self.brisk_var), self.fast)

    @property
    def at_most(self) -> float:
        """It is hardly more than this: what a better mode must stand."""
        return max(self.fast + _SIGMAS * math.sqrt(self.fast_var), self.slow + _SIGMAS * math.sqrt(self.slow_var))


_SIGMAS = 2.0
NOTHING = Rate()


class Flow:
    """The requests of somebody: how many come, and what they cost."""

    __slots__ = ("_at", "_brisk", "_constants", "_fast", "_slow", "costs")

    def __init__(self, priors: Sequence[float], constants: Constants, like: Costs | None = None) -> None:
        self.costs = Costs(priors, like)
        self._constants = constants
        self._at = -math.inf
        self._brisk = self._fast = self._slow = 0.0

    def came(self, now: float, requests: int) -> None:
        """Count requests that begin."""
        self._fade(now)
        self._brisk += requests / self._constants.brisk
        self._fast += requests / self._constants.fast
        self._slow += requests / self._constants.slow

    def _fade(self, now: float) -> None:
        past = now - self._at
        if past > 0:
            self._brisk *= math.exp(-past / self._constants.brisk)
            self._fast *= math.exp(-past / self._constants.fast)
            self._slow *= math.exp(-past / self._constants.slow)
            self._at = now

    def requests_per_s(self, now: float) -> float:
        """The demand."""
        self._fade(now)
        return self._fast

    def rates(self, now: float) -> tuple[Rate, ...]:
        """What this demand would cost in each mode."""
        self._fade(now)
        half = self.costs.dispersion() / 2
        brisk, fast, slow = (half * rate / tau for rate, tau in zip((self._brisk, self._fast, self._slow), self._taus(), strict=True))
        return tuple(
            Rate(
                self._brisk * mean,
                self._fast * mean,
                self._slow * mean,
                brisk * mean * mean,
                fast * mean * mean,
                slow * mean * mean,
            )
            for mean in self.costs.means()
        )

    def share_of(self, whole: Flow, now: float) -> tuple[float, float, float]:
        """How much of another demand this one is, for each time constant."""
        self._fade(now)
        whole._fade(now)
        pairs = ((self._brisk, whole._brisk), (self._fast, whole._fast), (self._slow, whole._slow))
        brisk, fast, slow = (min(part / all_of_it, 1.0) if all_of_it > 0 else 0.0 for part, all_of_it in pairs)
        return brisk, fast, slow

    def _taus(self) -> tuple[float, float, float]:
        return self._constants.brisk, self._constants.fast, self._constants.slow
