"""Which answers may be served: an account of the error budget δ.

Every answer that is served pays δ into the account and takes its upper P(wrong) out of it. The account starts at `opening` (0), is never
overdrawn, and holds at most `cap`: what is paid in above that is lost. An answer is served when

1. its upper P(wrong) is at most δ: it pays in; or
2. it is at most the limit δ·(1 + (`most` - 1)·account/`cap`), and the account can pay for it.

Guarantee, without any assumption on traffic: over every stretch of answers served, however it is chosen,
Σ upper P(wrong) ≤ δ·served + `cap`, and from the start Σ upper P(wrong) ≤ δ·served + `opening`. For what comes in less what goes out is
what the account has changed by (less what was lost), and it stays between 0 and `cap`. Where each upper bound holds on average over what
is served (which is what `calibration` and, behind it, the alarm of `estimate` are for), the expected number of wrong answers is at most
that, hence their share at most δ in the long run. While `tightening` is below 1, "upper P(wrong)" means the tightened one, and it is the
measured error that vouches for it. Bounds of N workers add up, and so do answers: N accounts that each keep it keep it together, with
N·`cap`, and with nothing shared.

Rule 2 is the drift-plus-penalty rule for "as many as possible, at most δ wrong on average" (Neely, 2010, Stochastic network optimization,
chapter 4; the account is its virtual queue, seen from the other side): a threshold on P(wrong) that rises with the account and so finds by
itself the one that spends exactly δ. The fixed point is the best threshold in hindsight up to O(1/cap), since under a mean constraint the
best rule takes the surest answers first. A quiet time can't be saved up for a burst: at most `cap` wrong answers' worth of it are left.

The rule of vCache (Schroeder et al., 2025) bounds P(served and wrong) by δ for each request. Misses dilute that: at 10% hits up to a tenth
of the answers served may be wrong at δ = 1%. Ours bounds the share among the answers served, whatever the hit rate; on average over
requests it implies theirs.
Controlling an average through a running account is the idea of adaptive conformal inference (Gibbs and Candès, 2021) and of conformal risk
control (Angelopoulos et al., 2022); those steer by observed errors, which here are seen for a few answers only, and late.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from farthing.caching.calibration import Assessment


class RiskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`delta` is δ. `cap` and `opening` are in wrong answers. `most`: how many times δ the highest P(wrong) is that is ever served."""

    delta: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.01
    cap: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    opening: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    most: Annotated[float, msgspec.Meta(ge=1)] = 10.0


class RiskBudget:
    """The account of one tenant in one worker.

    `tightening` multiplies every P(wrong) (see `estimate.tightening`): above 1 while answers turn out wrong more often than they should,
    below 1 while they provably do so less often.
    """

    def __init__(self, settings: RiskSettings | None = None) -> None:
        self._settings = settings = settings or RiskSettings()
        self.account = min(settings.opening, settings.cap)
        self.tightening = 1.0

    @property
    def delta(self) -> float:
        """δ."""
        return self._settings.delta

    @property
    def limit(self) -> float:
        """The highest P(wrong) that would be served now."""
        settings = self._settings
        return settings.delta * (1 + (settings.most - 1) * self.account / settings.cap)

    def admits(self, assessment: Assessment) -> bool:
        """Whether the answer may be served. NaN never."""
        if assessment.dead:
            return False
        risk, delta = self.risk(assessment), self._settings.delta
        return risk <= delta or (risk <= self.limit and self.account + delta - risk >= 0)

    def withholds(self, assessment: Assessment) -> bool:
        """Whether the answer would pay into the account, if it were not for the alarm.

        Such answers are worth comparing with the model's afterwards, as audits: they show when the alarm may end, and harm nobody.
        """
        safe = not assessment.dead and assessment.upper_wrong <= self._settings.delta
        return safe and self.tightening > 1 and not self.admits(assessment)

    def served(self, assessment: Assessment) -> None:
        """Book an answer that was served."""
        self.account = min(max(self.account + self._settings.delta - self.risk(assessment), 0.0), self._settings.cap)

    def risk(self, assessment: Assessment) -> float:
        """What an answer costs."""
        return min(assessment.upper_wrong * self.tightening, 1.0)
