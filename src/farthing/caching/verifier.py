"""Whether two questions ask the same: from evidence to calibrated log-odds, with weights that come with Farthing.

An additive model on splines: each value bends through a piecewise linear function and all of them are added up (Hastie and Tibshirani,
Generalized Additive Models, 1986). `bench/verifier/train.py` fits it, and says on which texts; `verifier.json` holds it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from farthing.caching.evidence import NAMES, Evidence

_FILE: Final = Path(__file__).with_name("verifier.json")

CERTAIN: Final = 20.0
"""Log-odds of what needs no weighing: the same words, or (negative) a veto."""


class Curve(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one value adds to the log-odds: straight lines between these points, level beyond the first and the last."""

    name: str
    at: tuple[float, ...]
    adds: tuple[float, ...]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted verifier. `thresholds`: (delta, log-odds) pairs, by rising delta; see `Verifier.threshold`."""

    version: str
    base: float
    curves: tuple[Curve, ...]
    margin: Curve
    thresholds: tuple[tuple[float, float], ...]


class Verifier:
    """Scores evidence. Immutable, and safe to share."""

    def __init__(self, weights: Weights) -> None:
        self.version = weights.version
        self._base = weights.base
        self._curves = [(NAMES.index(curve.name), curve.at, curve.adds) for curve in weights.curves]
        self._margin = weights.margin
        self._thresholds = weights.thresholds

    @classmethod
    def load(cls) -> Verifier:
        """The verifier that comes with Farthing."""
        return cls(msgspec.json.decode(_FILE.read_bytes(), type=Weights))

    def score(self, evidence: Evidence, margin: float | None = None) -> float:
        """Log-odds that both questions ask the same.

        `margin` is by how much this candidate is nearer than the next one (a difference of cosines); None when that is not known.
        """
        if evidence.veto is not None:
            return -CERTAIN
        if evidence.identical:
            return CERTAIN
        total = self._base + sum([bent(evidence.values[place], at, adds) for place, at, adds in self._curves])
        if margin is not None:
            total += bent(margin, self._margin.at, self._margin.adds)
        return max(-CERTAIN, min(CERTAIN, total))

    def threshold(self, delta: float) -> float:
        """The log-odds from which a pair is accepted, so that at most a share `delta` of different questions is.

        Between the error bounds that were fitted it is interpolated in log(delta); beyond them the nearest holds.
        """
        return bent(math.log(max(delta, 1e-9)), [math.log(bound) for bound, _ in self._thresholds], [odds for _, odds in self._thresholds])


def bent(value: float, at: Sequence[float], adds: Sequence[float]) -> float:
    """Piecewise linear interpolation. What is not a number counts as the least."""
    if not value > at[0]:
        return adds[0]
    if value >= at[-1]:
        return adds[-1]
    right = bisect_right(at, value)
    left = right - 1
    return adds[left] + (adds[right] - adds[left]) * (value - at[left]) / (at[right] - at[left])
