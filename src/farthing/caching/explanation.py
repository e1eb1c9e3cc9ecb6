"""Why an answer would be served or not: every number that goes into the decision, by name. For `farthing cache explain`."""

from __future__ import annotations

from uuid import UUID

import msgspec

from farthing.caching.calibration import Assessment, Calibration, CalibrationState
from farthing.caching.estimate import ErrorEstimate, ErrorShare
from farthing.caching.risk import RiskBudget


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`risk` is the upper P(wrong) times `tightening`. It is admitted up to `delta`, and up to `limit` while the `account` can pay for it.

    `right` and `wrong` count the verdicts on what the entry was served for.
    """

    admitted: bool
    assessment: Assessment
    right: int
    wrong: int
    tightening: float
    risk: float
    delta: float
    limit: float
    account: float
    error: ErrorShare
    tenant: CalibrationState


def explain(calibration: Calibration, budget: RiskBudget, estimate: ErrorEstimate, *, score: float, question_id: UUID) -> Explanation:
    """What would happen now with this pair. Changes nothing."""
    assessment = calibration.assess(score, question_id)
    history = calibration.history(question_id)
    return Explanation(
        admitted=budget.admits(assessment),
        assessment=assessment,
        right=history.right if history else 0,
        wrong=history.wrong if history else 0,
        tightening=budget.tightening,
        risk=budget.risk(assessment),
        delta=budget.delta,
        limit=budget.limit,
        account=budget.account,
        error=estimate.interval(),
        tenant=calibration.state,
    )
