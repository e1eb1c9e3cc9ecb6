"""A double of the embedder that needs no model: each word has a vector of its own, drawn from its letters, and a sentence has their sum."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence

from farthing.ports import Encoded

_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD_DIMENSIONS = 28


class WordEmbedder:
    """The port `Embedder`. Equal words are alike, different ones are strangers; their order does not matter.

    Texts are cut after `max_tokens` words and marks.
    """

    def __init__(self, *, dimensions: int = 64, max_tokens: int = 256) -> None:
        self.dimensions = dimensions
        self.version = f"words {dimensions}"
        self._max_tokens = max_tokens

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """See `ports.Embedder`."""
        return [self.encoded(text) for text in texts]

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """See `ports.Embedder`."""
        tokens = [self._tokens(text)[0] for text in texts]
        sums = [self._sum(some) for some in tokens]
        lengths = [sum(value * value for value in vector) ** 0.5 or 1.0 for vector in sums]
        return [[value / length for value in vector] for vector, length in zip(sums, lengths, strict=True)], sum(map(len, tokens))

    async def aclose(self) -> None:
        """A no-op."""

    def encoded(self, text: str) -> Encoded:
        """What `encode` makes of one text."""
        tokens, cut = self._tokens(text)
        vector = self._sum([match.lower() for match in tokens])
        largest = max(map(abs, vector)) or 1.0
        rows = [bytes([min(255, 16 * len(token))]) + array("b", _drawn(token.lower(), _WORD_DIMENSIONS)).tobytes() for token in tokens]
        spans = [match.span() for match in _TOKEN.finditer(text)][: len(tokens)]
        return Encoded(
            vector=array("b", [round(127 * value / largest) for value in vector]).tobytes(),
            words=b"".join(rows),
            spans=tuple(spans),
            cut=cut,
        )

    def _tokens(self, text: str) -> tuple[list[str], bool]:
        tokens = [match.group() for match in _TOKEN.finditer(text)]
        return tokens[: self._max_tokens], len(tokens) > self._max_tokens

    def _sum(self, tokens: Sequence[str]) -> list[float]:
        drawn = [_drawn(token.lower(), self.dimensions) for token in tokens]
        return [float(sum(values)) for values in zip(*drawn, strict=True)] or [0.0] * self.dimensions


def _drawn(word: str, dimensions: int) -> list[int]:
    digest = hashlib.shake_128(word.encode("utf-8", "replace")).digest(dimensions)
    return [max(-127, byte - 128) for byte in digest]
