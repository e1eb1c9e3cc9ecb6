"""How likely the answer to one question is wrong for another: what a tenant's verdicts make of the verifier's score.

P(wrong) = σ(−(population's log-odds at this score, seen through what is known of the entry)). `population` and `entries` say how each of
the two is learnt, under which assumptions and with which guarantee.

The upper bound covers what is shared by all decisions, the uncertainty of slope and shift: an error there makes all answers wrong too
often at once. What is not known of single entries is integrated into the mean instead, since such errors are independent of each other
and average out over what is served.

The state is a fold over verdicts. One that came before (by id) changes nothing. In another order the same verdicts give the same up to
forgetting (a verdict's weight differs by at most half a part for each half-life it is moved) and the point where an entry's curvature
is taken; shuffling 200 verdicts moves log-odds by less than 0.5. Death by two faults counts what was known before each, so it may need one
verdict more in another order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from statistics import NormalDist
from typing import Annotated
from uuid import UUID

import msgspec

from farthing.caching.consequence import consequence
from farthing.caching.entries import Entries, EntryHistory
from farthing.caching.population import Population, bounded, sigmoid
from farthing.types import Verdict, VerdictBy

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Weight = Annotated[float, msgspec.Meta(gt=0, le=1)]


class VerdictWeights(msgspec.Struct, frozen=True, kw_only=True):
    """How much a verdict counts, by who gave it.

    `shadow`: the model answered the same question again and the two answers were compared: what an answer is, is seen. `correction`:
    somebody took the trouble to write the right answer. `judge`: a cheap model read two questions; such judges agree with people about four
    times in five (Zheng et al., 2023, arXiv 2306.05685). `thumb`: may be about the tone, or a slip; and people complain more readily than
    they praise.
    """

    shadow: _Weight = 1.0
    correction: _Weight = 1.0
    judge: _Weight = 0.7
    thumb: _Weight = 0.3

    def of(self, by: VerdictBy) -> float:
        """The weight of one verdict."""
        match by:
            case "shadow":
                return self.shadow
            case "correction":
                return self.correction
            case "judge":
                return self.judge
            case "thumb":
                return self.thumb


class CalibrationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`confidence` is that of the upper bound. `slope_sd` and `shift_sd` say how far a tenant's scores may be from the shipped calibration.

    `half_life` is the number of (full-weight) verdicts after which an older one counts half. `spread` is the shipped guess of how much
    entries differ, in log-odds. `strike` is what a served fault costs its entry in log-odds, and `redeem` how many right answers outweigh
    one fault. At most `max_entries` have a history, and so many dead ones and `max_known` verdicts are remembered by id.
    """

    confidence: Annotated[float, msgspec.Meta(ge=0.5, lt=1)] = 0.9
    slope_sd: _Positive = 0.1
    shift_sd: _Positive = 0.5
    half_life: _Positive = 1000.0
    spread: _Positive = 1.0
    strike: _Positive = 2.0
    redeem: _Positive = 3.0
    max_entries: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    max_known: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    weights: VerdictWeights = VerdictWeights()


class Assessment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is thought of serving one answer for one question, and the numbers behind it.

    `log_odds` are the population's at this score and `log_odds_low` their lower bound; `entry_shift` and `entry_penalty` what the entry's
    own verdicts add and take; `dead`: it must not be served, whatever the score.
    """

    score: float
    log_odds: float
    log_odds_low: float
    entry_shift: float = 0.0
    entry_penalty: float = 0.0
    dead: bool = False
    mean_wrong: float
    upper_wrong: float


class CalibrationState(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant's calibration has come to, for people. `spread` is how much entries differ, `evidence` what still counts."""

    slope: float
    shift: float
    evidence: float
    spread: float
    entries: int
    dead: int


class Calibration:
    """The calibration of one tenant. Not safe to share between threads."""

    def __init__(self, settings: CalibrationSettings | None = None) -> None:
        self._settings = settings = settings or CalibrationSettings()
        self._population = Population(
            slope_sd=settings.slope_sd,
            shift_sd=settings.shift_sd,
            half_life=settings.half_life,
            deviations=NormalDist().inv_cdf(settings.confidence),
        )
        self._entries = Entries(spread=settings.spread, strike=settings.strike, redeem=settings.redeem, most=settings.max_entries)
        self._dead: OrderedDict[UUID, None] = OrderedDict()
        self._known: OrderedDict[UUID, None] = OrderedDict()

    def assess(self, score: float, question_id: UUID) -> Assessment:
        """How likely the answer of this entry is wrong for a question with this score. About 4 µs."""
        mean, low = self._population.log_odds(score)
        if question_id in self._dead:
            return Assessment(score=score, log_odds=mean, log_odds_low=low, dead=True, mean_wrong=1.0, upper_wrong=1.0)
        history = self._entries.get(question_id)
        if history is None:
            return Assessment(score=score, log_odds=mean, log_odds_low=low, mean_wrong=sigmoid(-mean), upper_wrong=sigmoid(-low))
        return Assessment(
            score=score,
            log_odds=mean,
            log_odds_low=low,
            entry_shift=self._entries.shift(history)[0],
            entry_penalty=self._entries.penalty(history),
            mean_wrong=sigmoid(-self._entries.apply(history, mean)),
            upper_wrong=sigmoid(-self._entries.apply(history, low)),
        )

    def learn(self, verdict: Verdict) -> bool:
        """Take a verdict into account, at once. False when it was known."""
        return self.fold((verdict,)) == 1

    def fold(self, verdicts: Iterable[Verdict]) -> int:
        """Take verdicts into account, oldest first, with one fit for all of them. Returns how many were new."""
        new = [verdict for verdict in sorted(verdicts, key=lambda each: (each.at, each.id)) if self._is_new(verdict.id)]
        for verdict in new:
            weight = self._settings.weights.of(verdict.by)
            self._population.add(bounded(verdict.score), same=verdict.same, weight=weight)
        if new:
            self._population.fit()
        for verdict in new:
            self._judge(verdict)
        return len(new)

    def history(self, question_id: UUID) -> EntryHistory | None:
        """What is known of an entry, for `consequence`."""
        return self._entries.get(question_id)

    def forget(self, question_id: UUID) -> None:
        """Drop what is known of an entry that has left the cache. A dead one stays dead."""
        self._entries.forget(question_id)

    @property
    def state(self) -> CalibrationState:
        """What it has come to."""
        return CalibrationState(
            slope=self._population.slope,
            shift=self._population.shift,
            evidence=self._population.evidence,
            spread=self._entries.spread,
            entries=len(self._entries),
            dead=len(self._dead),
        )

    def _judge(self, verdict: Verdict) -> None:
        """What a verdict says about its entry."""
        if consequence(verdict, self._entries.get(verdict.question_id)) == "dead":
            self._dead[verdict.question_id] = None
            if len(self._dead) > self._settings.max_entries:
                self._dead.popitem(last=False)
        self._entries.add(
            verdict.question_id,
            self._population.log_odds(verdict.score)[0],
            same=verdict.same,
            served=verdict.served,
            weight=self._settings.weights.of(verdict.by),
        )

    def _is_new(self, verdict_id: UUID) -> bool:
        if verdict_id in self._known:
            return False
        self._known[verdict_id] = None
        if len(self._known) > self._settings.max_known:
            self._known.popitem(last=False)
        return True
