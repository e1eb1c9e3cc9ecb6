"""Exact intervals for a share (Clopper and Pearson, 1934), also from counts that are not whole (Korn and Graubard, 1998)."""

from __future__ import annotations

import math

_STEPS = 200
_CLOSE = 1e-12
_TINY = 1e-300
_HALVINGS = 40


def interval(hits: float, tries: float, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of the share that `hits` of `tries` come from, each of which holds with `confidence`."""
    if tries <= 0:
        return 0.0, 1.0
    hits = min(max(hits, 0.0), tries)
    low = 0.0 if hits == 0 else _quantile(1 - confidence, hits, tries - hits + 1)
    high = 1.0 if hits >= tries else _quantile(confidence, hits + 1, tries - hits)
    return low, high


def _quantile(p: float, a: float, b: float) -> float:
    """Of the beta distribution, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if below(middle, a, b) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def below(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22, evaluated as in Lentz, 1976)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - below(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    total = d
    for m in range(1, _STEPS):
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 / _away(1 + term * d)
            c = _away(1 + term / c)
            total *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return front * total


def _away(x: float) -> float:
    """Not quite zero."""
    return x if abs(x) > _TINY else _TINY
