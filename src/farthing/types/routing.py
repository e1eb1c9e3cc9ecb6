"""What routers learn from, and what they have learnt. See `types`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

OutcomeBy = Literal["check", "judge", "thumb", "correction", "shadow", "file", "nobody"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How good a model's answer to a request was: 0 (useless) to 1. One model has one outcome a request; a later one by people wins.

    `score` None, by `nobody`: nothing was said of it yet; what the prompt was like is kept for when somebody does.

    `vector` is the embedding of the prompt (see `ports.Encoded`), `features` what else is known of it (`routing.features`); neither holds
    words. `explored`: the model answered in order that something be learnt of it, and not because it was thought to be the best choice.
    """

    request_id: UUID
    tenant: str
    user_id: str | None = None
    router: str
    model: str
    score: float | None
    by: OutcomeBy
    vector: bytes
    embedder: str
    features: tuple[float, ...] = ()
    explored: bool = False
    at: datetime


_PEOPLE = frozenset({"thumb", "correction"})


def supersedes(new: Outcome, old: Outcome) -> bool:
    """Whether a later outcome of the same request and model counts instead of an earlier one.

    Machines do not overrule people, and who says nothing overrules nobody.
    """
    return new.by in _PEOPLE or (old.by not in _PEOPLE and (new.score is not None or old.score is None))


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


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """From when on a version decided, and who said so. `version` None: none at all decided."""

    router: str
    version: int | None
    at: datetime
    by: str


def promotion_trail(promotions: Sequence[Promotion]) -> list[int | None]:
    """What decides now, last, and before it what roll-backs go to, one by one. `promotions` are all of one router, newest first.

    A promotion of what decided before is a roll-back itself: the next one goes further back instead of forth.
    """
    trail: list[int | None] = [None]
    for one in reversed(promotions):
        if len(trail) > 1 and trail[-2] == one.version:
            trail.pop()
        elif trail[-1] != one.version:
            trail.append(one.version)
    return trail
