"""Log-odds, bins of them, and mixtures over shifts of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

REACH = 12.0
"""Beyond this the log-odds say nothing more: one in 160,000."""
_PER_UNIT = 4
BINS = int(2 * REACH * _PER_UNIT) + 1
SCORES = tuple(index / _PER_UNIT - REACH for index in range(BINS))
"""The score of each bin."""
SHIFTS = (-7.0, -5.0, -3.5, -2.5, -1.5, -0.75, 0.0, 0.75, 1.5, 2.5, 3.5, 5.0)
"""By how much an entry's log-odds may be off: a grid, finer where most are."""
GROWTH = tuple(math.exp(shift) for shift in SHIFTS)
"""The same as factors of odds."""
_FARTHEST = 60.0
_HALVINGS = 40


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    e = math.exp(x)
    return e / (1 + e)


def between(score: float) -> tuple[int, float]:
    """The bin at or below a score, and how far it is to the next, 0 to 1. What is not a number has nothing that speaks for it."""
    at = (min(max(score, -REACH), REACH) + REACH) * _PER_UNIT if score == score else 0.0  # noqa: PLR0124 - not so for NaN
    index = min(int(at), BINS - 2)
    return index, at - index


def mixed(log_odds: float, weights: Sequence[float]) -> float:
    """The probability of the opposite when the log-odds are shifted by one of `SHIFTS`, with these weights (which sum up to 1)."""
    odds = math.exp(min(max(log_odds, -_FARTHEST), _FARTHEST))
    return sum([weight / (1 + odds * factor) for weight, factor in zip(weights, GROWTH, strict=True)])


def unmixed(log_odds: float, weights: Sequence[float]) -> float:
    """What the log-odds are before the shift, when with it they are `log_odds`: the inverse of `mixed`, by bisection."""
    wanted = sigmoid(-log_odds)
    low, high = log_odds + SHIFTS[0], log_odds - SHIFTS[0]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if mixed(middle, weights) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def prior_weights(spread: float, odd: float) -> tuple[float, ...]:
    """Weights of `SHIFTS`: a normal distribution with this standard deviation, and a share `odd` that may be anything."""
    edges = [-math.inf, *((a + b) / 2 for a, b in pairwise(SHIFTS)), math.inf]
    below = [0.5 * math.erfc(-edge / (spread * math.sqrt(2))) for edge in edges]
    return tuple((1 - odd) * (b - a) + odd / len(SHIFTS) for a, b in pairwise(below))
