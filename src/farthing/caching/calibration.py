"""How likely the answer to one question is wrong for another: what a tenant's verdicts make of the verifier's score.

`population` says how it is learnt, under which assumptions and with which guarantee. The upper bound covers what all decisions share, the
uncertainty of the line and of the lapse rate: an error there makes all answers wrong too often at once. What is not known of single entries
is averaged over instead, since such errors are independent of each other and average out over what is served. In simulated tenants, drawn
as the shipped model believes them to be, the bound at 0.9 holds in 85 to 90 of 100. Where entries are not independent (a whole topic for
which the verifier is wrong, from one day to the next) it does not cover what verdicts have not shown yet: that is what audits are for.

The state is a fold over verdicts. One that came before (by id) changes nothing. The same verdicts in another order, or all at once, give
the same up to when the population was fitted last and how often (EM has not quite converged): P(wrong) agrees within a factor of 1.5, as a
test shows. Death by the second fault counts what was known before each, so it may come one verdict later in another order.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from statistics import NormalDist
from typing import Annotated
from uuid import UUID

import msgspec

from farthing.caching.consequence import consequence
from farthing.caching.entries import Entries, EntryHistory
from farthing.caching.log_odds import SHIFTS
from farthing.caching.population import Population, ShippedModel
from farthing.types import Verdict, VerdictBy

_SETTLING_FITS = 5
"""So many steps of EM after a start, when everything comes at once."""
_RENEWED = 100
"""So many entries that had no verdict of late follow the population at each fit."""

_AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
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
    """What is shipped, and what is kept.

    `shipped` is what is believed before any verdict. `confidence` is that of the upper bound.

    Each served fault that is not outweighed by `redeem` times as many right answers costs its entry `strike` log-odds beyond what is learnt
    from it: a fault at a high score might be a lapse, and whether it was is not found out at the expense of whoever asks next.

    Bounds: `max_entries` have a history (and as many dead ones are remembered) of at most `per_entry` verdicts each; of each unit of the
    score the newest `per_band` verdicts count; `max_known` verdicts are known by id. The population is fitted anew when the verdicts that
    came since the last time are more than `patience` times those that count.
    """

    shipped: ShippedModel = ShippedModel()
    confidence: Annotated[float, msgspec.Meta(ge=0.5, lt=1)] = 0.9
    strike: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    redeem: Annotated[float, msgspec.Meta(gt=0)] = 3.0
    max_entries: _AtLeastOne = 10_000
    per_entry: _AtLeastOne = 32
    per_band: _AtLeastOne = 300
    max_known: _AtLeastOne = 10_000
    patience: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.02
    weights: VerdictWeights = VerdictWeights()


class Assessment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is thought of serving one answer for one question, and the numbers behind it.

    `log_odds` are those of an average entry of the tenant at this score and `log_odds_low` their lower bound; `entry_shift` is what this
    entry's own verdicts are expected to add, None: it has none. `dead`: it must not be served, whatever the score.
    """

    score: float
    log_odds: float
    log_odds_low: float
    entry_shift: float | None = None
    dead: bool = False
    mean_wrong: float
    upper_wrong: float


class CalibrationState(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant's calibration has come to, for people. `spread` is how much entries differ, `evidence` what still counts."""

    shift: float
    slope: float
    bend: float
    lapse: float
    spread: float
    verdicts: int
    entries: int
    dead: int


class Calibration:
    """The calibration of one tenant. Not safe to share between threads."""

    def __init__(self, settings: CalibrationSettings | None = None) -> None:
        self._settings = settings = settings or CalibrationSettings()
        self._population = Population(settings.shipped, deviations=NormalDist().inv_cdf(settings.confidence))
        self._entries = Entries(most=settings.max_entries, per_entry=settings.per_entry, per_band=settings.per_band)
        self._dead: OrderedDict[UUID, None] = OrderedDict()
        self._known: OrderedDict[UUID, None] = OrderedDict()
        self._turn: deque[EntryHistory] = deque()
        self._waiting = 0
        self._fitted = 0

    def assess(self, score: float, question_id: UUID) -> Assessment:
        """How likely the answer of this entry is wrong for a question with this score."""
        history = self._entries.get(question_id)
        dead = question_id in self._dead
        odds, low = self._population.log_odds(score)
        penalty = self._penalty(history) if history else 0.0
        mean, upper = (1.0, 1.0) if dead else self._population.risk(score, history, penalty)
        return Assessment(
            score=score,
            log_odds=odds,
            log_odds_low=low,
            entry_shift=history.shift - penalty if history else None,
            dead=dead,
            mean_wrong=mean,
            upper_wrong=upper,
        )

    def learn(self, verdict: Verdict) -> bool:
        """Take a verdict into account: at once for its entry, and for all others with the next fit. False when it was known."""
        if not self._take(verdict):
            return False
        self._waiting += 1
        if self._waiting > self._settings.patience * self._fitted:
            for history in self._oldest(_RENEWED):
                self._population.settle(history)
            self._fit()
        return True

    def fold(self, verdicts: Iterable[Verdict]) -> int:
        """Take verdicts into account, oldest first, with one fit for all of them. Returns how many were new."""
        new = sum(map(self._take, sorted(verdicts, key=lambda verdict: (verdict.at, verdict.id))))
        if new:
            for _ in range(_SETTLING_FITS):
                self._fit()
                for history in self._entries:
                    self._population.settle(history)
        return new

    def history(self, question_id: UUID) -> EntryHistory | None:
        """What is known of an entry, for `consequence`."""
        return self._entries.get(question_id)

    def forget(self, question_id: UUID) -> None:
        """Drop what is known of an entry that has left the cache. A dead one stays dead."""
        history = self._entries.forget(question_id)
        if history:
            self._population.discount(history)

    @property
    def state(self) -> CalibrationState:
        """What it has come to."""
        shift, tilt, bend = self._population.line
        return CalibrationState(
            shift=shift,
            slope=1 + tilt,
            bend=bend,
            lapse=self._population.lapse,
            spread=math.sqrt(sum(w * u * u for w, u in zip(self._population.weights, SHIFTS, strict=True))),
            verdicts=self._entries.rows,
            entries=len(self._entries),
            dead=len(self._dead),
        )

    def _take(self, verdict: Verdict) -> bool:
        if verdict.id in self._known:
            return False
        _remember(self._known, verdict.id, self._settings.max_known)
        entry = verdict.question_id
        if consequence(verdict, self._entries.get(entry)) == "dead":
            _remember(self._dead, entry, self._settings.max_entries)
        weight = self._settings.weights.of(verdict.by)
        history, forgotten = self._entries.add(entry, verdict.score, same=verdict.same, served=verdict.served, weight=weight)
        for each in forgotten:
            self._population.discount(each)
        self._population.settle(history)
        return True

    def _fit(self) -> None:
        self._population.fit()
        self._waiting, self._fitted = 0, self._entries.rows

    def _oldest(self, count: int) -> Iterable[EntryHistory]:
        """Those whose posterior was not renewed for longest."""
        if not self._turn:
            self._turn = deque(self._entries)
        turn = (self._turn.popleft() for _ in range(min(count, len(self._turn))))
        return [history for history in turn if history.counted]

    def _penalty(self, history: EntryHistory) -> float:
        """The log-odds that served faults cost an entry."""
        return self._settings.strike * max(history.wrong - history.right / self._settings.redeem, 0.0)


def _remember(ids: OrderedDict[UUID, None], which: UUID, most: int) -> None:
    ids[which] = None
    if len(ids) > most:
        ids.popitem(last=False)
