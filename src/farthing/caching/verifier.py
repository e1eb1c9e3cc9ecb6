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
    """A fitted verifier.

    `base` and `curves` judge pairs as they come; `crowd_base` and `crowd` judge among near neighbours, where the shortest questions are
    the most ambiguous ones. `crowded` says how much the latter count at a margin (0 to 1), `lenience` by how much the former are let off
    there. `always` is added to both. `thresholds`: (delta, log-odds) pairs, by rising delta; see `Verifier.threshold`.
    """

    version: str
    base: float
    curves: tuple[Curve, ...]
    crowd_base: float
    crowd: tuple[Curve, ...]
    crowded: Curve
    lenience: float
    always: tuple[Curve, ...]
    thresholds: tuple[tuple[float, float], ...]


class Recalibration(msgspec.Struct, frozen=True, kw_only=True):
    """What one's own labelled pairs make of a verifier's log-odds: `base` + `slope` times these + the weighted values. See `tuning`.

    `adds`: (name of a value, weight). `thresholds`: as in `Weights`.
    """

    base: float
    slope: float
    adds: tuple[tuple[str, float], ...]
    thresholds: tuple[tuple[float, float], ...]


_Sum = list[tuple[int, tuple[float, ...], tuple[float, ...]]]


class Verifier:
    """Scores evidence. Immutable, and safe to share."""

    def __init__(self, weights: Weights, recalibration: Recalibration | None = None) -> None:
        self.version = weights.version if recalibration is None else f"{weights.version}, tuned"
        self._recalibration = recalibration
        self._thresholds = (recalibration or weights).thresholds
        self._weights = weights
        self._curves = _placed(weights.curves)
        self._crowd = _placed(weights.crowd)
        self._always = _placed(weights.always)

    @classmethod
    def load(cls) -> Verifier:
        """The verifier that comes with Farthing."""
        return cls(msgspec.json.decode(_FILE.read_bytes(), type=Weights))

    def score(self, evidence: Evidence, margin: float | None = None) -> float:
        """Log-odds that both questions ask the same.

        `margin` is by how much (as a difference of cosines) this candidate is nearer than the next one; None when there is no next one,
        or when pairs are judged by themselves.
        """
        if evidence.veto is not None or not (evidence.values or evidence.identical):
            return -CERTAIN
        if evidence.identical:
            return CERTAIN
        weights, values = self._weights, evidence.values
        odds = _added(weights.base, self._curves, values)
        crowded = 0.0 if margin is None else bent(margin, weights.crowded.at, weights.crowded.adds)
        if crowded:
            among = min(odds + weights.lenience, _added(weights.crowd_base, self._crowd, values))
            odds = crowded * among + (1 - crowded) * odds
        odds = _added(odds, self._always, values)
        if self._recalibration is not None:
            odds = _recalibrated(odds, self._recalibration, values)
        return max(-CERTAIN, min(CERTAIN, odds))

    def recalibrated(self, recalibration: Recalibration) -> Verifier:
        """The same with its log-odds and thresholds moved to what one's own pairs say."""
        return Verifier(self._weights, recalibration)

    def threshold(self, delta: float) -> float:
        """The log-odds from which a pair is accepted, so that at most a share `delta` of different questions is.

        Between the error bounds that were fitted it is interpolated in log(delta); beyond them the nearest holds.
        """
        return bent(
            math.log(max(delta, 1e-9)),
            [math.log(bound) for bound, _ in self._thresholds],
            [odds for _, odds in self._thresholds],
        )


def _placed(curves: Sequence[Curve]) -> _Sum:
    return [(NAMES.index(curve.name), curve.at, curve.adds) for curve in curves]


def _recalibrated(odds: float, by: Recalibration, values: Sequence[float]) -> float:
    return by.base + by.slope * odds + sum([weight * values[NAMES.index(name)] for name, weight in by.adds])


def _added(base: float, curves: _Sum, values: Sequence[float]) -> float:
    return base + sum([bent(values[place], at, adds) for place, at, adds in curves])


def bent(value: float, at: Sequence[float], adds: Sequence[float]) -> float:
    """Piecewise linear interpolation. What is not a number counts as the least."""
    if not value > at[0]:
        return adds[0]
    if value >= at[-1]:
        return adds[-1]
    right = bisect_right(at, value)
    left = right - 1
    return adds[left] + (adds[right] - adds[left]) * (value - at[left]) / (at[right] - at[left])
