"""Cross-validation of the predictors: what each says of rows that it has not seen, and how they are best mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from farthing.lazily import Lazily
from farthing.routing.learned.members import (
    LANDMARKS,
    LANDMARKS_OF_GAPS,
    Scale,
    Shape,
    Sums,
    cosines,
    kernel,
    neighbours_in_other_folds,
    neighbours_say,
    squared_distances,
)
from farthing.routing.learned.outcomes import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from farthing.routing.learned.outcomes import Floats
else:
    np = Lazily("numpy")

_WIDTHS: Final = ((0.5, 0.003), (1.0, 0.01), (2.0, 0.02), (0.0, 0.02), (2.0, 0.0))
"""(embedding, features) of `Shape`: both seen smoothly, less so, sharply; the features alone, and the embedding alone. To choose among
them by cross-validation was worse on small data (500 rows of GSM8K: APGR .65 against .67) and no better on 7,000 rows of MMLU.
"""

_RIDGES: Final = (0.5, 2.0, 8.0, 24.0)
_NEIGHBOURS: Final = (20, 40, 80, 160)
_PULL: Final = 1.0
_ENOUGH_GAINS: Final = 50
"""Rows with two models' scores, for predictors to be compared by gains, which is what decides; else they are by scores."""


class Grounds(msgspec.Struct, frozen=True):
    """What kernels are made from: `scale`, `standard` features of the landmarks, and of all rows to the landmarks cosines and distances."""

    scale: Scale
    standard: Floats
    cosine: Floats
    distance: Floats

    @classmethod
    def of(cls, table: Table) -> Grounds:
        """Of all rows; the first of them are the landmarks."""
        most = LANDMARKS if not np.isnan(table.scores).any() else LANDMARKS_OF_GAPS
        scale = Scale.of(table.features)
        standard = scale(table.features)
        return cls(scale, standard[:most], cosines(table.vectors, table.vectors[:most]), squared_distances(standard, standard[:most]))


class Cast(msgspec.Struct, frozen=True):
    """The predictors as they were taken, and how they are mixed.

    `said` (members, rows, models): what each says of rows in folds that it has not seen, less `means`, which are those of the rows that it
    has seen. `weights`: of each in the mixture. `near`: cosines to the nearest rows in other folds.
    """

    shapes: tuple[Shape, ...]
    neighbours: int
    said: Floats
    means: Floats
    weights: NDArray[np.float64]
    near: Floats

    @property
    def predicted(self) -> Floats:
        """Scores (rows, models)."""
        mixed: Floats = self.means + np.tensordot(self.weights, self.said, 1).astype(np.float32)
        return mixed


def cast(table: Table, grounds: Grounds, fold: NDArray[np.intp]) -> Cast:
    """Choose how smooth each predictor is, and mix them."""
    known = ~np.isnan(table.scores)
    means = np.empty_like(table.scores)
    for number in np.unique(fold):
        rest = fold != number
        means[~rest] = (np.where(known, table.scores, 0)[rest].sum(axis=0) + 0.5) / (known[rest].sum(axis=0) + 1)
    target = _target(table.scores - means)
    taken = [min(_unseen(table, grounds, fold, widths), key=lambda pair: _loss(pair[1], target)) for widths in _WIDTHS]
    places, near = neighbours_in_other_folds(table.vectors, fold)
    by_neighbours = [(most, _neighbours(places[:, :most], table.scores, means)) for most in _NEIGHBOURS]
    neighbours, nearby = min(by_neighbours, key=lambda pair: _loss(pair[1], target))
    each = np.stack([*(one for _, one in taken), nearby])
    return Cast(tuple(shape for shape, _ in taken), neighbours, each, means, _mixture(each, target), near)


def _unseen(table: Table, grounds: Grounds, fold: NDArray[np.intp], widths: tuple[float, float]) -> list[tuple[Shape, Floats]]:
    """For each ridge, what a kernel regression says of each row when it has learnt from the other folds."""
    shapes = [Shape(embedding=widths[0], features=widths[1], ridge=ridge) for ridge in _RIDGES]
    kernels = kernel(shapes[0], grounds.cosine, grounds.distance)
    among = kernels[: kernels.shape[1]]
    whole = not np.isnan(table.scores).any()
    numbers = np.unique(fold)
    parts = [Sums.of(kernels[fold == number], table.scores[fold == number], whole=whole) for number in numbers]
    total = parts[0]
    for part in parts[1:]:
        total = total.plus(part)
    found = [np.empty_like(table.scores) for _ in shapes]
    for number, part in zip(numbers, parts, strict=True):
        rest, these = total.plus(part, -1), fold == number
        for shape, said in zip(shapes, found, strict=True):
            said[these] = kernels[these] @ rest.solve(among, shape.ridge)
    return list(zip(shapes, found, strict=True))


def _neighbours(places: NDArray[np.intp], scores: Floats, means: Floats) -> Floats:
    return neighbours_say(places, scores, means) - means


def _target(scores: Floats) -> tuple[bool, Floats]:
    """What predictors are compared by: gains where enough of them are known, else scores."""
    gains = scores[:, -1:] - scores[:, :-1]
    by_gain = bool((~np.isnan(gains)).sum(axis=0).min() >= _ENOUGH_GAINS)
    return by_gain, gains if by_gain else scores


def _as_target(said: Floats, target: tuple[bool, Floats]) -> Floats:
    return said[..., -1:] - said[..., :-1] if target[0] else said


def _loss(said: Floats, target: tuple[bool, Floats]) -> float:
    """The mean squared error, when what is said is weighed as well as it can be."""
    wanted = target[1]
    known = ~np.isnan(wanted)
    mine, true = _as_target(said, target)[known].astype(np.float64), wanted[known].astype(np.float64)
    weight = max(float(mine @ true), 0.0) / max(float(mine @ mine), 1e-12)
    return float(((weight * mine - true) ** 2).mean())


def _mixture(each: Floats, target: tuple[bool, Floats]) -> NDArray[np.float64]:
    """Weights with the least squared error, none negative, drawn towards the best equal ones: members are much alike, and rows few."""
    known = ~np.isnan(target[1])
    columns = np.stack([_as_target(one, target)[known] for one in each], axis=1).astype(np.float64)
    true = target[1][known].astype(np.float64)
    even = columns.mean(axis=1)
    equal = max(float(even @ true), 0.0) / max(float(even @ even), 1e-12) / len(each)
    gram, right = columns.T @ columns, columns.T @ true
    pull = _PULL * np.trace(gram) / len(each)
    gram, right = gram + (pull + 1e-9) * np.eye(len(each)), right + pull * equal
    members, weights = list(range(len(each))), np.zeros(len(each))
    while members:
        found = np.linalg.solve(gram[np.ix_(members, members)], right[members])
        if (found >= 0).all():
            weights[members] = found
            break
        members.pop(int(np.argmin(found)))
    return weights
