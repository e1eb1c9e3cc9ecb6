"""Which hits are audited: also sent to the model, so that the two answers can be compared.

An audit costs about what its hit saved. So a share of the hits is a share of the savings, and `budget` bounds both.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec

from farthing.caching.calibration import Assessment
from farthing.caching.estimate import ErrorShare

_FLOOR = 0.25
_REST = 0.25
_MOST = 1e6


class AuditSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`budget`: which share of the savings audits may cost. `opening`: so many audits more at the start, when nothing is known."""

    budget: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.02
    opening: Annotated[float, msgspec.Meta(ge=0)] = 30.0


class AuditShare(NamedTuple):
    """The probability with which a hit is audited, and that relative to an average hit of the same time: what the estimate weighs by."""

    probability: float
    relative: float


def audit_share(settings: AuditSettings, *, hits: int, found: ErrorShare, delta: float, assessment: Assessment) -> AuditShare:
    """How likely a hit is to be audited, when `hits` were served before it. Keep it: the estimate needs it.

    `budget`, and at the start more: (opening/(opening + hits))² of the rest, which sums up to `opening` audits and no more, however long it
    goes on. Once the upper bound of the error is below δ the interval is as good as it needs to be, and a quarter of the budget keeps it.
    Audits go where errors are: in proportion to the root of P(wrong), which is what makes the interval narrowest for its cost (Neyman,
    1934), and never below a quarter, so that no single audit weighs more than four. Since P(wrong) is at most δ on average over what is
    served, and the root is concave, the mean of that factor is at most 1: the budget holds.
    """
    share = settings.budget * (_REST if found.high < delta else 1.0)
    if settings.opening:
        share += (1 - share) * (settings.opening / (settings.opening + hits)) ** 2
    risk = math.sqrt(min(assessment.upper_wrong / delta, _MOST)) if delta > 0 else 1.0
    relative = _FLOOR + (1 - _FLOOR) * risk
    if share * relative > 1:
        return AuditShare(1.0, 1 / share)
    return AuditShare(share * relative, relative if share else 1.0)


def should_audit(request_id: UUID, share: float) -> bool:
    """Whether this hit is audited: pseudo-random by its id, so that every worker and every replay comes to the same.

    Request ids are ours: who asks can't choose one that is never audited.
    """
    drawn = int.from_bytes(hashlib.blake2b(request_id.bytes, digest_size=7, person=b"audit").digest())
    return drawn < share * 2**56
