"""Which turns of long conversations are worth their tokens for a question. Pure.

A turn is scored by two readings that fail in different ways, each standardised over all turns: the cosine of its embedding with the
question's, and BM25 over stems (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009; k1 = 1.2, b = 0.75). What stands
next to a good turn is often the other half of it, and a conversation that has one good turn tends to have more: each turn gets a part of
its neighbours' score, and of its session's best. A question about somebody by name is more likely answered by that person.

The best turns are taken, each on its own, until the budget is full: in windows of three, two of three turns are paid for nothing.
The weights were set on four conversations of LoCoMo (Maharana et al. 2024); around them the result is flat (docs/recall.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from farthing.lazily import Lazily
from farthing.memory.words import words_of, words_of_each
from farthing.pipeline.tokens import BYTES_PER_TOKEN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]
else:
    np = Lazily("numpy")

_ROLES: Final = frozenset({"user", "assistant"})
"""Speakers that nobody means by name."""
_BM25: Final = 0.5
_NEIGHBOUR: Final = 0.25
_SESSION: Final = 0.2
_NAMED: Final = 1.0
_K1: Final = 1.2
_B: Final = 0.75
_TINY: Final = 1e-9


Vector = Sequence[float] | bytes
"""An embedding, as floats or as one signed byte for each dimension; of any scale."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as it can be put into a prompt. `session` heads those that belong together, such as their date.

    `vector` is the embedding of `line`, of the embedder that the question's comes from; any scale. None: it has none.
    """

    speaker: str
    text: str
    session: str
    vector: Vector | None = None

    @property
    def line(self) -> str:
        """As it stands in the prompt."""
        return f"{self.speaker}: {self.text}"


def best(turns: Sequence[Said], question: str, vector: Vector | None, *, max_tokens: int) -> list[int]:
    """The places of the turns to show for a question, in their order, as many as `render` puts into `max_tokens`.

    `vector` is the question's embedding; None: words alone decide. Turns must be in order, those of a session together.
    """
    if not turns:
        return []
    scores = relevance(turns, question, vector)
    room = max_tokens * BYTES_PER_TOKEN
    chosen: list[int] = []
    headed: set[str] = set()
    for place in np.argsort(-scores, kind="stable").tolist():
        turn = turns[place]
        size = _size(turn.line) + (0 if turn.session in headed else _size(_head(turn.session)))
        if size <= room:
            room -= size
            headed.add(turn.session)
            chosen.append(place)
    return sorted(chosen)


def all_of(turns: Sequence[Said], *, max_tokens: int) -> bool:
    """Whether all turns fit, so that there is nothing to choose."""
    heads = sum(_size(_head(turn.session)) for at, turn in enumerate(turns) if at == 0 or turns[at - 1].session != turn.session)
    return heads + sum(_size(turn.line) for turn in turns) <= max_tokens * BYTES_PER_TOKEN


def render(turns: Sequence[Said], places: Sequence[int]) -> list[str]:
    """The lines of the turns at these places: each session under its head, turns in their order."""
    lines: list[str] = []
    session: str | None = None
    for place in places:
        turn = turns[place]
        if turn.session != session:
            session = turn.session
            lines.append(_head(session))
        lines.append(turn.line)
    return lines


def relevance(turns: Sequence[Said], question: str, vector: Vector | None) -> Scores:
    """How much each turn may have to say about a question; only the differences mean anything."""
    speakers = {turn.speaker for turn in turns} - _ROLES
    asked = question.casefold()
    named = {speaker for speaker in speakers if speaker and speaker.casefold() in asked}
    names = {stem for speaker in speakers for stem in words_of(speaker)}
    scores = likeness([turn.text for turn in turns], [turn.vector for turn in turns], question, vector, apart_from=names)
    starts = np.array([at == 0 or turns[at - 1].session != turn.session for at, turn in enumerate(turns)])
    scores = scores + _NEIGHBOUR * _beside(scores, starts)
    scores = scores + _SESSION * _best_of_session(scores, starts)
    if len(named) == 1:
        scores = scores + _NAMED * np.array([turn.speaker in named for turn in turns], dtype=float)
    found: Scores = scores
    return found


def likeness(
    texts: Sequence[str], vectors: Sequence[Vector | None], question: str, vector: Vector | None, *, apart_from: Collection[str] = ()
) -> Scores:
    """How like a question each text is, in meaning and in words; 0 on average. Words `apart_from` say nothing."""
    wanted = [word for word in dict.fromkeys(words_of(question)) if word not in apart_from]
    found: Scores = _standard(_cosines(vectors, vector)) + _BM25 * _standard(_bm25(words_of_each(texts), wanted))
    return found


def _cosines(vectors: Sequence[Vector | None], vector: Vector | None) -> Scores:
    """Cosines with the question; the mean of the others where one has no vector, 0 where none has."""
    cosines = np.full(len(vectors), np.nan)
    if vector is not None:
        own = _unit(vector)
        known = [(at, one) for at, one in enumerate(vectors) if one is not None and len(one) == len(own)]
        if known:
            rows = np.stack([_floats(one) for _, one in known])
            cosines[[at for at, _ in known]] = rows @ own / np.maximum(np.linalg.norm(rows, axis=1), _TINY)
    mean = 0.0 if np.isnan(cosines).all() else np.nanmean(cosines)
    found: Scores = np.nan_to_num(cosines, nan=float(mean))
    return found


def _unit(vector: Vector) -> Scores:
    raw = _floats(vector)
    found: Scores = raw / max(float(np.linalg.norm(raw)), _TINY)
    return found


def _floats(vector: Vector) -> Scores:
    found: Scores = np.frombuffer(vector, dtype=np.int8).astype(float) if isinstance(vector, bytes) else np.asarray(vector, dtype=float)
    return found


def _bm25(texts: Sequence[Sequence[str]], wanted: Sequence[str]) -> Scores:
    scores = np.zeros(len(texts))
    mean = sum(map(len, texts)) / len(texts) or 1.0
    counted = [Counter(text) for text in texts]
    for word in wanted:
        holders = [(at, times[word]) for at, times in enumerate(counted) if word in times]
        weight = math.log(1 + (len(texts) - len(holders) + 0.5) / (len(holders) + 0.5))
        for at, times in holders:
            scores[at] += weight * times * (_K1 + 1) / (times + _K1 * (1 - _B + _B * len(texts[at]) / mean))
    return scores


def _standard(scores: Scores) -> Scores:
    found: Scores = (scores - scores.mean()) / (scores.std() + _TINY)
    return found


def _beside(scores: Scores, starts: NDArray[np.bool_]) -> Scores:
    """The sum of the scores right before and after each turn in its session."""
    before = np.concatenate(([0.0], scores[:-1])) * ~starts
    after = np.concatenate((scores[1:] * ~starts[1:], [0.0]))
    found: Scores = before + after
    return found


def _best_of_session(scores: Scores, starts: NDArray[np.bool_]) -> Scores:
    firsts = np.flatnonzero(starts)
    found: Scores = np.maximum.reduceat(scores, firsts)[np.cumsum(starts) - 1]
    return found


def _head(session: str) -> str:
    return f"[{session}]"


def _size(line: str) -> int:
    return len(line.encode("utf-8", "surrogatepass")) + 1
