"""How good a trained router is on rows that it has not seen, beside what costs nothing to build. For `farthing route score`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from farthing.errors import InvalidRequest
from farthing.lazily import Lazily
from farthing.routing.learned.curve import curve_of, intervals_of
from farthing.routing.learned.features import NAMES
from farthing.routing.learned.members import cosines, nearest
from farthing.routing.learned.outcomes import Row, Table, folds_of, table_of
from farthing.routing.learned.training import trained_on

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from farthing.routing.learned.model import LearnedModel
    from farthing.routing.learned.outcomes import Floats
else:
    np = Lazily("numpy")

_LENGTH: Final = NAMES.index("characters")
_NEIGHBOURS: Final = 40
_OUTER_FOLDS: Final = 5
_BLOCK: Final = 512


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What quality is asked for, and what a call to each model costs, in any unit."""

    quality: float
    prices: tuple[float, ...]


class Scored(msgspec.Struct, frozen=True):
    """Rows with what was said of them by routers that had not seen them. All (n), but for `scores` (n, models).

    `chosen` is the place of the model that answers, `unknown` whether that is so for want of an opinion. `by_length` and `by_neighbours`
    rank prompts as the baselines do.
    """

    scores: Floats
    gains: Floats
    chosen: NDArray[np.intp]
    unknown: NDArray[np.bool_]
    by_length: Floats
    by_neighbours: Floats


def seen(model: LearnedModel, table: Table, learnt_from: Table, quality: float) -> Scored:
    """What a router and the baselines say of rows."""
    models = model.models
    gains, chosen, unknown = [], [], []
    for vector, features in zip(table.vectors, table.features, strict=True):
        prediction = model.predict(vector.tobytes(), features.tolist())
        choice = model.choose(prediction, quality, models)
        gains.append(prediction.gains[models[0]])
        unknown.append(choice.model is None)
        chosen.append(len(models) - 1 if choice.model is None else models.index(choice.model))
    lengths = table.features[:, _LENGTH] * _sign(learnt_from)
    neighbours = _by_neighbours(table, learnt_from)
    return Scored(table.scores, np.array(gains, np.float32), np.array(chosen), np.array(unknown), lengths, neighbours)


def cross_validated(table: Table, models: Sequence[str], *, embedder: str, quality: float, seed: int) -> Scored:
    """The same of the training rows themselves, each by a router that was trained, and tuned, without it."""
    fold = folds_of(table, _OUTER_FOLDS)
    parts, places = [], []
    for number in range(_OUTER_FOLDS):
        rest, these = table.only(np.flatnonzero(fold != number)), np.flatnonzero(fold == number)
        model = trained_on(rest, models, embedder=embedder, seed=seed).model
        parts.append(seen(model, table.only(these), rest, quality))
        places.append(these)
    back = np.argsort(np.concatenate(places))
    columns = zip(*(msgspec.structs.astuple(part) for part in parts), strict=True)
    return Scored(*(np.concatenate(column)[back] for column in columns))


def whole_table(rows: Sequence[Row], models: Sequence[str], *, fewest: int = 1) -> Table:
    """Rows to be scored, each of which must have all models' scores. Raises `InvalidRequest`."""
    if any(model not in row.scores for row in rows for model in models):
        raise InvalidRequest(f"To score a router each row needs a score of each of its models: {', '.join(models)}.")
    return table_of(rows, models, 0, fewest=fewest)


def report(scored: Scored, target: Target, seed: int) -> dict[str, Any]:
    """JSON. Of more than two models the curves are those of the weakest against the strongest."""
    gains = (scored.scores[:, -1] - scored.scores[:, 0]).astype(np.float64)
    curve = msgspec.to_builtins(curve_of(scored.gains, gains))
    ranks: dict[str, NDArray[Any]] = {
        "random": np.zeros(len(gains)),
        "prompt_length": scored.by_length,
        "knn40": scored.by_neighbours,
        "oracle": gains,
    }
    return {
        **curve,
        **msgspec.to_builtins(intervals_of(scored.gains, gains, seed)),
        "n_test": len(gains),
        "accuracy": {"weak": _mean(scored.scores[:, 0]), "strong": _mean(scored.scores[:, -1]), "best": _mean(scored.scores.max(axis=1))},
        "at_quality": _at(scored, target),
        "baselines": {name: msgspec.to_builtins(curve_of(rank, gains)) for name, rank in ranks.items()},
    }


def _at(scored: Scored, target: Target) -> dict[str, Any]:
    """Accuracy and cost when the router chooses. `cost_ratio`: in proportion to the strongest model's for all."""
    taken = scored.scores[np.arange(len(scored.chosen)), scored.chosen]
    accuracy, strongest = float(taken.mean()), float(scored.scores[:, -1].mean())
    prices = np.array(target.prices)
    return {
        "quality": target.quality,
        "quality_kept": round(accuracy / strongest, 4) if strongest > 0 else None,
        "accuracy": round(accuracy, 4),
        "shares": [round(float((scored.chosen == at).mean()), 4) for at in range(len(prices))],
        "unknown": _mean(scored.unknown),
        "cost_ratio": round(float(prices[scored.chosen].mean() / prices[-1]), 4),
    }


def _mean(values: NDArray[Any]) -> float:
    return round(float(values.mean()), 4)


def _sign(table: Table) -> float:
    """1 where longer prompts gain more from the strong model, -1 where shorter ones do."""
    gains = table.gains[:, 0]
    both = ~np.isnan(gains + table.features[:, _LENGTH])
    apgr = curve_of(table.features[both, _LENGTH], gains[both]).apgr if both.any() else None
    return -1.0 if apgr is not None and apgr < 0.5 else 1.0  # noqa: PLR2004 - what chance reaches


def _by_neighbours(table: Table, learnt_from: Table) -> Floats:
    """The mean gain of the nearest rows, all alike."""
    gains = learnt_from.gains[:, 0]
    rows = np.flatnonzero(~np.isnan(gains))
    if not len(rows):
        return np.zeros(len(table.vectors), np.float32)
    known = learnt_from.vectors[rows]
    found = [
        gains[rows[nearest(cosines(table.vectors[start : start + _BLOCK], known), _NEIGHBOURS)]].mean(axis=1)
        for start in range(0, len(table.vectors), _BLOCK)
    ]
    return np.concatenate(found)
