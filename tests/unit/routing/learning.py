"""Made-up prompts of a few topics, for tests of the learned router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from farthing.routing.learned.features import features_of
from farthing.routing.learned.outcomes import Row

EMBEDDER = "made up"
DIMENSIONS = 32


def vector(topic: int, rng: np.random.Generator) -> bytes:
    """Near the other vectors of its topic, and at about a right angle to those of others."""
    centre = np.random.default_rng(1000 + topic).normal(size=DIMENSIONS)
    found = centre / np.linalg.norm(centre) + rng.normal(size=DIMENSIONS) * 0.08
    whole: bytes = np.round(found * 127 / np.abs(found).max()).astype(np.int8).tobytes()
    return whole


def features(words: int = 8) -> tuple[float, ...]:
    return features_of({"messages": [{"role": "user", "content": "What is this about? " + "word " * words}]})


def rows(topics: Sequence[Mapping[str, float]], each: int, *, seed: int = 0, known: float = 1.0, words: int | None = None) -> list[Row]:
    """`each` rows of each topic, which says how often each model is right there. `known`: how many of their scores are."""
    rng = np.random.default_rng(seed)
    made = []
    for topic, chances in enumerate(topics):
        for _ in range(each):
            scores = {model: float(rng.random() < chance) for model, chance in chances.items()}
            seen = {model: score for model, score in scores.items() if rng.random() < known}
            length = int(rng.integers(1, 60)) if words is None else words
            made.append(Row(vector=vector(topic, rng), features=features(length), scores=seen))
    return made
