"""How many of the answers that were served are wrong, as it was measured, and what follows from it.

Audits are the measure: hits chosen at random, each with a known share, and compared with a fresh answer. Weighted by 1/share they
estimate the share of wrong answers among all that were served, whatever the shares were (Horvitz and Thompson, 1952; divided by the sum
of weights: Hájek, 1971, unbiased up to O(1/n)). A share is taken relative to the other hits of its time: when all are audited more or
less often than before, older audits count for no more or less, since what is asked for is the error now. The interval is Clopper and
Pearson's on the effective number of audits, (Σw)²/Σw² (Kish, 1965; Korn and Graubard, 1998). Older audits fade, `half_life` audits to a
half, so that the estimate follows drift. During an alarm, what it withholds is audited instead of what is served, with share 1.

Thumbs are no sample: who is content says nothing. They enter as what they prove: of the answers served, at least those that somebody
corrected or disliked were wrong, up to the `trust` in such a verdict. That can raise the lower bound, and nothing else.

Each bound holds with `confidence` when it is looked at once; looked at all the time, it will be wrong somewhere more often. An alarm that
is false costs some hits until enough audits have come. What audits can see takes its number: at δ = 1%, the alarm rises after about 400
audits where 2% are wrong, after 130 where 3% are, after 45 where 5% are, and it takes 300 audits without a fault to prove less than 1%.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec

from farthing.caching.proportions import interval
from farthing.types import Verdict


class EstimateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`confidence` is that of each bound. `half_life` in audits. `trust`: how many of the complaints are about a wrong answer.

    `loosest` and `tightest` bound the factor that the estimate may put on P(wrong). `max_known`: remembered verdicts.
    """

    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.95
    half_life: Annotated[float, msgspec.Meta(gt=0)] = 500.0
    trust: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    loosest: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    tightest: Annotated[float, msgspec.Meta(ge=1)] = 10.0
    max_known: Annotated[int, msgspec.Meta(ge=1)] = 10_000


class ErrorShare(NamedTuple):
    """The estimated share of wrong answers among those served, its bounds, and how many audits it rests on, in effect."""

    rate: float
    low: float
    high: float
    n: float


class ErrorEstimate:
    """The estimate of one tenant."""

    def __init__(self, settings: EstimateSettings | None = None) -> None:
        self._settings = settings = settings or EstimateSettings()
        self._fade = 0.5 ** (1 / settings.half_life)
        self._weight = 0.0
        self._squares = 0.0
        self._wrong = 0.0
        self._served = 0.0
        self._complaints = 0.0
        self._known: OrderedDict[UUID, None] = OrderedDict()
        self._found: ErrorShare | None = None

    def served(self) -> None:
        """An answer was served. Counted for what complaints prove."""
        self._served += 1

    def add(self, verdict: Verdict, share: float) -> bool:
        """Take a verdict into account; `share` is that of an audit (`AuditShare.relative`). False: it says nothing new."""
        if verdict.id in self._known:
            return False
        if verdict.audit and share > 0:
            self._audit(1 / share, wrong=not verdict.same)
        elif verdict.served and verdict.by in {"thumb", "correction"} and not verdict.same:
            self._complaints += 1
        else:
            return False
        self._known[verdict.id] = None
        if len(self._known) > self._settings.max_known:
            self._known.popitem(last=False)
        self._found = None
        return True

    def interval(self) -> ErrorShare:
        """The estimate now. Without any audit: nothing is known, 0 to 1."""
        if self._found is None:
            self._found = self._find()
        return self._found

    def tightening(self, delta: float) -> float:
        """The factor on every P(wrong) that the measured error asks for; 1 while it agrees with δ.

        Above 1 from the moment when the lower bound is above δ, and as far above as the estimate is. Below 1 when the upper bound is
        below δ: more is served until the measured error comes up to δ, which by then is bounded by measurement instead of by the model.
        """
        rate, low, high, _ = self.interval()
        if low > delta:
            return min(max(rate / delta, 1.0), self._settings.tightest) if delta > 0 else self._settings.tightest
        return max(high / delta, self._settings.loosest) if high < delta else 1.0

    def _audit(self, weight: float, *, wrong: bool) -> None:
        self._weight = self._weight * self._fade + weight
        self._squares = self._squares * self._fade**2 + weight**2
        self._wrong = self._wrong * self._fade + (weight if wrong else 0.0)
        self._served *= self._fade
        self._complaints *= self._fade

    def _find(self) -> ErrorShare:
        settings = self._settings
        n = self._weight**2 / self._squares if self._squares else 0.0
        rate = self._wrong / self._weight if self._weight else 0.0
        low, high = interval(rate * n, n, settings.confidence)
        proven = interval(self._complaints, self._served, settings.confidence)[0] * settings.trust if self._served else 0.0
        return ErrorShare(rate=max(rate, proven), low=max(low, proven), high=max(high, proven), n=n)
