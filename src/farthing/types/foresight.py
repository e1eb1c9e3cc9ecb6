"""Answers ready before the click. See `types`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from farthing.types.basic import Json


class EdgeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to an action of a user that was computed ahead, and the versions of the states that it was computed from.

    It is fresh while none of `versions` has gone up, and until `expires_at`.
    """

    tenant: str
    user: str
    action: str
    body: Json
    model: str
    versions: dict[str, int]
    request_id: UUID
    made_at: datetime
    expires_at: datetime
    cost_microusd: int = 0
