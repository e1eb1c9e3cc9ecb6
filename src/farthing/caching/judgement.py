"""The decision: is the answer to one of these cached questions right for the one that is asked? Pure, but for what it has learnt.

Candidates → guards that read what vectors cannot → the verifier's score → what this tenant's verdicts make of it → the error budget δ.
`evidence` and `verifier` judge a pair; `calibration`, `risk` and `estimate` say what each of them promises; here they are put together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from uuid import UUID

import msgspec

from farthing.caching.audits import AuditSettings, audit_share, should_audit
from farthing.caching.calibration import Assessment, Calibration
from farthing.caching.entries import EntryHistory
from farthing.caching.estimate import ErrorEstimate, ErrorShare
from farthing.caching.evidence import Evidence, compare
from farthing.caching.explanation import Explanation, explain
from farthing.caching.question import Asked
from farthing.caching.reading import read, unpack
from farthing.caching.risk import RiskBudget, RiskSettings
from farthing.caching.verifier import Verifier
from farthing.types import Neighbour, Question, Verdict

_MOST_TENANTS = 10_000
_TRUSTED = 100
_BOUNDS = (0.1, 0.05, 0.02, 0.01, 0.005)
"""Below these the shipped calibration expects lapses, however alike two questions look."""
_STEPS = 60
_REACH = 12.0


class Considered(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate and what was made of it. `veto` names the guard that forbids it; `score` is as in `types.Verdict`."""

    question: Question
    similarity: float
    text: str
    evidence: Evidence
    veto: str | None = None
    score: float
    assessment: Assessment


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, and why. `best` is what was accepted, or would have been accepted first; `considered` all that were looked at.

    `withheld`: it would have been accepted, if answers had not been wrong too often lately.
    """

    accepted: bool
    withheld: bool = False
    why: str
    best: Considered | None = None
    considered: tuple[Considered, ...] = ()


NOTHING_NEAR = Decision(
    accepted=False, why="nothing near it was asked before in this context (model, system prompt, earlier turns, max_tokens and all else)"
)


class _Tenant:
    """What is known of a tenant. Until `_TRUSTED` verdicts are in, the account lends nothing: P(wrong) is then only what was shipped."""

    def __init__(self) -> None:
        self.calibration = Calibration()
        self.estimate = ErrorEstimate()
        self.risks: dict[float, RiskBudget] = {}
        self.hits = 0
        self._verdicts = 0

    def risk(self, delta: float) -> RiskBudget:
        if delta not in self.risks:
            self.risks[delta] = RiskBudget(RiskSettings(delta=delta) if self._verdicts >= _TRUSTED else RiskSettings(delta=delta, most=1))
        return self.risks[delta]

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        before = self._verdicts
        self._verdicts += self.calibration.fold(verdicts)
        if before < _TRUSTED <= self._verdicts:
            self.risks.clear()
        for verdict in verdicts:
            self.estimate.add(verdict, verdict.audit)
        for delta, risk in self.risks.items():
            risk.tightening = self.estimate.tightening(delta)


class Judgement:
    """The verifier's scores are read on the scale of its thresholds.

    Where it accepts at an error bound, P(wrong) of a tenant of whom nothing is known yet comes down to that bound. So scores and account
    agree from the start, whatever the verifier was fitted to.

    What is known of at most `_MOST_TENANTS` tenants is kept, those without hits or verdicts for longest are forgotten first.
    """

    def __init__(self, verifier: Verifier, *, audits: AuditSettings) -> None:
        self._verifier = verifier
        self._audits = audits
        self._scale = _scale(verifier)
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    def decide(self, tenant: str, asked: Asked, neighbours: Sequence[Neighbour], *, most: int, every: bool = False) -> Decision:
        """Choose the first candidate, nearest first, that may be served; `every` one of them is looked at only to be shown.

        `most` are candidates, one more says how far ahead they are. Nothing is booked: see `served`.
        """
        if not neighbours or asked.encoded is None:
            return NOTHING_NEAR
        state = self._of(tenant)
        reading = read(asked.text, asked.encoded)
        risk = state.risk(asked.delta)
        considered: list[Considered] = []
        for at, one in enumerate(neighbours[:most]):
            try:
                known = unpack(one.question.payload)
            except msgspec.MsgspecError:  # another version of Farthing has read it
                continue
            evidence = compare(reading, known, one.similarity)
            score = _extended(self._scale, self._verifier.score(evidence, _margin(neighbours, at)))
            considered.append(
                Considered(
                    question=one.question,
                    similarity=one.similarity,
                    text=known.text,
                    evidence=evidence,
                    veto=evidence.veto,
                    score=score,
                    assessment=state.calibration.assess(score, one.question.id),
                )
            )
            if not every and evidence.veto is None and risk.admits(considered[-1].assessment):
                break
        if not considered:
            return NOTHING_NEAR
        allowed = [one for one in considered if one.veto is None]
        if not allowed:
            return Decision(accepted=False, why=f"guard: {considered[0].veto}", best=None, considered=tuple(considered))
        best = min(allowed, key=lambda one: one.assessment.upper_wrong)
        if risk.admits(best.assessment):
            why = f"P(wrong) is at most {risk.risk(best.assessment):.4f}, within the error budget (limit {risk.limit:.4f})"
            return Decision(accepted=True, why=why, best=best, considered=tuple(considered))
        dead = "its answer was found wrong; " if best.assessment.dead else ""
        why = f"{dead}P(wrong) may be {risk.risk(best.assessment):.4f}, above the limit of now {risk.limit:.4f} (delta {asked.delta:g})"
        return Decision(accepted=False, withheld=risk.withholds(best.assessment), why=why, best=best, considered=tuple(considered))

    def explain(self, tenant: str, delta: float, best: Considered) -> Explanation:
        """Every number that goes into the decision on a candidate."""
        state = self._of(tenant)
        return explain(state.calibration, state.risk(delta), state.estimate, score=best.score, question_id=best.question.id)

    def served(self, tenant: str, asked: Asked, best: Considered, request_id: UUID) -> float:
        """Book a hit. Returns what `types.Verdict.audit` is if it was chosen for an audit, else 0."""
        state = self._of(tenant)
        state.risk(asked.delta).served(best.assessment)
        state.estimate.served()
        share = audit_share(self._audits, hits=state.hits, found=state.estimate.interval(), delta=asked.delta, assessment=best.assessment)
        state.hits += 1
        return share.relative if should_audit(request_id, share.probability) else 0.0

    def learn(self, verdicts: Iterable[Verdict]) -> None:
        """Take verdicts into account, oldest first. Those that are known change nothing."""
        by_tenant: dict[str, list[Verdict]] = {}
        for verdict in verdicts:
            by_tenant.setdefault(verdict.tenant, []).append(verdict)
        for tenant, some in by_tenant.items():
            self._of(tenant).learn(some)

    def history(self, tenant: str, question_id: UUID) -> EntryHistory | None:
        """What is known of an entry."""
        state = self._tenants.get(tenant)
        return state.calibration.history(question_id) if state else None

    def estimates(self) -> list[tuple[str, ErrorShare]]:
        """The measured error of each tenant, where there is any."""
        found = [(tenant, state.estimate.interval()) for tenant, state in self._tenants.items()]
        return [(tenant, share) for tenant, share in found if share.n > 0]

    def _of(self, tenant: str) -> _Tenant:
        state = self._tenants.get(tenant)
        if state is None:
            state = self._tenants[tenant] = _Tenant()
            if len(self._tenants) > _MOST_TENANTS:
                self._tenants.popitem(last=False)
        else:
            self._tenants.move_to_end(tenant)
        return state


def _margin(neighbours: Sequence[Neighbour], at: int) -> float | None:
    """How much nearer a candidate is than the next one; None: there is none."""
    return neighbours[at].similarity - neighbours[at + 1].similarity if at + 1 < len(neighbours) else None


def _scale(verifier: Verifier) -> list[tuple[float, float]]:
    """(The verifier's log-odds, ours) at some error bounds, rising."""
    points: list[tuple[float, float]] = []
    for bound in _BOUNDS:
        at = verifier.threshold(bound)
        if not points or at > points[-1][0]:
            points.append((at, _accepted_from(bound)))
    return points


def _extended(points: Sequence[tuple[float, float]], at: float) -> float:
    """Piecewise linear interpolation; beyond the ends the lines go on. One point: a shift."""
    if len(points) == 1:
        return points[0][1] + at - points[0][0]
    right = min(max(bisect_right(points, at, key=itemgetter(0)), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def _accepted_from(delta: float) -> float:
    """The score from which a calibration that has learnt nothing yet takes P(wrong) to be at most δ. By bisection."""
    cold, nobody = Calibration(), UUID(int=0)
    low, high = -_REACH, _REACH
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if cold.assess(middle, nobody).upper_wrong <= delta:
            high = middle
        else:
            low = middle
    return high
