"""The replay in process: who answers when a version of the learned router decides, what that costs, and how often it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.pipeline.tokens import count_request
from farthing.routing.checks.judge import prompt_for
from farthing.routing.learned.calibration import highest
from farthing.routing.learned.model import LearnedModel, Prediction
from farthing.routing.learned.training import Trained
from farthing.spend.prices import cost
from farthing.types import Price, Usage
from mixing.answers import ANSWER_TOKENS, JUDGE, VERDICT_TOKENS, Assumed, right
from mixing.questions import STRONG, WEAK, Question, body_of

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
QUALITIES = tuple(round(0.80 + 0.005 * step, 3) for step in range(41))
KEPT = 0.97
_RESAMPLES = 400
_BOUND = 0.1


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """`kept`: accuracy in proportion to the strong model's. `saved`: of what the strong model would have cost for all."""

    accuracy: float
    kept: float
    saved: float
    strong_share: float
    microusd: int


class Workload:
    """Questions as columns: scores and bills (micro-dollars) of each."""

    def __init__(self, questions: Sequence[Question], prices: Mapping[str, Price]) -> None:
        self.questions = list(questions)
        self.weak = np.array([one.weak for one in questions])
        self.strong = np.array([one.strong for one in questions])
        self.tokens = np.array([count_request(body_of(one.prompt)) for one in questions])
        self._bills = {name: _bills(price, self.tokens.tolist(), ANSWER_TOKENS) for name, price in prices.items()}
        judged = [count_request(prompt_for(JUDGE, one.prompt, right(one), mark="0" * 16)) for one in questions]
        self._judging = _bills(prices[WEAK], judged, VERDICT_TOKENS)

    def played(self, first: Flags, assumed: Assumed | None = None) -> Result:
        """`first`: where the weak model is asked first. `assumed`: what a cascade's check then rejects; None: there is none."""
        rejected = first & self.rejects(assumed)
        finally_weak = first & ~rejected
        correct = np.where(finally_weak, self.weak, self.strong)
        spent = np.where(first, self._bills[WEAK], 0) + np.where(finally_weak, 0, self._bills[STRONG])
        if assumed is not None and assumed.judged:
            spent = spent + np.where(first, self._judging, 0)
        return Result(
            accuracy=float(correct.mean()),
            kept=float(correct.sum() / self.strong.sum()),
            saved=float(1 - spent.sum() / self._bills[STRONG].sum()),
            strong_share=float(1 - finally_weak.mean()),
            microusd=int(spent.sum()),
        )

    def rejects(self, assumed: Assumed | None) -> Flags:
        return np.array([assumed is not None and assumed.rejects(one) for one in self.questions])

    def least_kept(self, first: Flags, rejected: Flags) -> float:
        """A one-sided 90% lower bound of `kept`, by bootstrap over questions."""
        correct = np.where(first & ~rejected, self.weak, self.strong).astype(np.float32)
        return float(np.quantile((self._drawn @ correct) / np.maximum(self._drawn @ self.strong.astype(np.float32), 1), _BOUND))

    @cached_property
    def _drawn(self) -> NDArray[np.float32]:
        """How often each question is in each resample (Poisson)."""
        return np.random.default_rng(1).poisson(1.0, (_RESAMPLES, len(self.questions))).astype(np.float32)


def _bills(price: Price, tokens: Sequence[int], answer: int) -> NDArray[np.int64]:
    return np.array([cost(price, Usage(input=count, output=answer)) for count in tokens])


class Learnt(msgspec.Struct, frozen=True):
    """A version, and what it says of questions that it has not seen."""

    model: LearnedModel
    predictions: list[Prediction]

    @classmethod
    def of(cls, model: LearnedModel, questions: Sequence[Question]) -> Learnt:
        return cls(model, [model.predict(one.row.vector, one.row.features) for one in questions])

    def first(self, quality: float) -> Flags:
        """Where the weak model is to answer."""
        return np.array([self.model.choose(one, quality, self.model.models).model == WEAK for one in self.predictions])

    @property
    def unknown(self) -> float:
        return float(np.mean([not one.known for one in self.predictions]))


def chosen_quality(trained: Trained, seen: Workload, assumed: Assumed | None) -> float:
    """The lowest quality to ask for with which, on the training rows, at least `KEPT` is kept by the lower bound; 1 when there is none.

    By what folds say that had not seen the row. `seen` are the training rows, in the order of the table.
    """
    gains = trained.predicted[:, -1] - trained.predicted[:, 0]
    rejected = seen.rejects(assumed)
    for quality in QUALITIES:
        limit = highest(trained.model.thresholds[WEAK], quality)
        if limit is not None and seen.least_kept(gains <= limit.gain, rejected) >= KEPT:
            return quality
    return 1.0


def chosen_length(seen: Workload) -> tuple[bool, int]:
    """A rule by length, chosen on the training rows likewise: whether short prompts are for the weak model (or long ones), up to which."""
    best = (0.0, True, 0)
    for limit in np.unique(np.quantile(seen.tokens, np.linspace(0.02, 1, 50)).astype(int)).tolist():
        for short in (True, False):
            first = seen.tokens <= limit if short else seen.tokens >= limit
            if first.mean() > best[0] and seen.least_kept(first, np.zeros_like(first)) >= KEPT:
                best = (float(first.mean()), short, limit)
    return best[1], best[2]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, and the least and the most of all splits."""
    return {"mean": round(float(np.mean(values)), 4), "least": round(min(values), 4), "most": round(max(values), 4)}
