"""Ours with verdicts, ours without any, and a fixed threshold."""

from __future__ import annotations

import random
from collections import deque
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from calibrating.facts import Candidate, World
from farthing.caching.audits import AuditSettings, audit_share, should_audit
from farthing.caching.calibration import Calibration, CalibrationSettings
from farthing.caching.consequence import consequence
from farthing.caching.estimate import ErrorEstimate, EstimateSettings
from farthing.caching.risk import RiskBudget, RiskSettings
from farthing.types import Verdict, VerdictBy

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """Who says what, how often. `thumbs`: the share of wrong answers that somebody dislikes (right ones: a tenth of it, liked or disliked).

    `judged`: the share of the uncertain band (not served, P(wrong) at most `band`) that a cheap model judges. `noise`: how often judge and
    thumbs are mistaken. `delay`: after how many further questions a verdict arrives.
    """

    thumbs: float = 0.1
    judged: float = 0.5
    band: float = 0.5
    noise: float = 0.0
    delay: int = 20


class Threshold:
    """A fixed threshold on the score."""

    def __init__(self, least: float) -> None:
        self._least = least

    def serves(self, number: int, candidate: Candidate, world: World) -> bool:  # noqa: ARG002 - a fixed threshold asks nobody
        return candidate.score >= self._least


class Prior:
    """The account with the shipped calibration, which nobody corrects."""

    def __init__(self, settings: CalibrationSettings, risk: RiskSettings) -> None:
        self._calibration = Calibration(settings)
        self._risk = RiskBudget(risk)

    def serves(self, number: int, candidate: Candidate, world: World) -> bool:  # noqa: ARG002 - see the class
        assessment = self._calibration.assess(candidate.score, candidate.question_id)
        if not self._risk.admits(assessment):
            return False
        self._risk.served(assessment)
        return True


class Online:
    """The whole of it: calibration, account, estimate, audits."""

    def __init__(
        self,
        verdicts: Verdicts,
        *,
        calibration: CalibrationSettings | None = None,
        risk: RiskSettings | None = None,
        estimate: EstimateSettings | None = None,
        audits: AuditSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.calibration = Calibration(calibration)
        self.estimate = ErrorEstimate(estimate)
        self._delta = (risk or RiskSettings()).delta
        self.risk = RiskBudget(risk)
        self._audits = audits or AuditSettings()
        self._verdicts = verdicts
        self._random = random.Random(seed)  # noqa: S311 - a simulation
        self._coming: deque[tuple[int, Verdict, float]] = deque()
        self.hits = 0
        self.counts = {"shadow": 0, "judge": 0, "thumb": 0, "dead": 0}

    def serves(self, number: int, candidate: Candidate, world: World) -> bool:
        self._arrive(number, world)
        assessment = self.calibration.assess(candidate.score, candidate.question_id)
        self.risk.tightening = self.estimate.tightening(self._delta)
        request = UUID(int=self._random.getrandbits(128))
        if not self.risk.admits(assessment):
            if self.risk.withholds(assessment):
                self._say(number, request, candidate, by="judge", served=False, share=1.0)
            elif assessment.mean_wrong <= self._verdicts.band and self._random.random() < self._verdicts.judged:
                self._say(number, request, candidate, by="judge", served=False)
            return False
        share = audit_share(self._audits, hits=self.hits, found=self.estimate.interval(), delta=self._delta, assessment=assessment)
        self.risk.served(assessment)
        self.estimate.served()
        self.hits += 1
        if should_audit(request, share.probability):
            self._say(number, request, candidate, by="shadow", served=True, share=share.relative)
        elif self._random.random() < self._verdicts.thumbs * (0.1 if candidate.same else 1.0):
            self._say(number, request, candidate, by="thumb", served=True)
        return True

    def _say(self, number: int, request: UUID, candidate: Candidate, *, by: VerdictBy, served: bool, share: float = 0.0) -> None:
        mistaken = by != "shadow" and self._random.random() < self._verdicts.noise
        verdict = Verdict(
            id=UUID(int=request.int ^ 1),
            tenant="t",
            question_id=candidate.question_id,
            request_id=UUID(int=number),
            same=candidate.same != mistaken,
            by=by,
            score=candidate.score,
            served=served,
            audit=share > 0,
            at=_BEGIN + timedelta(seconds=number),
        )
        self.counts[by] += 1
        self._coming.append((number + self._verdicts.delay, verdict, share))

    def _arrive(self, number: int, world: World) -> None:
        while self._coming and self._coming[0][0] <= number:
            _, verdict, share = self._coming.popleft()
            if consequence(verdict, self.calibration.history(verdict.question_id)) == "dead":
                self.counts["dead"] += 1
                world.died(verdict.question_id)
            self.calibration.learn(verdict)
            self.estimate.add(verdict, share)
            if verdict.same and verdict.by in {"shadow", "judge"}:
                world.confirmed(verdict.request_id.int, verdict.question_id)
