"""From predicted gains to thresholds: how much quality is kept when all prompts up to a predicted gain go to the cheaper model.

Pure. Predictions must come from folds that the rows were not in, or the figures flatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from farthing.lazily import Lazily

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from farthing.routing.learned.outcomes import Floats
else:
    np = Lazily("numpy")

RESAMPLES: Final = 400
_MOST_BINS: Final = 40
_ROWS_PER_BIN: Final = 10
_CONFIDENCE: Final = 0.9


class Threshold(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """When prompts with at most this predicted `gain` go to the cheaper model.

    `share`: of prompts that then go to the stronger one. `kept`: quality in proportion to the stronger one's alone, 1 for as good; `least`:
    its one-sided 90% lower bound.
    """

    gain: float
    share: float
    kept: float
    least: float


def thresholds(gains: Floats, weak: Floats, strong: Floats, rng: np.random.Generator) -> tuple[Threshold, ...]:
    """By rising gain. `weak` and `strong` are scores, NaN where not known.

    Rows are sorted by predicted gain into bins of equal size; each bin has a mean score of either model. Where only one model's score of a
    row is known, this supposes that within a bin it was chance which. A model of which a bin says nothing counts there as the worst
    case: the weak one as useless, the strong one as perfect. Bounds are from a bootstrap (Efron, 1979) with Poisson weights.
    """
    order = np.argsort(gains, kind="stable")
    bins = max(2, min(_MOST_BINS, len(order) // _ROWS_PER_BIN))
    starts = np.linspace(0, len(order), bins, endpoint=False).astype(np.intp)
    columns = _columns(weak[order], strong[order])
    share, kept = _kept(columns, starts)
    drawn = [_kept(columns * rng.poisson(1.0, len(order)), starts)[1] for _ in range(RESAMPLES)]
    least = np.quantile(np.stack(drawn), 1 - _CONFIDENCE, axis=0, method="lower")
    ends = [*(float(gains[order[start - 1]]) for start in starts[1:]), 1.0]
    return tuple(
        Threshold(gain, *(round(float(one), 6) for one in values))
        for gain, *values in zip(ends, share, kept, np.minimum(least, kept), strict=True)
    )


def highest(table: Sequence[Threshold], quality: float) -> Threshold | None:
    """The threshold that spares most strong calls while at least this quality is kept, by the lower bound; None when there is none."""
    return next((threshold for threshold in reversed(table) if threshold.least >= quality), None)


def _columns(weak: Floats, strong: Floats) -> NDArray[np.float64]:
    """(5, n): one, whether the weak score is known, the weak score, and the same of the strong one."""
    known = [~np.isnan(scores) for scores in (weak, strong)]
    filled = [np.where(there, scores, 0) for there, scores in zip(known, (weak, strong), strict=True)]
    return np.stack([np.ones(len(weak)), known[0], filled[0], known[1], filled[1]]).astype(np.float64)


def _kept(columns: NDArray[np.float64], starts: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of strong calls and the quality kept, when the first bin, the first two, … go to the weak model."""
    rows, weak_known, weak, strong_known, strong = np.add.reduceat(columns, starts, axis=1)
    weak_mean = np.where(weak_known > 0, weak / np.maximum(weak_known, 1), 0.0)
    strong_mean = np.where(strong_known > 0, strong / np.maximum(strong_known, 1), 1.0)
    of_weak, of_strong = rows * weak_mean, rows * strong_mean
    best = of_strong.sum()
    mixed = np.cumsum(of_weak) + best - np.cumsum(of_strong)
    return 1 - np.cumsum(rows) / max(rows.sum(), 1), mixed / best if best > 0 else np.ones(len(rows))
