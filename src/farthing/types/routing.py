"""What routers learn from, and what they have learnt. See `types`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

OutcomeBy = Literal["check", "judge", "thumb", "correction", "shadow", "file"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How good a model's answer to a request was: 0 (useless) to 1. One model has one outcome a request; a later one by people wins.

    `vector` is the embedding of the prompt (see `ports.Encoded`), `features` what else is known of it (`routing.features`); neither holds
    words.
    """

    request_id: UUID
    tenant: str
    user_id: str | None = None
    router: str
    model: str
    score: float
    by: OutcomeBy
    vector: bytes
    embedder: str
    features: tuple[float, ...] = ()
    at: datetime


class RouterVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A trained router. `artefact` is opaque to stores; empty where only the facts about it were asked for.

    `metrics` is what `farthing route score` said of it when it was trained. `promoted_at`: since when it decides, None when it does not.
    """

    router: str
    version: int
    artefact: bytes = b""
    metrics: dict[str, object] = {}
    created_at: datetime
    created_by: str = ""
    promoted_at: datetime | None = None
