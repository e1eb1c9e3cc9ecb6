"""Token buckets as pure arithmetic: how full one is now, and how long until it holds enough.

A bucket of a limit of L a minute holds at most L and fills at L/60 a second, so that any window of s seconds lets at most L + L·s/60
through (ITU-T I.371's leaky bucket as a meter; a bucket is the same thing seen from the other side). Times are seconds of one monotonic
clock, levels are floats. What may come out of a damaged file (NaN, infinities, times to come) gives a sane level.
"""

from __future__ import annotations

import math

_MINUTE_S = 60.0
_DEBT_MINUTES = 60
_ROUNDING = 1e-6
"""What adding up floats may lose; without it a caller who waits exactly as long as we said would come too early."""


def level_at(level: float, at: float, now: float, limit: int) -> float:
    """How full a bucket is now that was filled up to `level` at `at`.

    `at` = 0: never used, hence full. `at` later than now (the clock began anew with a reboot): nothing has flowed in. A bucket holds no
    more than the limit and no less than an hour's debt.
    """
    if at == 0 or math.isnan(level):
        return float(limit)
    gained = (now - at) * limit / _MINUTE_S if 0 < at < now else 0.0
    return min(max(level, -float(_DEBT_MINUTES * limit)) + gained, float(limit))


def holds(level: float, amount: float) -> bool:
    """Whether there is enough in it."""
    return level + _ROUNDING >= amount


def seconds_until(level: float, amount: float, limit: int) -> float:
    """How long until it holds `amount` if nobody takes from it."""
    return max(amount - level, 0.0) * _MINUTE_S / limit
