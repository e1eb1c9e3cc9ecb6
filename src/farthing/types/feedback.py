"""What people say of answers. See `types`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


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
