"""Who comes in: requests and concurrency of a key, with a bounded line, first come first served."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import msgspec

from farthing.pipeline.holding import Holding
from farthing.pipeline.stage import Next
from farthing.spend.limit_rules import LimitRules
from farthing.spend.limits import KeyLimits
from farthing.types import Answer, Limits, Request

_LOOK_EVERY_S = 0.02
"""How soon a place is seen that became free in another worker."""
_LOOKING_SHARE = 10
"""Looking takes at most one part in so many of the worker's time."""


class _Waiter(msgspec.Struct, frozen=True):
    limits: Limits
    since: float


_Line = OrderedDict[asyncio.Future[None], _Waiter]


class Admission:
    """See `pipeline.stage.Stage`. Raises `RateLimited`.

    A request holds its place among those of its key until its answer, or its stream, has ended. While there is none it waits in line,
    `max_wait_s` at most and with at most `max_queue` of the same key in this worker. Who waits longest comes next, over all workers; in
    a line of another worker that may take 20 ms. A request that is cancelled leaves the line at once.
    """

    def __init__(
        self, rules: LimitRules, limits: KeyLimits, *, max_wait_s: float, max_queue: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rules = rules
        self._limits = limits
        self._max_wait_s = max_wait_s
        self._max_queue = max_queue
        self._clock = clock
        self._lines: dict[bytes, _Line] = {}
        self._looking = False

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return sum(len(line) for line in self._lines.values())

    async def __call__(self, request: Request, following: Next) -> Answer:
        """See `pipeline.stage.Stage`."""
        limits = self._rules.of(request.principal)
        if limits is None:
            return await following(request)
        key = request.principal.key_id.bytes
        request.quotas = partial(self._limits.quotas, key, limits)
        since = self._clock()
        if not self._limits.enter(key, limits, since, behind=key in self._lines):
            await self._wait(key, _Waiter(limits, since))
        if limits.concurrency is None:
            return await following(request)
        try:
            answer = await following(request)
        except BaseException:
            self._leave(key)
            raise
        if answer.stream is None:
            self._leave(key)
        else:
            answer.stream = Holding(answer.stream, partial(self._leave, key))
        return answer

    async def _wait(self, key: bytes, waiter: _Waiter) -> None:
        line = self._lines.setdefault(key, OrderedDict())
        if len(line) >= self._max_queue:
            raise self._limits.give_up(key, waiter.limits, f"{self._max_queue} more wait in line (setting limits.max_queue)")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line[place] = waiter
        if len(line) == 1:
            self._limits.line(key, waiter.since)
            self._look_again(_LOOK_EVERY_S)
        try:
            async with asyncio.timeout(self._max_wait_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():  # given in the same moment
                self._leave(key)
            else:
                self._drop(key, place)
            if isinstance(error, TimeoutError):
                waited = f"none ended within {self._max_wait_s:g} s (setting limits.max_wait_s)"
                raise self._limits.give_up(key, waiter.limits, waited) from None
            raise

    def _leave(self, key: bytes) -> None:
        self._limits.leave(key)
        if key in self._lines:
            self._serve(key)

    def _drop(self, key: bytes, place: asyncio.Future[None]) -> None:
        line = self._lines.get(key)
        if line is None or place not in line:
            return
        first = next(iter(line)) is place
        del line[place]
        if first:
            self._show(key, line)

    def _serve(self, key: bytes) -> None:
        """Let in whom there is a place for."""
        line = self._lines[key]
        moved = False
        while line:
            place, waiter = next(iter(line.items()))
            if not place.done():
                if not self._limits.advance(key, waiter.limits, waiter.since):
                    break
                place.set_result(None)
            del line[place]
            moved = True
        if moved:
            self._show(key, line)

    def _show(self, key: bytes, line: _Line) -> None:
        """Tell the other workers who is first in line now."""
        first = next(iter(line.values()), None)
        if first is None:
            del self._lines[key]
        self._limits.line(key, None if first is None else first.since)

    def _look_again(self, after_s: float) -> None:
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(after_s, self._look)

    def _look(self) -> None:
        """See what has become free in other workers."""
        self._looking = False
        began = time.perf_counter()
        for key in list(self._lines):
            self._serve(key)
        if self._lines:
            self._look_again(max(_LOOK_EVERY_S, _LOOKING_SHARE * (time.perf_counter() - began)))
