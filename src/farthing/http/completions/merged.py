"""Several chat streams as one, so many at a time, in the order in which they speak."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from farthing.pipeline.stage import Next
from farthing.types import Answer, Json, Request

_WAITING = 64
"""Chunks that wait for the client; then the streams wait."""


class Merged:
    """A `types.ChunkStream` whose chunks say in the field `prompt` whose they are. `answers` are those that have begun, in that order.

    `begin` must come first. When one stream breaks, all of it does.
    """

    def __init__(self, flow: Next, requests: Sequence[Request], concurrency: int) -> None:
        self._flow = flow
        self._requests = deque(enumerate(requests))
        self._concurrency = min(concurrency, len(requests))
        self._lifeline = requests[0].lifeline
        self._queue: asyncio.Queue[Json | None] = asyncio.Queue(_WAITING)
        self._error: Exception | None = None
        self._first: Json | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._running = 0
        self.answers: list[Answer] = []

    async def begin(self) -> None:
        """Start, and wait for the first chunk. Raises what went wrong before it."""
        self._running = self._concurrency
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]
        try:
            self._first = await self._next()
        except BaseException:
            await self.aclose()
            raise

    async def _work(self) -> None:
        """Relay one stream after the other, until none is left or one breaks."""
        try:
            while self._requests:
                number, request = self._requests.popleft()
                await self._relay(number, request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader must learn it
            self._error = error
            self._requests.clear()
            with suppress(asyncio.QueueFull):  # the reader has something to read, and looks for an error before it
                self._queue.put_nowait(None)
            return
        self._running -= 1
        if self._running == 0:
            await self._queue.put(None)

    async def _relay(self, number: int, request: Request) -> None:
        answer = await self._flow(request)
        self.answers.append(answer)
        stream = answer.stream
        assert stream is not None
        try:
            async for chunk in stream:
                await self._queue.put({**chunk, "prompt": number})
        finally:
            answer.stream = None  # see `sse.send_events`
            await stream.aclose()

    async def _next(self) -> Json | None:
        if self._error is None:
            try:
                found = await self._queue.get()
            except asyncio.CancelledError as error:
                raise self._lifeline.told(error) from None
            if self._error is None:
                return found
        raise self._error

    def __aiter__(self) -> Merged:
        return self

    async def __anext__(self) -> Json:
        found, self._first = self._first, None
        if found is None and not (self._running == 0 and self._queue.empty()):
            found = await self._next()
        if found is None:
            raise StopAsyncIteration
        return found

    async def aclose(self) -> None:
        """Stop all streams."""
        self._requests.clear()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
