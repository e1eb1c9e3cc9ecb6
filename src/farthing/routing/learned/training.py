"""Training: which predictors, how smooth, and in what mixture, all by cross-validation on the user's own rows.

A stack (Wolpert, 1992; with weights that are not negative: Breiman, 1996) of kernel ridge regressions, which see the embedding, the
features, or both, and of nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from farthing.errors import InvalidRequest
from farthing.lazily import Lazily
from farthing.routing.learned.artefact import Artefact, Smooth
from farthing.routing.learned.calibration import thresholds
from farthing.routing.learned.curve import curve_of, intervals_of
from farthing.routing.learned.features import NAMES
from farthing.routing.learned.fitting import Cast, Grounds, cast
from farthing.routing.learned.members import Sums, kernel
from farthing.routing.learned.model import NEAR, LearnedModel
from farthing.routing.learned.outcomes import Row, Table, folds_of, table_of

if TYPE_CHECKING:
    import numpy as np

    from farthing.routing.learned.outcomes import Floats
else:
    np = Lazily("numpy")

FOLDS: Final = 5
_STRANGE: Final = 0.005
"""The share of training rows that would count as unlike all others, by the embedding and again by the features."""


class Trained(msgspec.Struct, frozen=True):
    """`predicted` (rows, models): scores of the rows of `table`, by folds that had not seen them."""

    model: LearnedModel
    table: Table
    predicted: Floats


def train(rows: Sequence[Row], models: Sequence[str], *, embedder: str, seed: int = 1) -> tuple[LearnedModel, dict[str, Any]]:
    """A router for these models, the weakest and cheapest first, and what is to be expected of it.

    `embedder` is the version of the embedder that made the rows' vectors. Deterministic for a seed, whatever the order of the rows.
    Raises `InvalidRequest` for too few or unusable rows.
    """
    trained = trained_on(table_of(rows, models, seed), models, embedder=embedder, seed=seed)
    return trained.model, metrics(trained, seed)


def trained_on(table: Table, models: Sequence[str], *, embedder: str, seed: int) -> Trained:
    """The same, from rows as matrices."""
    if table.features.shape[1] != len(NAMES):
        raise InvalidRequest(f"Each row needs {len(NAMES)} features (farthing.routing.learned.features), not {table.features.shape[1]}.")
    fold = folds_of(table, FOLDS)
    if len(np.unique(fold)) < FOLDS:
        raise InvalidRequest(f"At least {FOLDS} different prompts are needed to learn from.")
    grounds = Grounds.of(table)
    chosen = cast(table, grounds, fold)
    predicted = chosen.predicted
    rng = np.random.default_rng(seed)
    gains = np.clip(predicted[:, -1:] - predicted[:, :-1], -1, 1)
    strong = table.scores[:, -1]
    tables = tuple(thresholds(gains[:, at], table.scores[:, at], strong, rng) for at in range(len(models) - 1))
    smooth, means = _fitted(table, grounds, chosen)
    landmarks = len(grounds.standard)
    artefact = Artefact(
        embedder=embedder,
        models=tuple(models),
        rows=len(table.vectors),
        landmarks=landmarks,
        vectors=table.vectors.tobytes(),
        scores=_bytes(table.scores),
        landmark_features=_bytes(grounds.standard),
        feature_mean=_bytes(grounds.scale.mean),
        feature_factor=_bytes(grounds.scale.factor),
        means=means,
        smooth=smooth,
        neighbours=min(chosen.neighbours, len(table.vectors)),
        weights=tuple(chosen.weights.tolist()),
        near_cosine=float(np.quantile(chosen.near[:, :NEAR].mean(axis=1), _STRANGE)),
        near_distance=float(np.quantile(_to_other_landmarks(grounds), 1 - _STRANGE)),
        thresholds=tables,
    )
    return Trained(LearnedModel(artefact), table, predicted)


def _fitted(table: Table, grounds: Grounds, chosen: Cast) -> tuple[tuple[Smooth, ...], tuple[float, ...]]:
    """The kernel regressions that were taken, fitted to all rows; and the models' means."""
    whole = not np.isnan(table.scores).any()
    smooth, means = [], np.zeros(table.scores.shape[1])
    for shape in chosen.shapes:
        kernels = kernel(shape, grounds.cosine, grounds.distance)
        sums = Sums.of(kernels, table.scores, whole=whole)
        smooth.append(Smooth(shape=shape, coefficients=_bytes(sums.solve(kernels[: kernels.shape[1]], shape.ridge))))
        means = sums.means
    return tuple(smooth), tuple(means.tolist())


def _to_other_landmarks(grounds: Grounds) -> Floats:
    """For each row the squared distance of its features to the nearest landmark that it is not itself."""
    distance = grounds.distance.copy()
    np.fill_diagonal(distance, np.inf)
    found: Floats = distance.min(axis=1)
    return found


def _bytes(matrix: Floats) -> bytes:
    return np.ascontiguousarray(matrix, dtype="<f4").tobytes()


def metrics(trained: Trained, seed: int) -> dict[str, Any]:
    """What `farthing route score` says of each cheaper model against the strongest, cross-validated; JSON."""
    table, models = trained.table, trained.model.models
    found: dict[str, Any] = {"n_train": len(table.vectors), "models": list(models), "cross_validated": True, "pairs": {}}
    for at, model in enumerate(models[:-1]):
        gains = table.gains[:, at]
        both = ~np.isnan(gains)
        predicted = trained.predicted[both, -1] - trained.predicted[both, at]
        figures: dict[str, Any] = {"n": int(both.sum())}
        if both.any():
            figures |= msgspec.to_builtins(curve_of(predicted, gains[both]))
            figures |= msgspec.to_builtins(intervals_of(predicted, gains[both], seed))
        known = ~np.isnan(table.scores[:, [at, -1]])
        figures["scores"] = [round(float(table.scores[known[:, i], j].mean()), 4) for i, j in enumerate((at, -1))]
        figures["thresholds"] = [msgspec.to_builtins(one) for one in trained.model.thresholds[model]]
        found["pairs"][model] = figures
    weakest = found["pairs"][models[0]]
    return {**{name: weakest.get(name) for name in ("apgr", "cpt50", "cpt80", "apgr_interval")}, **found}
