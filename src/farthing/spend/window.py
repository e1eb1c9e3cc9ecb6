"""What was spent within a rolling window, of all, of some tenants and of each key. Bounded, and on a time that the caller names.

A window is counted in spans, the oldest of which counts whole until all of it has left: it errs towards having spent more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from heapq import nsmallest

SPANS = 240
"""In a window: an error of less than half a percent of it at its old end."""

MOST_MICROUSD = 10**13
"""Of one row: ten million dollars. What says more is not believed."""


class Series:
    """What was spent, by span. Spans are numbered on a clock; they may come a little out of order."""

    __slots__ = ("_spans", "total")

    def __init__(self) -> None:
        self._spans: deque[list[int]] = deque()
        self.total = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Each span that has something, oldest first, and what it has."""
        return ((span, microusd) for span, microusd in self._spans)

    def add(self, span: int, microusd: int) -> None:
        """Count what was spent in a span."""
        self.total += microusd
        spans = self._spans
        if not spans or spans[-1][0] < span:
            spans.append([span, microusd])
            return
        at = len(spans) - 1
        while at >= 0 and spans[at][0] > span:
            at -= 1
        if at >= 0 and spans[at][0] == span:
            spans[at][1] += microusd
        else:
            spans.insert(at + 1, [span, microusd])

    def drop_before(self, span: int) -> None:
        """Forget older spans."""
        spans = self._spans
        while spans and spans[0][0] < span:
            self.total -= spans.popleft()[1]

    def take_in(self, other: Series) -> None:
        """Count what another series has, too."""
        for span, microusd in other:
            self.add(span, microusd)


class Window:
    """`tenants` are those that are followed. Of more than `most` keys, those that have spent least are forgotten; the total has them."""

    def __init__(self, window_s: float, tenants: Iterable[str] = (), *, most: int = 1000) -> None:
        self.window_s = window_s
        self.step_s = window_s / SPANS
        self.total = Series()
        self.tenants = {tenant: Series() for tenant in tenants}
        self.keys: dict[str, Series] = {}
        self._most = most
        self._oldest: int | None = None

    def add(self, at: float, tenant: str, key: str | None, microusd: int) -> None:
        """Count what was spent at a time (seconds)."""
        span = math.floor(at / self.step_s)
        self.total.add(span, microusd)
        if (of_tenant := self.tenants.get(tenant)) is not None:
            of_tenant.add(span, microusd)
        if key is not None:
            of_key = self.keys.get(key)
            if of_key is None:
                of_key = self.keys[key] = Series()
            of_key.add(span, microusd)

    def advance(self, now: float) -> None:
        """Let go of what has left the window."""
        oldest = math.floor((now - self.window_s) / self.step_s)
        if oldest != self._oldest:
            self._oldest = oldest
            self._drop_before(oldest)
        if len(self.keys) > self._most:
            spare = len(self.keys) - self._most * 9 // 10
            for key in nsmallest(spare, self.keys, key=lambda key: self.keys[key].total):
                del self.keys[key]

    def _drop_before(self, oldest: int) -> None:
        self.total.drop_before(oldest)
        for series in self.tenants.values():
            series.drop_before(oldest)
        gone = []
        for key, series in self.keys.items():
            series.drop_before(oldest)
            if series.total <= 0:
                gone.append(key)
        for key in gone:
            del self.keys[key]

    def take_in(self, other: Window) -> None:
        """Count what another window of the same length has, too."""
        self.total.take_in(other.total)
        for tenant, series in other.tenants.items():
            self.tenants.setdefault(tenant, Series()).take_in(series)
        for key, series in other.keys.items():
            self.keys.setdefault(key, Series()).take_in(series)

    def ends_in_s(self, series: Series, now: float) -> Iterator[tuple[float, int]]:
        """In how many seconds each span of a series leaves the window, soonest first, and what leaves with it."""
        for span, microusd in series:
            yield (span + 1) * self.step_s + self.window_s - now, microusd


def breaks_in_s(ends: Iterable[tuple[float, int]], spent: int, rate: float, limit: float, within_s: float) -> float:
    """In how many seconds spending at a rate (a second) breaks a limit, given what is spent and when that leaves; inf: not in that time."""
    left = float(spent)
    if left > limit:
        return 0.0
    if rate <= 0:
        return math.inf
    for at, microusd in ends:
        reach = min(at, within_s)
        if left + rate * reach > limit:
            return (limit - left) / rate
        if at >= within_s:
            return math.inf
        left -= microusd
    return (limit - left) / rate if left + rate * within_s > limit else math.inf
