"""Texts of a user's own data, read by the local embedding model, without a running installation."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from farthing.ports import Embedder, Encoded
from farthing.providers.local.embedder import OnnxEmbedder
from farthing.providers.local.weights import MINILM, locate, locate_tokenizer

_Made = TypeVar("_Made")
_BATCH = 512


def encoded(texts: Sequence[str]) -> list[Encoded]:
    """As the semantic cache and the learned router read them. Each text once, however often it comes."""
    distinct = list(dict.fromkeys(texts))
    known = dict(zip(distinct, asyncio.run(_each(distinct, lambda embedder, some: embedder.encode(some))), strict=True))
    return [known[text] for text in texts]


def embedded(texts: Sequence[str]) -> list[list[float]]:
    """As unit vectors."""

    async def vectors(embedder: Embedder, some: Sequence[str]) -> list[list[float]]:
        return (await embedder.embed(some))[0]

    return asyncio.run(_each(texts, vectors))


async def _each(texts: Sequence[str], work: Callable[[Embedder, Sequence[str]], Awaitable[list[_Made]]]) -> list[_Made]:
    embedder: Embedder = OnnxEmbedder(model=locate(MINILM), tokenizer=locate_tokenizer(MINILM), threads=2, max_queue=2 * _BATCH)
    made: list[_Made] = []
    try:
        for start in range(0, len(texts), _BATCH):
            made += await work(embedder, texts[start : start + _BATCH])
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{len(made)} of {len(texts)} texts read")
    finally:
        await embedder.aclose()
    return made
