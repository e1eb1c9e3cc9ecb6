"""How good a ranking of prompts is: quality against the share of calls that the strong model gets.

PGR, APGR and CPT as RouteLLM defines them (Ong et al., 2024, https://arxiv.org/abs/2406.18665). Where predictions are equal, what is
counted is the expectation over all orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from farthing.lazily import Lazily

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Lazily("numpy")

RESAMPLES: Final = 1000
_INTERVAL: Final = (0.025, 0.975)
_MOST_UNDEFINED: Final = 0.02

Interval = tuple[float, float]


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """`apgr`: the share of the strong model's advantage that is recovered, on average over all shares of strong calls; .5 for chance.

    `cpt50`, `cpt80`: the least share of strong calls, in percent, that recovers 50 and 80 percent of it. All are None where the strong
    model has no advantage on these rows.
    """

    apgr: float | None
    cpt50: float | None
    cpt80: float | None


class Intervals(msgspec.Struct, frozen=True, kw_only=True):
    """95% percentile intervals by bootstrap over rows; None where too few resamples have an advantage to recover."""

    apgr_interval: Interval | None
    cpt50_interval: Interval | None
    cpt80_interval: Interval | None


class _Steps(msgspec.Struct, frozen=True):
    """Rows in the order in which they go to the strong model. `starts`: of each group of equal predictions."""

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    gains: NDArray[np.float64]

    @classmethod
    def of(cls, predicted: NDArray[np.floating], gains: NDArray[np.floating]) -> _Steps:
        order = np.argsort(-predicted, kind="stable")
        ranked = predicted[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        return cls(order, starts, gains[order].astype(np.float64))

    def figures(self, weights: NDArray[np.floating]) -> tuple[float, float, float] | None:
        """APGR and the two CPTs; None where there is nothing to recover."""
        sizes = np.add.reduceat(weights, self.starts)
        gained = np.add.reduceat(weights * self.gains, self.starts)
        size, gain = sizes.sum(), gained.sum()
        if gain <= 0 or size <= 0:
            return None
        share = np.concatenate([[0.0], np.cumsum(sizes) / size])
        recovered = np.concatenate([[0.0], np.cumsum(gained) / gain])
        area = float(((recovered[1:] + recovered[:-1]) / 2 * np.diff(share)).sum())
        return area, _least_share(share, recovered, 0.5), _least_share(share, recovered, 0.8)


def _least_share(share: NDArray[np.float64], recovered: NDArray[np.float64], wanted: float) -> float:
    """Where the broken line through these points first reaches what is wanted, in percent."""
    at = int(np.argmax(recovered >= wanted - 1e-12))
    step = recovered[at] - recovered[at - 1]
    return 100 * float(share[at - 1] + (share[at] - share[at - 1]) * (wanted - recovered[at - 1]) / step)


def curve_of(predicted: NDArray[np.floating], gains: NDArray[np.floating]) -> Curve:
    """Of predicted gains, or anything else that ranks prompts; the highest goes to the strong model first. At least one row."""
    found = _Steps.of(predicted, gains).figures(np.ones(len(gains)))
    apgr, cpt50, cpt80 = (None, None, None) if found is None else found
    return Curve(apgr=_rounded(apgr, 4), cpt50=_rounded(cpt50, 2), cpt80=_rounded(cpt80, 2))


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def intervals_of(predicted: NDArray[np.floating], gains: NDArray[np.floating], seed: int) -> Intervals:
    """How far the figures would move on other rows of the same kind."""
    rng, steps, size = np.random.default_rng(seed), _Steps.of(predicted, gains), len(gains)
    drawn = [steps.figures(rng.multinomial(size, np.full(size, 1 / size)).astype(np.float64)) for _ in range(RESAMPLES)]
    defined = [figures for figures in drawn if figures is not None]
    if len(defined) < (1 - _MOST_UNDEFINED) * len(drawn):
        return Intervals(apgr_interval=None, cpt50_interval=None, cpt80_interval=None)
    low, high = np.quantile(np.array(defined), _INTERVAL, axis=0)
    apgr, cpt50, cpt80 = ((round(float(a), 4), round(float(b), 4)) for a, b in zip(low, high, strict=True))
    return Intervals(apgr_interval=apgr, cpt50_interval=cpt50, cpt80_interval=cpt80)
