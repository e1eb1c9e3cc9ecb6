"""How a cached question differs from the rest of its tenant's: a random effect, shrunk towards none.

Each entry has its own shift u of the log-odds, u ~ N(0, τ²), and τ² is learnt from all entries (empirical Bayes: Robbins, 1956; Efron and
Morris, 1975). So an entry without verdicts behaves as the population does and needs no exploration of its own, in contrast to one logistic
model for each entry (vCache: Schroeder et al., 2025, arXiv 2502.03771), and an entry with verdicts moves as far as they and τ² warrant.

A verdict's likelihood is replaced by the Gaussian that has its peak and curvature at the entry's most probable shift (online Laplace:
Opper, 1998; Ritter, Botev and Barber, 2018), which two numbers for each entry hold. The search is Newton's in one dimension on a strictly
concave function, and its steps are bounded. τ² follows by online EM (Cappé and Moulines, 2009): the mean of E[u²] over the newest
verdicts, beside `_PRIOR_VERDICTS` imagined ones at the shipped τ². Assumption: entries are alike up to a Gaussian. They are not quite: some
are simply bad. That tail is what strikes are for: a served answer that was wrong costs its entry `strike` of log-odds at once, until
`redeem` times as much evidence says that it was right.

The order of an entry's verdicts matters only through where the curvature is taken. The population's log-odds are those of an average entry
without knowing which; `KAPPA` converts between the two (MacKay, 1992: the integral of σ over N(m, v) is about σ(m / √(1 + πv/8))).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from uuid import UUID

import msgspec

from farthing.caching.population import sigmoid

_PRIOR_VERDICTS = 20.0
_FORGET = 0.998
_STEPS = 12
_LONGEST_STEP = 2.0
_CLOSE = 1e-6


class EntryHistory(msgspec.Struct, kw_only=True, gc=False):
    """What is known of one entry. `pull` and `grip` are the sums of the Gaussians' mean times precision, and of their precisions.

    `right` and `wrong` are the weights of verdicts on answers that were served, `faults` how many of those were wrong.
    """

    pull: float = 0.0
    grip: float = 0.0
    right: float = 0.0
    wrong: float = 0.0
    faults: int = 0


def attenuation(variance: float) -> float:
    """By how much not knowing a Gaussian shift of the log-odds flattens them (MacKay, 1992, equation 10)."""
    return 1 / math.sqrt(1 + math.pi * variance / 8)


class Entries:
    """The histories of at most `most` entries. When there are more, those that are forgotten first have no fault, and the oldest verdict."""

    def __init__(self, *, spread: float, strike: float, redeem: float, most: int) -> None:
        self._spread = spread
        self._strike = strike
        self._redeem = redeem
        self._most = most
        self._fine: OrderedDict[UUID, EntryHistory] = OrderedDict()
        self._faulty: OrderedDict[UUID, EntryHistory] = OrderedDict()
        self._squares = 0.0
        self._verdicts = 0.0
        self._flatten = attenuation(spread**2)

    def __len__(self) -> int:
        return len(self._fine) + len(self._faulty)

    @property
    def spread(self) -> float:
        """τ: how much entries differ."""
        return math.sqrt(self.variance)

    @property
    def variance(self) -> float:
        """τ²."""
        return (_PRIOR_VERDICTS * self._spread**2 + self._squares) / (_PRIOR_VERDICTS + self._verdicts)

    def get(self, question_id: UUID) -> EntryHistory | None:
        """The history of an entry; None: nobody has said anything about it."""
        return self._fine.get(question_id) or self._faulty.get(question_id)

    def shift(self, history: EntryHistory) -> tuple[float, float]:
        """The mean and the variance of an entry's u."""
        precision = 1 / self.variance + history.grip
        return history.pull / precision, 1 / precision

    def penalty(self, history: EntryHistory) -> float:
        """The log-odds that faults cost an entry."""
        return self._strike * max(history.wrong - history.right / self._redeem, 0.0)

    def apply(self, history: EntryHistory | None, log_odds: float) -> float:
        """The population's log-odds, as they are for this entry."""
        if history is None:
            return log_odds
        mean, variance = self.shift(history)
        return (log_odds / self._flatten + mean) * attenuation(variance) - self.penalty(history)

    def add(self, question_id: UUID, log_odds: float, *, same: bool, served: bool, weight: float) -> EntryHistory:
        """Count a verdict about an entry, for a pair that has these log-odds for the population. Returns what is known now."""
        history = self.get(question_id) or EntryHistory()
        self._learn(history, log_odds, same=same, weight=weight)
        if served and same:
            history.right += weight
        elif served:
            history.wrong += weight
            history.faults += 1
        self._keep(question_id, history)
        return history

    def forget(self, question_id: UUID) -> None:
        """Drop an entry that is no more."""
        self._fine.pop(question_id, None)
        self._faulty.pop(question_id, None)

    def _learn(self, history: EntryHistory, log_odds: float, *, same: bool, weight: float) -> None:
        base = log_odds / self._flatten
        prior = 1 / self.variance + history.grip
        mean = history.pull / prior
        u, curve = mean, 0.0
        for _ in range(_STEPS):
            p = sigmoid(base + u)
            curve = weight * p * (1 - p)
            step = (weight * ((1 if same else 0) - p) - prior * (u - mean)) / (prior + curve)
            u += min(max(step, -_LONGEST_STEP), _LONGEST_STEP)
            if abs(step) < _CLOSE:
                break
        history.grip += curve
        history.pull = u * (prior + curve)
        self._squares = self._squares * _FORGET + u * u + 1 / (prior + curve)
        self._verdicts = self._verdicts * _FORGET + 1
        self._flatten = attenuation(self.variance)

    def _keep(self, question_id: UUID, history: EntryHistory) -> None:
        self.forget(question_id)
        (self._faulty if history.faults else self._fine)[question_id] = history
        while len(self) > self._most:
            (self._fine or self._faulty).popitem(last=False)
