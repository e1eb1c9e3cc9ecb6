"""When a model is asked a second time while the first call has not begun to answer."""

from __future__ import annotations

import msgspec

_MOST_SAVED_UP = 10.0
_ROUNDING = 1e-6
"""What adding up floats may lose."""


class Allowance:
    """Lets at most `share` of what it counts be done twice: a token bucket that requests fill.

    What quiet times leave over is worth at most ten hedges, so that a model that slows down altogether is not asked twice by everybody.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._level = 0.0

    def count(self) -> None:
        """A request came."""
        self._level = min(self._level + self._share, _MOST_SAVED_UP)

    def take(self) -> bool:
        """Whether one more may be done twice."""
        if self._level + _ROUNDING < 1:
            return False
        self._level -= 1
        return True


class Hedge(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is hedged: after how many seconds, how often, and whether at the same deployment where there is no other."""

    after_s: float
    allowance: Allowance
    same: bool = False
