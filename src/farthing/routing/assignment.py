"""Which model answers a caller who names none."""

from __future__ import annotations

from collections.abc import Mapping

from farthing.routing.catalogue import Catalogue
from farthing.types import Operation, Principal


class Assignment:
    """By the task type where the settings name a model for it, else their model for all, else the caller's first chat model.

    The first is by the order of the settings, where the embedded `local` comes last. No look at the prompt, its length or its price.
    """

    def __init__(self, catalogue: Catalogue, model: str | None, task_types: Mapping[str, str]) -> None:
        self._catalogue = catalogue
        self._model = model
        self._task_types = task_types

    def __call__(self, principal: Principal, task_type: str | None) -> str:
        """A catalogue name. The caller need not be allowed to use it: that is for `Catalogue.admit` to say."""
        named = self._task_types.get(task_type or "") or self._model
        if named is not None:
            return named
        models = self._catalogue.visible(principal)
        return next((model.name for model in models if model.operation is Operation.CHAT), "local")
