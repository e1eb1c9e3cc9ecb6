"""Labelled pairs out of a log that nobody has labelled: two questions whose answers say the same are taken for the same.

Silver and not gold: models say the same thing in different words, and different things in almost the same. So only what is clear counts:
answers whose embeddings are at least `_ALIKE` near are the same, at most `_UNLIKE` near different, and what is in between is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from farthing.caching.scoring import Pair, Read, unit_rows
from farthing.lazily import Lazily

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Lazily("numpy")

_ALIKE = 0.92
_UNLIKE = 0.6
_NEAR = 0.5
"""Questions farther apart than this are no candidates for each other."""
_BLOCK = 512
_REUSE = 0.95


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a log. `context` is a digest of all around the question; `at` is Unix seconds."""

    question: str
    context: bytes
    answer: str
    at: float | None


class Silver(msgspec.Struct, frozen=True, kw_only=True):
    """`pairs` are of a question and the nearest one before it in the same context.

    `exact_repeats` is the share of requests that are, word for word, like one before. `reuse_gap_s`: of repeats and pairs of the same,
    95% come within so many seconds of the one before; None where the log has no times.
    """

    requests: int
    exact_repeats: float
    reuse_gap_s: float | None
    pairs: tuple[Pair, ...]


def silver_pairs(logged: Sequence[Logged], reads: Sequence[Read], answers: Sequence[Sequence[float]]) -> Silver:
    """`reads` are the questions as read, `answers` the unit vectors of the answers, all in the order of the log."""
    questions = unit_rows([one.vector for one in reads])
    said = np.asarray(answers, np.float32)
    seen: dict[tuple[bytes, str], int] = {}
    pairs: list[Pair] = []
    gaps: list[float] = []
    repeats = 0
    nearest = _nearest_before(questions, [one.context for one in logged])
    for at, one in enumerate(logged):
        before = seen.get((one.context, one.question))
        seen[one.context, one.question] = at
        if before is not None:
            repeats += 1
            gaps += _gap(logged[before], one)
            continue
        there = nearest[at]
        if there is None:
            continue
        alike = float(said[at] @ said[there])
        if alike >= _ALIKE or alike <= _UNLIKE:
            pairs.append(Pair(a=reads[there], b=reads[at], same=alike >= _ALIKE))
            if alike >= _ALIKE:
                gaps += _gap(logged[there], one)
    gap = float(np.quantile(gaps, _REUSE)) if gaps else None
    return Silver(requests=len(logged), exact_repeats=repeats / len(logged), reuse_gap_s=gap, pairs=tuple(pairs))


def _nearest_before(questions: NDArray[np.float32], contexts: Sequence[bytes]) -> list[int | None]:
    """For each question the nearest one before it in its context, where one is near."""
    numbers = {context: number for number, context in enumerate(dict.fromkeys(contexts))}
    place = np.array([numbers[context] for context in contexts])
    found: list[int | None] = []
    for start in range(0, len(questions), _BLOCK):
        block = questions[start : start + _BLOCK] @ questions[: start + _BLOCK].T
        for row in range(len(block)):
            at = start + row
            cosines = np.where(place[:at] == place[at], block[row, :at], -1.0)
            best = int(cosines.argmax()) if at else 0
            found.append(best if at and cosines[best] >= _NEAR else None)
    return found


def _gap(before: Logged, after: Logged) -> list[float]:
    return [after.at - before.at] if before.at is not None and after.at is not None and after.at >= before.at else []
