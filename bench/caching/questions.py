"""Vectors as a semantic cache meets them: embeddings of template questions, and many more around them.

Vectors drawn at random are all equally far from each other: no index finds anything among them, and none needs to. Real ones crowd in
topics. A base of some thousand questions is embedded by the shipped model; a further vector is one of these, moved by part of the
difference between two others (along directions in which real questions differ) and by a little noise. How near the next neighbour is
then varies as it does in traffic.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
from numpy.typing import NDArray

from farthing.providers.local.embedder import OnnxEmbedder
from farthing.providers.local.weights import MINILM, locate, locate_tokenizer

Vectors = NDArray[np.int8]

_ASK = (
    "How do I {verb} {thing}?",
    "Can you help me {verb} {thing}?",
    "What is the best way to {verb} {thing} in {place}?",
    "I want to {verb} {thing} but it says {trouble}",
    "Why can't I {verb} {thing} since {when}?",
    "Where in {place} can someone {verb} {thing}",
    "Explain step by step how to {verb} {thing} {when}",
    "Is it possible to {verb} {thing} without {without}?",
    "{trouble} when I try to {verb} {thing}, what now",
    "Does it cost anything to {verb} {thing} {when}?",
)
_VERB = (
    "reset",
    "cancel",
    "update",
    "export",
    "delete",
    "renew",
    "share",
    "track",
    "book",
    "translate",
    "refund",
    "compare",
    "install",
    "debug",
    "summarise",
    "verify",
    "download",
    "transfer",
    "activate",
    "schedule",
)
_THING = (
    "my password",
    "a subscription",
    "the invoice",
    "our database",
    "a flight to Rome",
    "the shipping address",
    "my credit card",
    "a Python package",
    "the quarterly report",
    "an account limit",
    "the mobile app",
    "a bank transfer",
    "my calendar",
    "the PDF contract",
    "a meeting with the team",
    "two-factor login",
    "an order from last week",
    "the exchange rate",
    "a recipe for bread",
    "the tax form",
    "a hotel room",
    "my insurance policy",
    "the API key",
    "a broken screen",
    "a visa application",
    "the source code",
    "a poem about autumn",
    "my medical record",
)
_PLACE = ("Germany", "the settings", "Excel", "New York", "the web portal", "Linux", "the office", "Japan", "the app", "a small company")
_TROUBLE = ("access denied", "it is pending", "the card was declined", "nothing happens", "error 403", "it timed out", "it is too large")
_WHEN = ("yesterday", "the update", "in 2024", "on weekends", "before Friday", "next month", "after moving house", "twice a year")
_WITHOUT = ("a phone", "paying a fee", "losing data", "an administrator", "the original receipt", "internet")


def texts(number: int) -> list[str]:
    """So many different questions, at most some tens of thousands."""
    dice = random.Random(7)  # noqa: S311  # no secret
    pairs = list(itertools.product(_ASK, _VERB, _THING))
    dice.shuffle(pairs)
    return [
        ask.format(
            verb=verb,
            thing=thing,
            place=dice.choice(_PLACE),
            trouble=dice.choice(_TROUBLE),
            when=dice.choice(_WHEN),
            without=dice.choice(_WITHOUT),
        )
        for ask, verb, thing in pairs[:number]
    ]


async def embedded(number: int) -> NDArray[np.float32]:
    """Embeddings of so many questions. Takes some milliseconds each."""
    embedder = OnnxEmbedder(model=locate(MINILM), tokenizer=locate_tokenizer(MINILM), max_queue=number)
    try:
        return np.array((await embedder.embed(texts(number)))[0], dtype=np.float32)
    finally:
        await embedder.aclose()


class Crowd:
    """An endless supply of vectors around a base. The same seed gives the same ones."""

    def __init__(self, around: NDArray[np.float32], seed: int = 1) -> None:
        self._around = around
        self._dice = np.random.default_rng(seed)

    def more(self, number: int) -> Vectors:
        """So many new ones."""
        at = self._dice.integers(0, len(self._around), (3, number))
        moved = self._around[at[0]] + 0.35 * (self._around[at[1]] - self._around[at[2]])
        return packed(moved + self._noise(number, 0.15))

    def near(self, vectors: Vectors) -> Vectors:
        """One for each of these, as a paraphrase is: with cosines of about .8 to .98."""
        unit = vectors.astype(np.float32)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        at = self._dice.integers(0, len(self._around), (2, len(vectors)))
        strength = self._dice.uniform(0.05, 0.45, (len(vectors), 1)).astype(np.float32)
        return packed(unit + strength * (self._around[at[0]] - self._around[at[1]]) + self._noise(len(vectors), 0.15))

    def _noise(self, number: int, length: float) -> NDArray[np.float32]:
        drawn = self._dice.standard_normal((number, self._around.shape[1]), dtype=np.float32)
        return drawn * np.float32(length / self._around.shape[1] ** 0.5)


def packed(vectors: NDArray[np.float32]) -> Vectors:
    """As the cache keeps them: the largest component is 127 or -127."""
    most = np.abs(vectors).max(axis=1, keepdims=True)
    rounded: Vectors = np.rint(vectors * (127 / most)).astype(np.int8)
    return rounded
