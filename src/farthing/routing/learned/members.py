"""The two kinds of predictors that a learned router is made of: smooth functions of the prompt, and the prompt's nearest neighbours.

Both predict each model's score. A score that is not known (NaN) is left out, for its model alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from farthing.lazily import Lazily

if TYPE_CHECKING:
    import numkong
    import numpy as np
    from numpy.typing import NDArray

    from farthing.routing.learned.outcomes import Floats, Vectors
else:
    np = Lazily("numpy")
    numkong = Lazily("numkong")

LANDMARKS: Final = 1_000
"""Rows that smooth functions are spanned by. With the double, scores on 7,000 rows of MMLU did not get better."""

LANDMARKS_OF_GAPS: Final = 500
"""The same where scores are missing, so that each model has sums of its own."""

MOST_NEIGHBOURS: Final = 160
_PRIOR: Final = 4.0
"""Neighbours' scores count together with so many of the mean."""
_CLIP: Final = 4.0
_JITTER: Final = 1e-4
_CELLS: Final = 2**21
"""Of a matrix in double precision that is there for a moment: 16 MB."""


class Shape(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A kernel: exp(-`embedding` |a - b|² - `features` |c - d|²), with unit vectors a, b and standardised features c, d; and its ridge."""

    embedding: float
    features: float
    ridge: float


class Scale(msgspec.Struct, frozen=True):
    """How features are standardised. What is the same in all rows counts for nothing."""

    mean: Floats
    factor: Floats

    @classmethod
    def of(cls, features: Floats) -> Scale:
        """By the means and deviations of these rows."""
        deviation = features.std(axis=0)
        varies = deviation > 1e-6  # noqa: PLR2004 - rounding
        return cls(features.mean(axis=0), np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32))

    def __call__(self, features: Floats) -> Floats:
        """Standardised, within four deviations."""
        found: Floats = np.clip((features - self.mean) * self.factor, -_CLIP, _CLIP)
        return found


def cosines(query: Vectors, rows: Vectors) -> Floats:
    """Of each row of the first matrix to each of the second. A vector of zeros is at a right angle to all."""
    step = max(1, _CELLS // len(rows))
    found: Floats = np.empty((len(query), len(rows)), np.float32)
    for start in range(0, len(query), step):
        apart = np.asarray(numkong.cdist(query[start : start + step], rows, metric="angular"))
        found[start : start + step] = 1 - np.nan_to_num(apart, nan=1.0)
    return found


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Of each row of the first matrix to each of the second."""
    found: Floats = np.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T, 0)
    return found


def kernel(shape: Shape, cosine: Floats, distance: Floats) -> Floats:
    """From cosines of embeddings and squared distances of features."""
    found: Floats = np.exp(2 * shape.embedding * (cosine - 1) - shape.features * distance)
    return found


class Sums(msgspec.Struct, frozen=True):
    """What kernel ridge regression on landmarks needs of some rows: products of kernels, and of kernels with scores.

    They are sums, so that folds can be taken out again. For each model, because rows whose score is not known are left out: `gram`
    (models, m, m; one alone when no score is missing), `moment` (models, m), `mass` (models, m; the sum of kernels), `total` and `count`
    (models).
    """

    gram: NDArray[np.float64]
    moment: NDArray[np.float64]
    mass: NDArray[np.float64]
    total: NDArray[np.float64]
    count: NDArray[np.float64]

    @classmethod
    def of(cls, kernels: Floats, scores: Floats, *, whole: bool) -> Sums:
        """`whole`: no score is missing, here or in the sums that these are added to."""
        known = ~np.isnan(scores)
        filled = np.where(known, scores, 0)
        grams = [kernels.T @ kernels] if whole else [kernels[rows].T @ kernels[rows] for rows in known.T]
        return cls(
            np.stack(grams).astype(np.float64),
            (filled.T @ kernels).astype(np.float64),
            (known.T.astype(np.float32) @ kernels).astype(np.float64),
            filled.sum(axis=0, dtype=np.float64),
            known.sum(axis=0).astype(np.float64),
        )

    def plus(self, other: Sums, sign: int = 1) -> Sums:
        """Of these rows and those; of these without those where `sign` is -1. Both must be whole, or neither."""
        pairs = zip(
            (self.gram, self.moment, self.mass, self.total, self.count),
            (other.gram, other.moment, other.mass, other.total, other.count),
            strict=True,
        )
        return Sums(*(mine + sign * theirs for mine, theirs in pairs))

    @property
    def means(self) -> NDArray[np.float64]:
        """Each model's mean score; a half where nothing is known of it."""
        return (self.total + 0.5) / (self.count + 1)

    def solve(self, among: Floats, ridge: float) -> Floats:
        """Coefficients (m, models) of score - mean. `among`: kernels of landmarks with each other.

        Subset of regressors (Smola and Bartlett, 2000; Rasmussen and Williams, 2006, 8.3.1): (K'K + ridge Kmm) c = K'(y - mean).
        """
        penalty = ridge * among.astype(np.float64) + _JITTER * np.eye(len(among))
        right = self.moment - self.means[:, None] * self.mass
        if len(self.gram) == 1:
            return np.linalg.solve(self.gram[0] + penalty, right.T).astype(np.float32)
        columns = [np.linalg.solve(gram + penalty, one) for gram, one in zip(self.gram, right, strict=True)]
        return np.stack(columns, axis=1).astype(np.float32)


def nearest(cosine: Floats, most: int) -> NDArray[np.intp]:
    """The places of the nearest rows, for each row of cosines, the nearest first."""
    most = min(most, cosine.shape[1])
    some = np.argpartition(-cosine, most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(cosine, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def neighbours_say(places: NDArray[np.intp], scores: Floats, means: Floats) -> Floats:
    """Mean scores (rows, models) of neighbours, drawn a little to the means (one for all rows, or one for each)."""
    theirs = scores[places]
    known = ~np.isnan(theirs)
    sums = np.where(known, theirs, 0).sum(axis=1)
    found: Floats = ((sums + _PRIOR * means) / (known.sum(axis=1) + _PRIOR)).astype(np.float32)
    return found


def neighbours_in_other_folds(vectors: Vectors, fold: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats]:
    """For each row the places of its nearest rows in other folds, and their cosines."""
    most = min(MOST_NEIGHBOURS, len(vectors) - int(np.bincount(fold).max()))
    places, near = [], []
    step = max(1, _CELLS // len(vectors))
    for start in range(0, len(vectors), step):
        cosine = cosines(vectors[start : start + step], vectors)
        cosine[fold[start : start + step, None] == fold] = -2
        found = nearest(cosine, most)
        places.append(found)
        near.append(np.take_along_axis(cosine, found, axis=1))
    return np.concatenate(places), np.concatenate(near)
