"""From outcomes to rows to train on: of each prompt, how good every model would have been. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from farthing.types import Outcome

_PERFECT = 1.0


class Examples(msgspec.Struct, frozen=True, kw_only=True):
    """`complete` are pairs of a request's last outcome (for its vector) and every model's score, oldest request first.

    `incomplete` counts requests of which too little is known, `foreign` those read by another embedder or for other features.
    """

    complete: list[tuple[Outcome, dict[str, float]]]
    incomplete: int
    foreign: int


def examples_of(outcomes: Iterable[Outcome], models: Sequence[str], embedder: str, *, features: int) -> Examples:
    """What can be learnt about `models`, the weakest first, from outcomes of one embedder's vectors and so many `features`.

    Where a model was as good as can be, a stronger one that was not asked is taken to be, too: that is what it is stronger for. Nothing
    else is made up: a request of which another model's score is missing is left out.
    """
    requests: dict[tuple[str, UUID], list[Outcome]] = {}
    foreign: set[tuple[str, UUID]] = set()
    for one in outcomes:
        place = (one.tenant, one.request_id)
        if one.embedder != embedder or len(one.features) != features:
            foreign.add(place)
        elif one.model in models and one.score is not None:
            requests.setdefault(place, []).append(one)
    complete = []
    for place in sorted(requests, key=lambda place: (place[1], place[0])):
        scores = _completed({one.model: one.score for one in requests[place] if one.score is not None}, models)
        if scores is not None:
            complete.append((requests[place][-1], scores))
    return Examples(complete=complete, incomplete=len(requests) - len(complete), foreign=len(foreign))


def _completed(known: Mapping[str, float], models: Sequence[str]) -> dict[str, float] | None:
    """All models' scores; None when one is missing that does not follow."""
    scores: dict[str, float] = {}
    perfect = False
    for model in models:
        if model in known:
            scores[model] = known[model]
        elif perfect:
            scores[model] = _PERFECT
        else:
            return None
        perfect = perfect or scores[model] >= _PERFECT
    return scores
