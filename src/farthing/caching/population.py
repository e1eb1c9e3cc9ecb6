"""What a tenant's verdicts say about the verifier's scores as a whole: Platt scaling, Bayesian, with forgetting.

The verifier's log-odds s were calibrated on neutral data. For this tenant, P(same | s) = σ(a·s + b), with a Gaussian prior around the
shipped a = 1, b = 0 (Platt, 1999, Probabilistic outputs for support vector machines; the prior as in MacKay, 1992, The evidence framework
applied to classification networks). Verdicts are kept as weights in bins of the score, a quarter of a unit wide, so that the state has a
fixed size and the fit does not depend on the order in which they came.

Guarantee: the log-posterior is strictly concave (Gaussian prior, logistic likelihood), so it has one maximum, and Newton steps that are
halved until they climb converge to it from anywhere. The covariance is Laplace's: the inverse of the curvature there. Assumptions: the
log-odds are linear in the score, and which pairs get a verdict depends on the score but not on the outcome. That holds for audits and the
judge. Thumbs come more often when something is wrong; they make the fit stricter than the truth, never laxer.
"""

from __future__ import annotations

import math

_REACH = 12.0
"""Beyond this the log-odds say nothing more: one in 160,000."""
_PER_UNIT = 4
_BINS = int(2 * _REACH * _PER_UNIT) + 1
_STEPS = 25
_CLOSE = 1e-8


def sigmoid(x: float) -> float:
    """1 / (1 + e⁻ˣ), without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    e = math.exp(x)
    return e / (1 + e)


def bounded(score: float) -> float:
    """The score within ±12. What is not a number says that nothing is known in favour: the lowest."""
    return min(max(score, -_REACH), _REACH) if score == score else -_REACH  # noqa: PLR0124 - not so for NaN


class Population:
    """The fit of a tenant. `half_life` is how many units of evidence later a verdict counts half.

    `slope_sd` and `shift_sd` are the prior's standard deviations of a and b; `deviations` is z, how many of them the lower bound is away.
    `slope` and `shift` are a and b as fitted.
    """

    def __init__(self, *, slope_sd: float, shift_sd: float, half_life: float, deviations: float) -> None:
        self._prior = (1 / slope_sd**2, 1 / shift_sd**2)
        self._half_life = half_life
        self._deviations = deviations
        self._same = [0.0] * _BINS
        self._wrong = [0.0] * _BINS
        self.slope, self.shift = 1.0, 0.0
        self._covariance = (slope_sd**2, 0.0, shift_sd**2)
        self._peak = self._find_peak()

    @property
    def evidence(self) -> float:
        """The weight of the verdicts that still count, as many as there were of weight 1 a moment ago."""
        return sum(self._same) + sum(self._wrong)

    def add(self, score: float, *, same: bool, weight: float) -> None:
        """Count a verdict. `fit` afterwards."""
        fade = 0.5 ** (weight / self._half_life)
        self._same = [value * fade for value in self._same]
        self._wrong = [value * fade for value in self._wrong]
        (self._same if same else self._wrong)[round((bounded(score) + _REACH) * _PER_UNIT)] += weight

    def fit(self) -> None:
        """Find the most probable slope and shift, and how sure they are."""
        rows = [
            (index / _PER_UNIT - _REACH, same, same + wrong)
            for index, (same, wrong) in enumerate(zip(self._same, self._wrong, strict=True))
            if same + wrong > 0
        ]
        a, b = self.slope, self.shift
        height = self._height(rows, a, b)
        for _ in range(_STEPS):
            (up_a, up_b), self._covariance = self._step(rows, a, b)
            size = 1.0
            while size > _CLOSE and (climbed := self._height(rows, a + size * up_a, b + size * up_b)) < height:
                size /= 2
            if size <= _CLOSE:
                break
            a, b, height = a + size * up_a, b + size * up_b, climbed
            if abs(up_a) + abs(up_b) < _CLOSE:
                break
        self.slope, self.shift = a, b
        self._peak = self._find_peak()

    def log_odds(self, score: float) -> tuple[float, float]:
        """The log-odds that two questions with this score are the same, and their lower bound. Neither falls when the score rises.

        Where the verdicts have the slope below zero, it counts as zero.
        """
        s = bounded(score)
        t = min(s, self._peak)
        aa, ab, bb = self._covariance
        slope = max(self.slope, 0.0)
        return slope * s + self.shift, slope * t + self.shift - self._deviations * math.sqrt(max(aa * t * t + 2 * ab * t + bb, 0.0))

    def _find_peak(self) -> float:
        """The score above which the lower bound would fall: where a = z·sd'(s)."""
        aa, ab, bb = self._covariance
        slope = max(self.slope, 0.0)
        steeper = self._deviations**2 * aa - slope**2
        return math.inf if steeper <= 0 else (slope * math.sqrt(max(aa * bb - ab * ab, 0.0) / steeper) - ab) / aa

    def _height(self, rows: list[tuple[float, float, float]], a: float, b: float) -> float:
        """The log-posterior, up to a constant."""
        height = -(self._prior[0] * (a - 1) ** 2 + self._prior[1] * b * b) / 2
        for s, same, both in rows:
            x = a * s + b
            height += same * x - both * (max(x, 0.0) + math.log1p(math.exp(-abs(x))))
        return height

    def _step(self, rows: list[tuple[float, float, float]], a: float, b: float) -> tuple[tuple[float, float], tuple[float, float, float]]:
        """Newton's step, and the covariance (of a, of both, of b)."""
        aa, ab, bb = self._prior[0], 0.0, self._prior[1]
        up_a, up_b = -aa * (a - 1), -bb * b
        for s, same, both in rows:
            p = sigmoid(a * s + b)
            miss = same - both * p
            up_a, up_b = up_a + miss * s, up_b + miss
            curve = both * p * (1 - p)
            aa, ab, bb = aa + curve * s * s, ab + curve * s, bb + curve
        area = aa * bb - ab * ab
        return ((bb * up_a - ab * up_b) / area, (aa * up_b - ab * up_a) / area), (bb / area, -ab / area, aa / area)
