"""How much of what answers a question stands in the context that is chosen for it, and what that costs. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from statistics import fmean
from typing import Final

import msgspec
from msgspec.structs import replace

from farthing.memory.locomo import Conversation
from farthing.memory.windows import Said, best, render
from farthing.pipeline.tokens import count_text

TOKENIZER: Final = "bytes of UTF-8 / 4 (farthing.pipeline.tokens)"

Vectors = Sequence[Sequence[float]]


class RecallScore(msgspec.Struct, frozen=True, kw_only=True):
    """`evidence_recall` is the share of a question's evidence turns that stand in its context, averaged over questions.

    `tokens_per_question` is the mean size of that context, all that is put in counted; `full_history_tokens` that of the conversation.
    """

    evidence_recall: float
    tokens_per_question: float
    full_history_tokens: float
    questions: int
    questions_left_out: int
    by_category: dict[str, float]
    by_conversation: dict[str, float]
    max_tokens: int
    tokenizer: str = TOKENIZER


def score(conversations: Sequence[Conversation], embedded: Callable[[Sequence[str]], Vectors], *, max_tokens: int) -> RecallScore:
    """Choose for each question as the recall stage does, and count. There must be a question."""
    shares: list[float] = []
    sizes: list[int] = []
    full: list[int] = []
    by_category: defaultdict[str, list[float]] = defaultdict(list)
    by_conversation: defaultdict[str, list[float]] = defaultdict(list)
    for one in conversations:
        turns = _with_vectors(one.turns, embedded([turn.line for turn in one.turns]))
        asked = embedded([question.text for question in one.questions])
        whole = count_text("\n".join(render(turns, range(len(turns)))))
        for question, vector in zip(one.questions, asked, strict=True):
            places = best(turns, question.text, vector, max_tokens=max_tokens)
            share = len(question.evidence.intersection(places)) / len(question.evidence)
            shares.append(share)
            sizes.append(count_text("\n".join(render(turns, places))))
            full.append(whole)
            by_category[str(question.category)].append(share)
            by_conversation[one.name].append(share)
    return RecallScore(
        evidence_recall=round(fmean(shares), 4),
        tokens_per_question=round(fmean(sizes), 1),
        full_history_tokens=round(fmean(full), 1),
        questions=len(shares),
        questions_left_out=sum(one.left_out for one in conversations),
        by_category={name: round(fmean(some), 4) for name, some in sorted(by_category.items())},
        by_conversation={name: round(fmean(some), 4) for name, some in by_conversation.items()},
        max_tokens=max_tokens,
    )


def texts_of(conversations: Sequence[Conversation]) -> list[str]:
    """All that needs an embedding."""
    return list(chain.from_iterable([*(t.line for t in one.turns), *(q.text for q in one.questions)] for one in conversations))


def _with_vectors(turns: Sequence[Said], vectors: Vectors) -> list[Said]:
    return [replace(turn, vector=vector) for turn, vector in zip(turns, vectors, strict=True)]
