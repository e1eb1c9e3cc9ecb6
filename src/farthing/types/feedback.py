"""What people say of answers. See `types`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from farthing.types.events import OWN_EVENTS, Event


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says of the answer to a request. `score` is 0 (bad) to 1 (good). `correction` is what should have been said.

    `user` is on whose behalf the request was, `by` the key that says it. `digest` is equal where score and texts are: texts may be sealed,
    and then are never equal.
    """

    id: UUID
    tenant: str
    request_id: UUID
    user: str | None
    score: float
    correction: str | None = None
    reason: str | None = None
    by: UUID
    digest: bytes
    at: datetime


def feedback_event(said: Feedback) -> Event:
    """What the bus is told of it. No words are in it: who handles it reads them from the store."""
    return Event(
        id=str(said.id),
        source=f"{OWN_EVENTS}feedback",
        type=f"{OWN_EVENTS}feedback.given",
        tenant=said.tenant,
        subject=str(said.request_id),
        user=said.user,
        time=said.at,
        data={"request_id": str(said.request_id), "score": said.score, "corrected": said.correction is not None},
        received_at=said.at,
    )
