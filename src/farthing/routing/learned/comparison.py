"""Whether a new version is better than what there is: on the same rows, none of which either was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from farthing.lazily import Lazily
from farthing.routing.learned.artefact import decode, vectors
from farthing.routing.learned.curve import curve_of
from farthing.routing.learned.features import NAMES
from farthing.routing.learned.model import LearnedModel
from farthing.routing.learned.training import Trained

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.floating]
else:
    np = Lazily("numpy")

FEWEST_ROWS: Final = 50
"""Fewer that the other router has not seen say nothing."""
_RESAMPLES: Final = 400
_INTERVAL: Final = (0.025, 0.975)
_LENGTH: Final = NAMES.index("characters")


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`apgr` of the new version and `other` of what it is compared with, on `n` rows; `difference`, and its 95% interval over rows.

    None where the strongest model has no advantage on these rows, or they are too few.
    """

    n: int
    apgr: float | None = None
    other: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def better(self) -> bool:
        """Whether the new version is better beyond doubt, as far as 95% are."""
        return self.interval is not None and self.interval[0] > 0


def against_length(trained: Trained, seed: int = 1) -> Comparison:
    """Beside sending long prompts to the strongest model, or short ones if that is better on these rows."""
    ours, gains, rows = _ranked(trained)
    length = trained.table.features[rows, _LENGTH].astype(np.float64)
    best = max((length, -length), key=lambda one: curve_of(one, gains).apgr or 0.0) if len(gains) else length
    return _compare(ours, best, gains, seed)


def against(trained: Trained, artefact: bytes, seed: int = 1) -> Comparison:
    """Beside another trained router, on the rows that it has not seen. Raises `InvalidRequest` when it is none, or reads other prompts."""
    other = LearnedModel.load(artefact, trained.model.embedder)
    stored = decode(artefact)
    seen = {row.tobytes() for row in vectors(stored.vectors, stored.rows)}
    weak, strong = trained.model.models[0], trained.model.models[-1]
    ours, gains, rows = _ranked(trained)
    fresh = [at for at, row in enumerate(rows) if trained.table.vectors[row].tobytes() not in seen]
    if not {weak, strong} <= set(other.models):
        return Comparison(n=0)
    theirs = []
    for at in fresh:
        scores = other.predict(trained.table.vectors[rows[at]].tobytes(), trained.table.features[rows[at]].tolist()).scores
        theirs.append(scores[strong] - scores[weak])
    return _compare(ours[fresh], np.array(theirs, np.float64), gains[fresh], seed)


def _ranked(trained: Trained) -> tuple[Numbers, Numbers, NDArray[np.intp]]:
    """The gain of the strongest model over the weakest, as predicted by folds that had not seen the row, and as it was; of which rows."""
    gains = trained.table.scores[:, -1] - trained.table.scores[:, 0]
    rows = np.flatnonzero(~np.isnan(gains))
    return (trained.predicted[rows, -1] - trained.predicted[rows, 0]).astype(np.float64), gains[rows].astype(np.float64), rows


def _compare(ours: Numbers, theirs: Numbers, gains: Numbers, seed: int) -> Comparison:
    if len(gains) < FEWEST_ROWS:
        return Comparison(n=len(gains))
    mine, other = curve_of(ours, gains).apgr, curve_of(theirs, gains).apgr
    if mine is None or other is None:
        return Comparison(n=len(gains))
    rng, differences = np.random.default_rng(seed), []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(gains), len(gains))
        pair = curve_of(ours[drawn], gains[drawn]).apgr, curve_of(theirs[drawn], gains[drawn]).apgr
        if pair[0] is not None and pair[1] is not None:
            differences.append(pair[0] - pair[1])
    low, high = np.quantile(np.array(differences), _INTERVAL) if len(differences) > _RESAMPLES // 2 else (None, None)
    return Comparison(
        n=len(gains),
        apgr=mine,
        other=other,
        difference=round(mine - other, 4),
        interval=None if low is None or high is None else (round(float(low), 4), round(float(high), 4)),
    )
