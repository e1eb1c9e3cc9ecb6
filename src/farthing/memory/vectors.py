"""Embeddings of questions and facts, with a deadline; those of facts are remembered by this worker."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from farthing.errors import FarthingError
from farthing.ports import Embedder

_MOST_AT_ONCE = 64


class Vectors:
    """`embedder` is None where there is none: then nothing has a vector. `most` is how many are remembered."""

    def __init__(self, embedder: Embedder | None, *, most: int, timeout_s: float) -> None:
        self._embedder = embedder
        self._most = most
        self._timeout_s = timeout_s
        self._known: OrderedDict[bytes, bytes] = OrderedDict()  # by digest: whoever is forgotten leaves no text here
        self._reading: asyncio.Task[None] | None = None

    @property
    def embedder(self) -> str | None:
        """The version of the embedder; None: there is none."""
        return self._embedder.version if self._embedder is not None else None

    async def of(self, text: str) -> bytes | None:
        """The embedding of a text; None when there is none within the deadline."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return (await self.read([text]))[0]
        except (FarthingError, TimeoutError):
            return None

    async def read(self, texts: Sequence[str]) -> list[bytes | None]:
        """The embeddings of texts, however long it takes. Raises the embedder's errors."""
        if self._embedder is None:
            return [None] * len(texts)
        return [one.vector for one in await self._embedder.encode(texts)]

    def known(self, texts: Sequence[str]) -> list[bytes | None]:
        """Those that are remembered. The others are read in the background, some at a time, for the next one who asks."""
        names = [_name(text) for text in texts]
        missing = [text for name, text in dict(zip(names, texts, strict=True)).items() if name not in self._known]
        if missing and self._embedder is not None and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._learn(missing[:_MOST_AT_ONCE]))
        for name in names:
            if name in self._known:
                self._known.move_to_end(name)
        return [self._known.get(name) for name in names]

    async def _learn(self, texts: Sequence[str]) -> None:
        try:
            for text, vector in zip(texts, await self.read(texts), strict=True):
                if vector is not None:
                    self._known[_name(text)] = vector
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        except FarthingError:
            pass  # the next one who asks tries again
        finally:
            self._reading = None

    async def aclose(self) -> None:
        """End what nobody waits for."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)


def _name(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest()
