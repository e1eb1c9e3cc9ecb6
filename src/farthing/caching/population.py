"""What a tenant's verdicts say about the verifier's scores: logistic regression with a shift for each entry, fitted by EM.

The verifier's log-odds s were calibrated on neutral data. For this tenant, and for entry e,

    log-odds(same | s, e) = base(s) + b + (a - 1)·s + c·max(s - k, 0) + u_e,    P(wrong) = ε + (1 - ε)·P(not same)

with Gaussian priors around the shipped b = 0, a = 1, c = 0. a and b are Platt's scaling (1999). The bend c above the knot k is there
because most verdicts come from the uncertain band and answers are served above it: a straight line would carry the slope of one into the
other. The lapse rate ε (as in psychometric functions: Wichmann and Hill, 2001) is what goes wrong however alike two questions look: without
it one fault at a high score would bend the whole line, and a floor under the errors would never be seen.

The entry's shift u_e is one of `SHIFTS`, which of them with weights that all entries share and that are learnt from them (empirical Bayes:
Robbins, 1956; on a grid: Laird, 1978), beside `_IMAGINED` entries of the shipped weights. A grid and not a Gaussian, because some entries
are simply bad: after one fault the posterior goes there by itself. `base` is such that before any verdict an entry that nobody knows has
just the shipped probability, sigmoid(s), and lapses.

So entries share strength: one without verdicts behaves as the population does and needs no exploration of its own, other than with one
logistic model for each entry (vCache: Schroeder et al., 2025, arXiv 2502.03771); one with verdicts moves as far as they and the spread of
the others warrant. P(wrong) of an entry is the mean over its posterior: exact, without linearising. A wrong verdict multiplies the
posterior by a factor that falls in u, so it raises P(wrong) of its entry at every score; a right one lowers it.

Guarantee: each step of EM raises the posterior density, which is bounded, so the steps converge (Dempster, Laird and Rubin, 1977), also
when the posteriors of few entries are renewed at a time (Neal and Hinton, 1998). For a given line the problem is concave in the weights
(one maximum), and for given posteriors of the entries it is strictly concave in the line, where halved Newton steps find the maximum.
Assumptions: the log-odds are such a line, and which pairs get a verdict depends on score and history but not on the outcome. That holds for
audits and the judge. Thumbs come more often when something is wrong; they make the fit stricter than the truth, not laxer.

The lower bound of the log-odds is z standard deviations below, from the curvature of the posterior, less what the shifts of the entries
might explain as well (Laplace, Schur complement). Neither log-odds nor bound may fall when the score rises: a bound that holds at a score
holds above it too. So both are taken as their running maximum from below.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from farthing.caching.entries import Counted, EntryHistory
from farthing.caching.log_odds import SCORES, SHIFTS, between, mixed, prior_weights, sigmoid, unmixed

_IMAGINED = 20.0
"""Entries that the shipped weights are worth."""
_IMAGINED_LAPSES = 500.0
"""Verdicts that the shipped ε is worth."""
_STEPS = 10
_CLOSE = 1e-4
_TINY = 1e-300

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]

_Vector = tuple[float, float, float]
_Matrix = tuple[float, float, float, float, float, float]
"""A symmetric matrix: its rows' elements from the diagonal on."""
_Cell = tuple[int, list[float], list[float]]
"""A bin, and for each shift how many verdicts there are that both are the same and that they are not."""


class ShippedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What is believed of a tenant before any verdict.

    `shift_sd`, `slope_sd` and `bend_sd` are the standard deviations of b, a and c: how far the verifier may be off. `knot` is k. `spread`
    is how much entries differ in log-odds, `odd` the share of them that may be anything; `lapse` is ε.
    """

    shift_sd: _Positive = 0.5
    slope_sd: _Positive = 0.1
    bend_sd: _Positive = 0.2
    knot: float = 3.0
    spread: _Positive = 2.0
    odd: _Share = 0.06
    lapse: _Share = 0.002


class Population:
    """The fit of a tenant. `deviations` is z.

    `line` is (b, a - 1, c) as fitted, `weights` those of `SHIFTS` among all entries, `lapse` ε.
    """

    def __init__(self, shipped: ShippedModel, *, deviations: float) -> None:
        self._precision = (shipped.shift_sd**-2, shipped.slope_sd**-2, shipped.bend_sd**-2)
        self._hinges = tuple(max(s - shipped.knot, 0.0) for s in SCORES)
        self._deviations = deviations
        self._shipped = prior_weights(shipped.spread, shipped.odd)
        self._base = [unmixed(s, self._shipped) for s in SCORES]
        self.line: _Vector = (0.0, 0.0, 0.0)
        self.weights = self._shipped
        self.lapse = self._lapse_high = shipped.lapse
        self._shipped_lapse = shipped.lapse
        self._same: list[list[float]] = []
        self._wrong: list[list[float]] = []
        self._means: list[float] = []
        self._lows: list[float] = []
        self._cells: list[tuple[list[float], list[float]] | None] = [None] * len(SCORES)
        self._found = [0.0] * len(SHIFTS)
        self._curvature = [0.0] * 6
        self._entries = 0.0
        self._tabulate()

    def fit(self) -> None:
        """Find the weights, the lapse rate and the line that fit best what is counted. About 5 ms."""
        entries = _IMAGINED + self._entries
        self.weights = tuple((_IMAGINED * shipped + found) / entries for shipped, found in zip(self._shipped, self._found, strict=True))
        cells = [(at, list(both[0]), list(both[1])) for at, both in enumerate(self._cells) if both is not None]
        self._excuse(cells)
        self._climb(cells)
        self._tabulate()

    def settle(self, history: EntryHistory) -> None:
        """Find the posterior of an entry's shift, and count it instead of what was counted of it before."""
        self.discount(history)
        found = [0.0] * len(SHIFTS)
        for at, same, weight in history.rows:
            found = [total + weight * part for total, part in zip(found, (self._same if same else self._wrong)[at], strict=True)]
        highest = max(found)
        likely = [weight * math.exp(each - highest) for weight, each in zip(self.weights, found, strict=True)]
        total = sum(likely)
        history.weights = tuple(each / total for each in likely)
        history.counted = Counted(rows=tuple(history.rows), weights=history.weights, curvature=self._curvature_of(history))
        self._count(history.counted, 1.0)

    def discount(self, history: EntryHistory) -> None:
        """Take out what was counted of an entry."""
        if history.counted is not None:
            self._count(history.counted, -1.0)
            history.counted = None

    def _count(self, counted: Counted, sign: float) -> None:
        self._entries += sign
        self._found = [max(total + sign * weight, 0.0) for total, weight in zip(self._found, counted.weights, strict=True)]
        self._curvature = [total + sign * part for total, part in zip(self._curvature, counted.curvature, strict=True)]
        for at, same, weight in counted.rows:
            both = self._cells[at] = self._cells[at] or ([0.0] * len(SHIFTS), [0.0] * len(SHIFTS))
            kind = both[0] if same else both[1]
            kind[:] = [max(total + sign * weight * part, 0.0) for total, part in zip(kind, counted.weights, strict=True)]

    def _curvature_of(self, history: EntryHistory) -> tuple[float, ...]:
        """What an entry says about the line, less what its shift may explain as well."""
        shift = history.shift
        sum_1 = sum_s = sum_h = aa = ac = cc = 0.0
        for at, _, weight in history.rows:
            p = sigmoid(self._means[at] + shift)
            curve = weight * p * (1 - p)
            s, h = SCORES[at], self._hinges[at]
            sum_1, sum_s, sum_h = sum_1 + curve, sum_s + curve * s, sum_h + curve * h
            aa, ac, cc = aa + curve * s * s, ac + curve * s * h, cc + curve * h * h
        shared = 1 / (sum_1 + self._looseness)
        return (
            sum_1 - shared * sum_1 * sum_1,
            sum_s - shared * sum_1 * sum_s,
            sum_h - shared * sum_1 * sum_h,
            aa - shared * sum_s * sum_s,
            ac - shared * sum_s * sum_h,
            cc - shared * sum_h * sum_h,
        )

    def risk(self, score: float, history: EntryHistory | None, penalty: float) -> tuple[float, float]:
        """P(wrong) and its upper bound, for an entry with a history or (None) for one that nobody knows, and `penalty` log-odds worse.

        Line and lapse rate are not both at their worst at once: how far each could be off is added up as independent errors are. The sum
        still falls when the score rises, since it rises with both P(wrong) by the line and P(wrong) by its lower bound.
        """
        odds, low = self.log_odds(score)
        weights = history.weights if history else self.weights
        mean, high = mixed(odds - penalty, weights), mixed(low - penalty, weights)
        wrong = self.lapse + (1 - self.lapse) * mean
        return wrong, min(wrong + math.hypot(high - mean, self._lapse_high - self.lapse), 1.0)

    def log_odds(self, score: float) -> tuple[float, float]:
        """Those of an average entry, that is without its shift, and their lower bound."""
        index, part = between(score)
        mean, low = self._means[index], self._lows[index]
        return mean + part * (self._means[index + 1] - mean), low + part * (self._lows[index + 1] - low)

    def _odds(self, line: _Vector) -> list[float]:
        b, a, c = line
        return [base + b + a * s + c * h for base, s, h in zip(self._base, SCORES, self._hinges, strict=True)]

    def _excuse(self, cells: list[_Cell]) -> None:
        """Take what are lapses out of these verdicts, and count them: that is ε, and its upper bound by the curvature of its likelihood."""
        lapses, verdicts = _IMAGINED_LAPSES * self._shipped_lapse, _IMAGINED_LAPSES
        sure = _IMAGINED_LAPSES / (self._shipped_lapse * (1 - self._shipped_lapse))
        for at, same, wrong in cells:
            for k, (right, bad) in enumerate(zip(same, wrong, strict=True)):
                p = math.exp(self._wrong[at][k])  # of being wrong, lapses included
                lapsed = bad * self.lapse / p
                lapses += lapsed
                verdicts += right + bad
                sure += (right + bad) * (1 - p) / p
                wrong[k] = bad - lapsed
        self.lapse = lapses / verdicts
        self._lapse_high = min(self.lapse + self._deviations / math.sqrt(sure), 1.0)

    def _climb(self, cells: list[_Cell]) -> None:
        """Move the line to the maximum for these verdicts: how many there are, in each bin and at each shift, of both kinds."""
        height, step = self._slope(cells, self.line)
        for _ in range(_STEPS):
            size = 1.0
            while size > _CLOSE:
                moved = (self.line[0] + size * step[0], self.line[1] + size * step[1], self.line[2] + size * step[2])
                higher, next_step = self._slope(cells, moved)
                if higher >= height:
                    break
                size /= 2
            else:
                return
            gained = higher - height
            self.line, height, step = moved, higher, next_step
            if gained < _CLOSE:
                return

    def _slope(self, cells: list[_Cell], line: _Vector) -> tuple[float, _Vector]:
        """The height of what is to be maximised, up to a constant, and Newton's step."""
        b, a, c = line
        bb, aa, cc = self._precision
        height = -(bb * b * b + aa * a * a + cc * c * c) / 2
        up_b, up_a, up_c = -bb * b, -aa * a, -cc * c
        ba = bc = ac = 0.0
        odds = self._odds(line)
        for at, same, wrong in cells:
            miss = curve = 0.0
            for shift, right, bad in zip(SHIFTS, same, wrong, strict=True):
                p = sigmoid(odds[at] + shift)
                both = right + bad
                miss += right - both * p
                curve += both * p * (1 - p)
                height += right * math.log(p + _TINY) + bad * math.log(1 - p + _TINY)
            s, h = SCORES[at], self._hinges[at]
            up_b, up_a, up_c = up_b + miss, up_a + miss * s, up_c + miss * h
            bb, ba, bc = bb + curve, ba + curve * s, bc + curve * h
            aa, ac, cc = aa + curve * s * s, ac + curve * s * h, cc + curve * h * h
        bb, ba, bc, aa, ac, cc = _inverse((bb, ba, bc, aa, ac, cc))
        return height, (bb * up_b + ba * up_a + bc * up_c, ba * up_b + aa * up_a + ac * up_c, bc * up_b + ac * up_a + cc * up_c)

    def _tabulate(self) -> None:
        """What is looked up: log-odds and lower bound at each bin's score, and the logarithms of both outcomes for each shift."""
        odds = self._odds(self.line)
        e = self.lapse
        self._same = [[math.log((1 - e) * sigmoid(each + shift)) for shift in SHIFTS] for each in odds]
        self._wrong = [[math.log(e + (1 - e) * sigmoid(-each - shift)) for shift in SHIFTS] for each in odds]
        self._looseness = 1 / sum(weight * shift * shift for weight, shift in zip(self.weights, SHIFTS, strict=True))
        of_b, of_a, of_c = self._precision
        bb, ba, bc, aa, ac, cc = self._curvature
        bb, ba, bc, aa, ac, cc = _inverse((bb + of_b, ba, bc, aa + of_a, ac, cc + of_c))
        self._means, self._lows = [], []
        highest_mean, highest_low = -math.inf, -math.inf
        for each, s, h in zip(odds, SCORES, self._hinges, strict=True):
            variance = bb + aa * s * s + cc * h * h + 2 * (ba * s + bc * h + ac * s * h)
            highest_mean = max(highest_mean, each)
            highest_low = max(highest_low, each - self._deviations * math.sqrt(max(variance, 0.0)))
            self._means.append(highest_mean)
            self._lows.append(highest_low)


def _inverse(matrix: _Matrix) -> _Matrix:
    """Of a positive definite matrix, by its cofactors."""
    bb, ba, bc, aa, ac, cc = matrix
    first, second, third = aa * cc - ac * ac, bc * ac - ba * cc, ba * ac - aa * bc
    size = bb * first + ba * second + bc * third
    return first / size, second / size, third / size, (bb * cc - bc * bc) / size, (ba * bc - bb * ac) / size, (bb * aa - ba * ba) / size
