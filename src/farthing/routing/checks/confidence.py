"""An answer that the model was not sure of."""

from __future__ import annotations

import math
from typing import Any

from farthing.routing.checks.check import Answered
from farthing.routing.checks.placed import CannotTell
from farthing.routing.checks.reading import Said, choices_of
from farthing.settings import ConfidenceCheckSettings
from farthing.types import Json

_LEAST = -100.0
"""OpenAI gives -9999 for what was next to impossible; one such token must not outweigh the whole rest."""
_TENTH = 10
_NUMBERS = frozenset({float, int})
"""Not bool, which is an int to Python."""


class Confidence:
    """The mean log-probability of the tokens, and that of the tenth of them that the model was least sure of.

    Where there are none, because nobody asked for them (`logprobs: true`) or the provider gives none, there is nothing to tell by. What
    they mean differs from model to model: see docs/checks.md on how to find the bounds.
    """

    def __init__(self, settings: ConfidenceCheckSettings) -> None:
        self._min_mean = settings.min_mean
        self._min_decile = settings.min_decile

    async def judge(self, answered: Answered) -> str | None:
        """See `Check`. Raises `CannotTell`."""
        for said in choices_of(answered.body):
            found = _log_probabilities(said)
            if not found:
                if said.text:
                    raise CannotTell("the answer has no log-probabilities; ask for them with logprobs: true")
                continue
            if self._min_mean is not None and sum(found) / len(found) < self._min_mean:
                return f"mean log-probability below {self._min_mean:g}"
            if self._min_decile is not None:
                worst = sorted(found)[: -(-len(found) // _TENTH)]
                if sum(worst) / len(worst) < self._min_decile:
                    return f"mean log-probability of the least sure tokens below {self._min_decile:g}"
        return None


def _log_probabilities(said: Said) -> list[float]:
    if not isinstance(said.logprobs, dict):
        return []
    lists: list[Any] = [tokens for name in ("content", "refusal") if isinstance(tokens := said.logprobs.get(name), list)]
    values: list[Any] = [token.get("logprob") for tokens in lists for token in tokens if isinstance(token, dict)]
    return [max(_LEAST, min(0.0, value)) for value in values if type(value) in _NUMBERS and not math.isnan(value)]


def without_logprobs(body: Json) -> Json:
    """A completion, or a chunk of one, as if nobody had asked for log-probabilities."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return body
    return {**body, "choices": [{**choice, "logprobs": None} if isinstance(choice, dict) else choice for choice in choices]}
