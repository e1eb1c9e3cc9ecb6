"""Answers ready before the click. See `types`."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

import msgspec

from farthing.types.basic import Json


class EdgeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to an action of a user that was computed ahead, and the versions of the states that it was computed from.

    It is fresh while none of `versions` has gone up, and until `expires_at`. `body` holds `content`, the text; `format`, `text` or `json`;
    `finish_reason` and `usage` as OpenAI has them. `request_id` is that of the model call's request: it says when the answer was begun.
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


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that was computed ahead, for the count of those that are read. `segment` is empty where the action has none."""

    request_id: UUID
    tenant: str
    user: str
    action: str
    segment: str
    versions: dict[str, int]
    made_at: datetime
    expires_at: datetime
    cost_microusd: int
    tokens_in: int
    tokens_out: int


class Click(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asked for an action. `request_id` is that of the stored answer (`EdgeAnswer`) that was given, None for one made then."""

    tenant: str
    user: str
    action: str
    request_id: UUID | None
    saved_microusd: int
    at: datetime


class ActionCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to the answers to an action, in one segment. Weighted by age where it is to learn from; else whole numbers.

    `computed` were made ahead; `read` of them were read at least once; `stale` and `expired` ended unread. `served` are clicks that were
    answered from the edge, `live` those for which the model was asked. Tokens and `spent_microusd` are those of `computed`.
    """

    action: str
    segment: str = ""
    computed: float = 0
    read: float = 0
    stale: float = 0
    expired: float = 0
    served: float = 0
    live: float = 0
    tokens_in: float = 0
    tokens_out: float = 0
    spent_microusd: float = 0
    saved_microusd: float = 0


class WasteReport(msgspec.Struct, frozen=True, kw_only=True):
    """What foresight cost a tenant in a week, and what of it was read. `week` is its Monday (UTC)."""

    tenant: str
    week: date
    rows: tuple[ActionCounts, ...]
    made_at: datetime
