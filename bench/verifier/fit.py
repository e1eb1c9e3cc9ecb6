"""Additive models by ridge-penalised logistic regression (Newton's method), on straight or bent lines. NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farthing.caching.evidence import NAMES

Floats = NDArray[np.float64]


class Additive:
    """log-odds = base + the sum of one piecewise linear function for each named value.

    `knots` is how many points each function bends at, its ends included (2: a straight line); `ridge` the penalty on the squares of the
    coefficients, of standardised columns.
    """

    def __init__(self, names: Sequence[str], *, knots: int, ridge: float) -> None:
        self.names = list(names)
        self._places = [NAMES.index(name) for name in names]
        self._count = knots
        self._ridge = ridge

    def fit(self, values: Floats, same: NDArray[np.bool_], weights: Floats) -> Additive:
        """Fit to evidence (one row a pair)."""
        chosen = values[:, self._places]
        self.knots = [_knots(chosen[:, column], self._count) for column in range(chosen.shape[1])]
        basis = self._basis(chosen)
        mean, spread = basis.mean(axis=0), basis.std(axis=0) + 1e-9
        coefficients = _newton((basis - mean) / spread, same.astype(float), weights, self._ridge)
        self._coefficients = coefficients[1:] / spread
        self._base = float(coefficients[0] - (coefficients[1:] * mean / spread).sum())
        return self

    def __call__(self, values: Floats) -> Floats:
        """Log-odds."""
        odds: Floats = self._base + self._basis(values[:, self._places]) @ self._coefficients
        return odds

    def curves(self) -> tuple[float, list[dict[str, Any]]]:
        """The base, and for each value the points of its function, as `verifier.json` has them."""
        base, curves, start = self._base, [], 0
        for name, knots in zip(self.names, self.knots, strict=True):
            slopes = self._coefficients[start : start + len(knots) - 1]
            start += len(knots) - 1
            adds = slopes[0] * knots + sum(slope * np.maximum(0, knots - knot) for slope, knot in zip(slopes[1:], knots[1:-1], strict=True))
            base += float(adds[0])
            curves.append(
                {"name": name, "at": [round(float(knot), 5) for knot in knots], "adds": [round(float(a), 4) for a in adds - adds[0]]}
            )
        return round(base, 4), curves

    def _basis(self, chosen: Floats) -> Floats:
        columns = []
        for column, knots in enumerate(self.knots):
            clipped = np.clip(chosen[:, column], knots[0], knots[-1])
            columns.append(clipped)
            columns.extend(np.maximum(0, clipped - knot) for knot in knots[1:-1])
        return np.stack(columns, axis=1)


def _knots(values: Floats, count: int) -> Floats:
    if count == 2:
        low, high = float(values.min()), float(values.max())
        return np.array([low, high if high > low else low + 1])
    knots = np.unique(np.quantile(values, np.linspace(0.01, 0.99, count)))
    if len(knots) > 2:
        return knots
    low, high = float(values.min()), float(values.max())
    return np.array([low, high if high > low else low + 1])


def _newton(columns: Floats, same: Floats, weights: Floats, ridge: float) -> Floats:
    """The first coefficient is the intercept, which is not penalised."""
    design = np.concatenate([np.ones((len(columns), 1)), columns], axis=1)
    penalty = np.full(design.shape[1], ridge)
    penalty[0] = 0
    coefficients = np.zeros(design.shape[1])
    for _ in range(50):
        odds = np.clip(design @ coefficients, -30, 30)
        expected = 1 / (1 + np.exp(-odds))
        gradient = design.T @ (weights * (same - expected)) - penalty * coefficients
        curvature = (design * (weights * expected * (1 - expected))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        coefficients += step
        if np.abs(step).max() < 1e-7:
            break
    return coefficients
