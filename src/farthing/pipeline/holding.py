"""A stream that holds something until it is closed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from farthing.types import ChunkStream, Json


class Holding:
    """Calls `release` once, when the stream has been closed: streams always are. Chunks pass without a frame of ours around them."""

    def __init__(self, stream: ChunkStream, release: Callable[[], None]) -> None:
        self._stream = stream
        self._release: Callable[[], None] | None = release

    def __aiter__(self) -> Holding:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Json]:
        return self._stream.__anext__()

    async def aclose(self) -> None:
        """Close what is behind, then let go."""
        try:
            await self._stream.aclose()
        finally:
            release, self._release = self._release, None
            if release is not None:
                release()
