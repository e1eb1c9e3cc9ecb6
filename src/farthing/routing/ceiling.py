"""A mode's ceiling: nothing goes to a dearer model than the mode allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from farthing.routing.catalogue import Catalogue
from farthing.routing.choice import Choice, direct
from farthing.routing.fitting import fits
from farthing.routing.shaping import shaped
from farthing.types import ANSWER, Request

_BOUND = frozenset({ANSWER, "refresh"})
"""What stands under the ceiling: answers, and new ones for stale ones. A question of our own names its model for a reason."""
_LONGEST_LABEL = 64


class Ceiling:
    """Holds choices under the ceiling of their request's mode."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def under(self, request: Request, choice: Choice | None, candidates: Sequence[str] = ()) -> Choice | None:
        """The choice with the ceiling in the place of every dearer model. As it was where there is no ceiling or it cannot answer.

        `candidates` are the router's, if one decided: a key that may not use the ceiling's model gets its answers only where it is one.
        """
        ceiling = request.mode.model
        if ceiling is None or request.purpose not in _BOUND or not self._can_answer(ceiling, request, candidates):
            return choice
        before = choice or direct(request.model)
        most = self._dearness(ceiling)
        models = tuple(dict.fromkeys(ceiling if self._dearness(model) > most else model for model in before.models))
        if models == before.models:
            return choice
        label = f"mode:{request.mode.name}"[:_LONGEST_LABEL]
        return Choice(
            models=models,
            route=label if models[0] != before.models[0] else before.route,
            reason=f"{before.reason}; in mode {request.mode.name} nothing dearer than {ceiling} answers".removeprefix("; "),
            baseline=before.baseline,
            checks=before.checks if len(models) > 1 else (),
            router=before.router,
        )

    def _can_answer(self, ceiling: str, request: Request, candidates: Sequence[str]) -> bool:
        if not self._catalogue.allows(ceiling, request) and ceiling not in candidates:
            return False
        model = self._catalogue.get(ceiling)
        return fits(model, shaped(request.body, model, request.mode))

    def _dearness(self, model: str) -> float:
        """The output price; without end where nobody knows it."""
        price = self._catalogue.get(model).deployments[0].price
        if price.free:
            return 0.0
        return math.inf if price.source == "none" else float(price.output)
