"""A world in virtual time: callers who ask, models that bill, a control that decides once a second."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from farthing.modes import effective
from farthing.settings import Settings
from farthing.spend.mode_control import ModeControl
from farthing.types import ModeState, Principal

START = 1_776_000_000.0


class Caller(msgspec.Struct, frozen=True, order=True):
    """`dear`: how many times as dear as others."""

    key: int
    tier: str = "free"
    tenant: str = "acme"
    dear: float = 1.0

    @property
    def principal(self) -> Principal:
        return Principal(key_id=UUID(int=self.key), tenant=self.tenant, tier=self.tier)


Asking = Callable[[float], dict[Caller, float]]
"""Requests a second of each caller, at a time since the start."""


class World:
    """`costs` (micro-dollars) is what a request costs in each mode; answers take about `latency_s`."""

    def __init__(
        self, modes: dict[str, Any], costs: tuple[float, ...], asking: Asking, *, latency_s: float = 2.0, tick_s: float = 1.0, seed: int = 1
    ) -> None:
        settings = Settings.model_validate({"modes": modes})
        self.now = START
        self.ladder = settings.ladder()
        self.control = ModeControl(settings.modes, self.ladder, lambda: self.now, costs, announced=True)
        self.state = ModeState()
        self.changes: list[tuple[float, ModeState]] = []
        self.worst = 0
        self._costs, self._asking, self._latency_s, self._tick_s = costs, asking, latency_s, tick_s
        self._window_s = settings.modes.window_s
        self._random = random.Random(seed)  # noqa: S311
        self._bills: list[tuple[float, int, Caller, str, int, int]] = []
        self._spent: deque[tuple[float, int]] = deque()
        self._in_window = 0

    def mode_of(self, caller: Caller) -> str:
        return effective(self.state, caller.principal, self.ladder, datetime.fromtimestamp(self.now, UTC)).name

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self._ask()
            self.now += self._tick_s
            self._bill()
            new = self.control.decide(self.state)
            if new is not None:
                self.state = new
                self.changes.append((self.now - START, new))

    def _ask(self) -> None:
        for caller, rate in self._asking(self.now - START).items():
            asked = _poisson(rate * self._tick_s, self._random)
            if not asked:
                continue
            mode = self.mode_of(caller)
            rank = next(rung.rank for rung in self.ladder if rung.name == mode)
            cost = self._costs[rank] * caller.dear
            bill = round(self._random.gammavariate(asked, cost)) if cost else 0
            self.control.demand.came(caller.tenant, caller.tier, caller.principal.key_id, mode, asked)
            done = self.now + self._latency_s * (0.5 + self._random.random())
            heapq.heappush(self._bills, (done, len(self._spent), caller, mode, bill, asked))

    def _bill(self) -> None:
        while self._bills and self._bills[0][0] <= self.now:
            _, _, caller, mode, bill, asked = heapq.heappop(self._bills)
            self.control.demand.ended(caller.tier, mode, asked)
            self.control.demand.saw(caller.tenant, caller.tier, caller.principal.key_id, mode, bill, asked)
            self._spent.append((self.now, bill))
            self._in_window += bill
        while self._spent and self._spent[0][0] <= self.now - self._window_s:
            self._in_window -= self._spent.popleft()[1]
        self.worst = max(self.worst, self._in_window)


def _poisson(mean: float, source: random.Random) -> int:
    if mean > 50:
        return max(round(source.gauss(mean, math.sqrt(mean))), 0)
    count, product, floor = 0, source.random(), math.exp(-mean)
    while product > floor:
        count += 1
        product *= source.random()
    return count
