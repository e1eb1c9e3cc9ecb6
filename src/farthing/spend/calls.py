"""How many model calls a worker has under way at the same time; further ones wait in line, first come first served."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from farthing.errors import Overloaded
from farthing.pipeline.holding import Holding
from farthing.pipeline.stage import Next
from farthing.types import CHECK, Answer, Request


class ModelCalls:
    """See `pipeline.stage.Stage`. Stands right before `dispatch`, so that answers from a cache do not wait here.

    A stream is under way until it has ended. A question about an answer that is held takes the place of the request that holds it. A
    request waits `max_wait_s` at most; then, or when `max_queue` wait already, it is refused with `Overloaded`. One that is cancelled
    leaves the line at once. `refused` counts.
    """

    def __init__(self, *, most: int, max_queue: int, max_wait_s: float) -> None:
        self._most = most
        self._max_queue = max_queue
        self._max_wait_s = max_wait_s
        self._line: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self.under_way = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line)

    async def __call__(self, request: Request, following: Next) -> Answer:
        """See `pipeline.stage.Stage`."""
        if request.purpose == CHECK:
            return await following(request)
        if self.under_way < self._most:
            self.under_way += 1
        else:
            await self._wait()
        try:
            answer = await following(request)
        except BaseException:
            self._leave()
            raise
        if answer.stream is None:
            self._leave()
        else:
            answer.stream = Holding(answer.stream, self._leave)
        return answer

    async def _wait(self) -> None:
        if len(self._line) >= self._max_queue:
            raise self._refusal(f"{self._max_queue} more wait in line (setting limits.max_queued_calls)")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line[place] = None
        try:
            async with asyncio.timeout(self._max_wait_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():  # given in the same moment
                self._leave()
            self._line.pop(place, None)
            if isinstance(error, TimeoutError):
                raise self._refusal(f"none ended within {self._max_wait_s:g} s (setting limits.max_wait_s)") from None
            raise

    def _leave(self) -> None:
        """Hand the place to the first in line. Nobody overtakes: while somebody waits, no place is free."""
        while self._line:
            place, _ = self._line.popitem(last=False)
            if not place.done():
                place.set_result(None)
                return
        self.under_way -= 1

    def _refusal(self, reason: str) -> Overloaded:
        self.refused += 1
        return Overloaded(f"this worker has {self._most} model calls under way (setting limits.max_calls); {reason}", retry_after_s=1.0)
