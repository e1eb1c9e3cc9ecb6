"""Real questions as drifting streams: BANKING77 with intents that come and go, and question pairs with their labels."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from calibrating.facts import Candidate, World
from farthing.providers.local.sentence_encoder import SentenceEncoder
from farthing.providers.local.weights import MINILM, locate, locate_tokenizer

_VISITS = 2
_SPREAD = 6.0
_MOST_WORDINGS = 50


def rows(path: Path) -> list[dict[str, Any]]:
    """Of a gzipped file of JSON lines."""
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def vectors(texts: list[str], kept: Path) -> NDArray[np.float32]:
    """Their embeddings by the shipped model, computed once and kept in a file."""
    if not kept.exists():
        encoder = SentenceEncoder(locate(MINILM), locate_tokenizer(MINILM), max_tokens=256, max_batch_tokens=4096)
        found = [one.vector for start in range(0, len(texts), 256) for one in encoder.encode(texts[start : start + 256])]
        np.save(kept, np.array(found, dtype=np.float32))
    return np.asarray(np.load(kept), dtype=np.float32)


def logit(cosine: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of a cosine, stretched to 0 to 1."""
    half = np.clip((1 + cosine.astype(np.float64)) / 2, 1e-6, 1 - 1e-6)
    return np.log(half / (1 - half))


def logistic(x: NDArray[np.float64], same: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and shift of the plain logistic regression: the calibration that would be shipped."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    beta = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        curve = design.T @ (design * (p * (1 - p))[:, None]) + 1e-6 * np.eye(2)
        beta = beta + np.linalg.solve(curve, design.T @ (same - p))
    return float(beta[0]), float(beta[1])


def banking(data: Path, work: Path, most: int) -> Callable[[], World]:
    """BANKING77 as traffic: intents come and go, the cache starts empty. Shipped: the calibration of cosines on question pairs."""
    texts = rows(data / "banking77.jsonl.gz")
    embedded = vectors([row["text"] for row in texts], work / "banking77.npy")
    slope, shift = logistic(*question_pairs(data, work))
    chosen = np.random.default_rng(1).permutation(len(texts))[:most]
    chosen = chosen[in_seasons([texts[i]["intent"] for i in chosen], 1)]
    labels = [texts[i]["intent"] for i in chosen]
    gram = embedded[chosen] @ embedded[chosen].T
    return lambda: Traffic(gram, labels, slope, shift)


def pairs(data: Path, work: Path) -> Callable[[], World]:
    """The second half of the question pairs, in their order. Shipped: the calibration of cosines on the first half."""
    cosines, same = question_pairs(data, work)
    half = len(same) // 2
    slope, shift = logistic(cosines[:half], same[:half])
    return lambda: Pairs(slope * cosines[half:] + shift, same[half:])


def question_pairs(data: Path, work: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The logits of their cosines, and their labels."""
    given = rows(data / "question_pairs.jsonl.gz")
    first = vectors([row["a"] for row in given], work / "pairs-a.npy")
    second = vectors([row["b"] for row in given], work / "pairs-b.npy")
    return logit((first * second).sum(axis=1)), np.array([bool(row["same"]) for row in given])


class Pairs:
    """See `facts.World`. Each question is asked once, about an entry of its own: only what all entries share can be learnt."""

    def __init__(self, scores: NDArray[np.float64], same: NDArray[np.bool_]) -> None:
        self.length = len(scores)
        self._asked = [Candidate(UUID(int=i), float(s), bool(y)) for i, (s, y) in enumerate(zip(scores, same, strict=True))]

    def ask(self, number: int) -> Candidate | None:
        return self._asked[number]

    def missed(self, number: int) -> None:
        """Nothing changes."""

    def confirmed(self, number: int, question_id: UUID) -> None:
        """Nothing changes."""

    def died(self, question_id: UUID) -> None:
        """Asked once only."""


class Traffic:
    """See `facts.World`. A cache that starts empty, is filled by misses, and learns other wordings of its entries from verdicts.

    `gram` holds the cosines of all rows with each other, in the order in which they are asked; `labels` what each asks for.
    """

    def __init__(self, gram: NDArray[np.float32], labels: list[str], slope: float, shift: float, *, aliases: bool = True) -> None:
        self.length = len(labels)
        self._gram = gram
        self._labels = labels
        self._slope, self._shift = slope, shift
        self._mask = np.full(len(labels), -9.0, dtype=np.float32)
        self._owner = list(range(len(labels)))
        self._wordings: dict[int, list[int]] = {}
        self._aliases = aliases

    def ask(self, number: int) -> Candidate | None:
        if not self._wordings:
            return None
        nearness = self._gram[number] + self._mask
        nearness[number] = -9.0
        nearest = int(nearness.argmax())
        owner = self._owner[nearest]
        score = self._slope * float(logit(nearness[nearest : nearest + 1])[0]) + self._shift
        return Candidate(UUID(int=owner), score, self._labels[owner] == self._labels[number])

    def missed(self, number: int) -> None:
        self._put(number, number)

    def confirmed(self, number: int, question_id: UUID) -> None:
        owner = question_id.int
        wordings = self._wordings.get(owner, [])
        if self._aliases and number != owner and 0 < len(wordings) < _MOST_WORDINGS and len(self._wordings.get(number, ())) <= 1:
            self._wordings.pop(number, None)  # its own answer, if that was cached meanwhile: one of the two is enough
            self._put(number, owner)

    def died(self, question_id: UUID) -> None:
        for row in self._wordings.pop(question_id.int, ()):
            self._mask[row] = -9.0

    def _put(self, row: int, owner: int) -> None:
        self._owner[row] = owner
        self._mask[row] = 0.0
        self._wordings.setdefault(owner, []).append(row)


def in_seasons(labels: list[str], seed: int) -> list[int]:
    """An order in which each label comes and goes, twice in the stream."""
    draw = np.random.default_rng(seed)
    names = sorted(set(labels))
    first = {name: place for place, name in enumerate(draw.permutation(names))}
    second = {name: place for place, name in enumerate(draw.permutation(names))}
    visit = draw.integers(_VISITS, size=len(labels))
    times = [(second if visit[i] else first)[name] + visit[i] * len(names) + draw.normal(0, _SPREAD) for i, name in enumerate(labels)]
    return [int(i) for i in np.argsort(times)]
