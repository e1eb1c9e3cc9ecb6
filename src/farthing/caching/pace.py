"""How many questions a worker embeds: a flood of new ones costs the machine a bounded share, and what is too many passes by."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """A token bucket: `rate` a second, and as many at once after a quiet second."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._there = rate
        self._at = clock()

    def room(self) -> int:
        """How many may be taken now."""
        now = self._clock()
        self._there = min(self._there + (now - self._at) * self._rate, self._rate)
        self._at = now
        return int(self._there)

    def take(self, count: int = 1) -> None:
        """Take so many. What is taken beyond `room` is owed."""
        self._there -= count
