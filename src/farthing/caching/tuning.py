"""Fit the verifier's scores to one's own labelled pairs, and say honestly what that gives. Pure; for `farthing cache tune`.

Logistic regression on the shipped log-odds and a few values of the evidence (Platt scaling with covariates; Platt, 1999), with a ridge
that pulls towards the shipped log-odds as they are: few pairs change little. Guards stay as they are. The figures are cross-fitted: each
pair is judged by weights, and against a threshold, that come from the other folds alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from farthing.caching.evidence import NAMES, Evidence
from farthing.caching.scoring import Pair, PairScore, compared, judged_pairs
from farthing.caching.verifier import CERTAIN, Recalibration, Verifier
from farthing.lazily import Lazily

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Floats = NDArray[np.float64]
else:
    np = Lazily("numpy")

FEWEST: Final = 20
"""Of either sort, to be tuned to."""

_VALUES: Final = ("similarity", "all_covered_least", "kept", "length", "length_ratio", "first_person")
_DELTAS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_RIDGE: Final = 4.0
_MOST_STEPS: Final = 50


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """`recalibration` is what to use from now on, fitted to all pairs; None when there are too few to learn from.

    `shipped` says how the shipped verifier does on these pairs, `tuned` (cross-fitted) what to expect of the recalibrated one on others
    like them; None as above.
    """

    recalibration: Recalibration | None
    shipped: PairScore
    tuned: PairScore | None


class _Rows(msgspec.Struct, frozen=True):
    odds: _Floats
    columns: _Floats
    judged: NDArray[np.bool_]
    same: NDArray[np.bool_]

    def only(self, rows: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.odds[rows], self.columns[rows], self.judged[rows], self.same[rows])


def tune(pairs: Sequence[Pair], verifier: Verifier, delta: float, *, folds: int = 5, seed: int = 1) -> Tuned:
    """Fit to labelled pairs, at least one. Deterministic for a seed, which shuffles them into folds."""
    evidence = compared(pairs)
    rows = _rows(evidence, verifier, np.array([pair.same for pair in pairs], bool))
    cosines = np.array([found.similarity for found in evidence])
    shipped = judged_pairs(
        rows.odds, cosines, rows.same, delta=delta, threshold=verifier.threshold(delta), policy=f"verifier {verifier.version}"
    )
    if min(int((rows.judged & rows.same).sum()), int((rows.judged & ~rows.same).sum())) < FEWEST:
        return Tuned(recalibration=None, shipped=shipped, tuned=None)
    held_out = np.random.default_rng(seed).permutation(len(pairs)) % folds
    above = np.empty(len(pairs))  # by how much each pair is above its fold's threshold
    for fold in range(folds):
        away = held_out == fold
        learnt = rows.only(~away)
        weights = _fit(learnt)
        above[away] = _applied(weights, rows.only(away)) - _threshold(_applied(weights, learnt), learnt.same, delta)
    tuned = judged_pairs(above, cosines, rows.same, delta=delta, threshold=0.0, policy=f"verifier {verifier.version}, tuned, cross-fitted")
    weights = _fit(rows)
    return Tuned(recalibration=_recalibration(weights, rows), shipped=shipped, tuned=tuned)


def _rows(evidence: Sequence[Evidence], verifier: Verifier, same: NDArray[np.bool_]) -> _Rows:
    places = [NAMES.index(name) for name in _VALUES]
    columns = np.zeros((len(evidence), len(places)))
    for row, found in enumerate(evidence):
        if found.values:
            columns[row] = [found.values[place] for place in places]
    judged = np.array([bool(found.values) for found in evidence])
    return _Rows(np.array([verifier.score(found) for found in evidence]), columns, judged, same)


def _fit(rows: _Rows) -> _Floats:
    """Base, slope, and a weight for each value, by Newton's method. The ridge is on columns of unit spread, and pulls the slope to 1."""
    known = rows.only(rows.judged)
    mean, spread = known.columns.mean(axis=0), known.columns.std(axis=0) + 1e-9
    design = np.concatenate([np.ones((len(known.odds), 1)), known.odds[:, None], (known.columns - mean) / spread], axis=1)
    rest = np.zeros(design.shape[1])
    rest[1] = 1.0
    penalty = np.full(design.shape[1], _RIDGE)
    penalty[0] = _RIDGE / 100
    weights = rest.copy()
    for _ in range(_MOST_STEPS):
        expected = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (known.same - expected) - penalty * (weights - rest)
        curvature = (design * (expected * (1 - expected))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if np.abs(step).max() < 1e-7:  # noqa: PLR2004 - far below what any score shows
            break
    weights[2:] /= spread
    weights[0] -= float(weights[2:] @ mean)
    return weights


def _applied(weights: _Floats, rows: _Rows) -> _Floats:
    """Recalibrated log-odds; what a guard or the same words decided stays decided."""
    moved = np.clip(weights[0] + weights[1] * rows.odds + rows.columns @ weights[2:], -CERTAIN, CERTAIN)
    return np.where(rows.judged, moved, rows.odds)


def _threshold(odds: _Floats, same: NDArray[np.bool_], delta: float) -> float:
    """The least threshold that at most a share `delta` of the different pairs reach; beyond all of what was seen where none may."""
    different = np.sort(odds[~same & (odds < CERTAIN)])[::-1]
    may_pass = int(delta * len(different))
    return float(np.nextafter(different[may_pass], np.inf)) if may_pass < len(different) else -CERTAIN


def _recalibration(weights: _Floats, rows: _Rows) -> Recalibration:
    odds = _applied(weights, rows)
    return Recalibration(
        base=float(weights[0]),
        slope=float(weights[1]),
        adds=tuple(zip(_VALUES, map(float, weights[2:]), strict=True)),
        thresholds=tuple((delta, _threshold(odds, rows.same, delta)) for delta in _DELTAS),
    )
