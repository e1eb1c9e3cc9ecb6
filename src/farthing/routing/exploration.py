"""Exploration: now and then another model than the chosen one answers, so that something is learnt of it, within a daily allowance."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import date, datetime

from farthing.types import Request, utc_now

Estimate = Callable[[str, Request], int | None]
"""About what a model's answer to a request costs, in micro-dollars; None when its price is not known."""


class Exploration:
    """`share` of the decisions, as long as it costs at most `microusd_per_day` a UTC day more than what was chosen, by estimate.

    `explored` and `spent_microusd` (today) say what was done.
    """

    def __init__(
        self, estimate: Estimate, rng: random.Random, *, share: float, microusd_per_day: int, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._estimate = estimate
        self._rng = rng
        self._share = share
        self._allowance = microusd_per_day
        self._clock = clock
        self._day: date | None = None
        self.spent_microusd = 0
        self.explored = 0

    def instead_of(self, chosen: str, models: Sequence[str], request: Request) -> str | None:
        """Another one of the models to ask instead of the chosen one; None: ask that. What is cheaper costs the allowance nothing."""
        if self._share == 0 or self._rng.random() >= self._share:
            return None
        others = [model for model in models if model != chosen]
        if not others:
            return None
        other = self._rng.choice(others)
        usual, extra = self._estimate(chosen, request), self._estimate(other, request)
        if usual is None or extra is None:
            return None
        today = self._clock().date()
        if today != self._day:
            self._day, self.spent_microusd = today, 0
        more = max(0, extra - usual)
        if self.spent_microusd + more > self._allowance:
            return None
        self.spent_microusd += more
        self.explored += 1
        return other
