"""A spike on virtual time: requests arrive, are answered in the mode that holds, and what they cost is seen when they have ended.

Nothing here decides anything. The modes, the routes and what is sent come from the same code that a gateway runs (`Desk`, `Control`).
What is not simulated: the caches (each request is asked), failures, and how many calls a model can take at the same time.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from farthing.economics.arrivals import Sample
from farthing.errors import FarthingError
from farthing.types import Mode, ModeState, Principal, SpendRow

TICK_S = 0.25
"""How often the modes are decided, as in a gateway."""
ADOPTION_S = 0.1
"""From a decision to all workers' acting on it: a write and its news."""
EPOCH = 1_767_261_600.0
"""Unix time at which a simulation begins: 1 January 2026, 10:00 UTC."""
HOUR_S = 3600.0


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A request: when (seconds from the beginning), by whom, and what."""

    at: float
    who: Principal
    sample: Sample


class Served(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a request was answered: by which model, for how much, and how long that took."""

    model: str
    microusd: int
    seconds: float


class Desk(Protocol):
    """Answers requests as the gateway would."""

    async def serve(self, asked: Asked, mode: Mode, now: datetime) -> Served:
        """Raises a `FarthingError` for a request that would be refused."""


class Control(Protocol):
    """Decides modes. Modes are named as in the ledger: None is the best one."""

    def came(self, who: Principal, mode: str | None) -> None:
        """A request begins."""

    def ended(self, who: Principal, mode: str | None) -> None:
        """It has ended, after its money was seen."""

    def saw(self, row: SpendRow) -> None:
        """Count what was spent."""

    def decide(self, state: ModeState) -> ModeState | None:
        """The state as it should be now; None: as it is."""


class Clock:
    """Virtual Unix time."""

    def __init__(self) -> None:
        self.now = EPOCH

    def __call__(self) -> float:
        """The present, in seconds."""
        return self.now


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of modes: when it was decided, when it was in force, and what each scope's mode is from then on."""

    at: float
    in_force_at: float
    modes: dict[str, str]
    reason: str


class Span(msgspec.Struct, kw_only=True):
    """What happened within a minute. `window_microusd`: the most that the rolling window held; `modes`: each tier's, at its end."""

    requests: int = 0
    refused: int = 0
    microusd: int = 0
    window_microusd: int = 0
    by_model: Counter[str]
    modes: dict[str, str]


class Account(msgspec.Struct, kw_only=True):
    """All of a run."""

    spent_microusd: int = 0
    worst_hour_microusd: int = 0
    worst_window_microusd: int = 0
    requests: int = 0
    refused: int = 0
    by_model: Counter[str]
    by_mode_by_tier: dict[str, Counter[str]]
    by_mode_of_key: dict[str, Counter[str]]
    peak_calls: Counter[str]
    changes: list[Change]
    spans: list[Span]


class Simulation:
    """`mode_of` says in which mode a caller is; `watched` are keys that are accounted for apart."""

    def __init__(
        self,
        desk: Desk,
        control: Control | None,
        clock: Clock,
        mode_of: Callable[[ModeState, Principal, datetime], Mode],
        tiers: dict[str, Principal],
        *,
        window_s: float,
        watched: Iterable[str] = (),
    ) -> None:
        self._desk = desk
        self._control = control
        self._clock = clock
        self._mode_of = mode_of
        self._tiers = tiers
        self._state = ModeState()
        self._decided: deque[tuple[float, ModeState]] = deque()
        self._ends: list[tuple[float, int, Asked, Mode, Served]] = []
        self._order = itertools.count()
        self._calls: Counter[str] = Counter()
        self._hour = Rolling(HOUR_S)
        self._window = Rolling(window_s)
        self.account = Account(
            by_model=Counter(),
            by_mode_by_tier={tier: Counter() for tier in tiers},
            by_mode_of_key={key: Counter() for key in watched},
            peak_calls=Counter(),
            changes=[],
            spans=[],
        )

    async def run(self, requests: Iterator[Asked], ends_at: float) -> Account:
        """Run to the end, and on until the last answer has come."""
        coming = next(requests, None)
        tick = 0.0
        while tick <= ends_at or self._ends:
            tick += TICK_S
            self._adopt(tick - TICK_S)
            while coming is not None and coming.at < tick:
                self._complete(coming.at)
                self._adopt(coming.at)
                await self._serve(coming)
                coming = next(requests, None)
            self._complete(tick)
            self._adopt(tick)
            self._decide(tick)
        return self.account

    def _adopt(self, now: float) -> None:
        """Decisions that have reached all workers by now hold."""
        while self._decided and self._decided[0][0] <= now:
            in_force_at, self._state = self._decided.popleft()
            self._span(in_force_at).modes = self._modes(in_force_at)

    def _modes(self, now: float) -> dict[str, str]:
        at = datetime.fromtimestamp(EPOCH + now, UTC)
        return {tier: self._mode_of(self._state, who, at).name for tier, who in self._tiers.items()}

    async def _serve(self, asked: Asked) -> None:
        account, tier = self.account, asked.who.tier
        at = datetime.fromtimestamp(EPOCH + asked.at, UTC)
        mode = self._mode_of(self._state, asked.who, at)
        span = self._span(asked.at)
        account.requests += 1
        span.requests += 1
        try:
            served = await self._desk.serve(asked, mode, at)
        except FarthingError:
            account.refused += 1
            span.refused += 1
            return
        account.by_model[served.model] += 1
        span.by_model[served.model] += 1
        account.by_mode_by_tier[tier][mode.name] += 1
        if (key := str(asked.who.key_id)) in account.by_mode_of_key:
            account.by_mode_of_key[key][mode.name] += 1
        self._calls[served.model] += 1
        account.peak_calls[served.model] = max(account.peak_calls[served.model], self._calls[served.model])
        if self._control is not None:
            self._clock.now = EPOCH + asked.at
            self._control.came(asked.who, _named(mode))
        heapq.heappush(self._ends, (asked.at + served.seconds, next(self._order), asked, mode, served))

    def _complete(self, now: float) -> None:
        """Answers that have ended by now: their money is seen."""
        account = self.account
        while self._ends and self._ends[0][0] <= now:
            at, _, asked, mode, served = heapq.heappop(self._ends)
            self._calls[served.model] -= 1
            account.spent_microusd += served.microusd
            account.worst_hour_microusd = max(account.worst_hour_microusd, self._hour.add(at, served.microusd))
            account.worst_window_microusd = max(account.worst_window_microusd, in_window := self._window.add(at, served.microusd))
            span = self._span(at)
            span.microusd += served.microusd
            span.window_microusd = max(span.window_microusd, in_window)
            if self._control is not None:
                self._clock.now = EPOCH + at
                self._control.saw(_row(at, asked.who, mode, served))
                self._control.ended(asked.who, _named(mode))

    def _decide(self, now: float) -> None:
        if self._control is not None:
            self._clock.now = EPOCH + now
            latest = self._decided[-1][1] if self._decided else self._state
            if (new := self._control.decide(latest)) is not None:
                at = now + ADOPTION_S
                self._decided.append((at, new))
                modes = {scope: entry.mode for scope, entry in new.entries.items()}
                reason = "; ".join(dict.fromkeys(entry.reason for entry in new.entries.values()))
                self.account.changes.append(Change(at=now, in_force_at=at, modes=modes, reason=reason))
        span = self._span(now)
        span.window_microusd = max(span.window_microusd, self._window.at(now))

    def _span(self, at: float) -> Span:
        spans = self.account.spans
        while len(spans) <= at // 60:
            spans.append(Span(by_model=Counter(), modes=dict(spans[-1].modes) if spans else self._modes(at)))
        return spans[int(at // 60)]


class Rolling:
    """What was spent within the last `window_s` seconds."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._spent: deque[tuple[float, int]] = deque()
        self._total = 0

    def add(self, at: float, microusd: int) -> int:
        """Count something, and return what the window that ends with it holds. Times ascend."""
        if microusd:
            self._spent.append((at, microusd))
            self._total += microusd
        return self.at(at)

    def at(self, now: float) -> int:
        """What the window that ends now holds."""
        while self._spent and self._spent[0][0] <= now - self._window_s:
            self._total -= self._spent.popleft()[1]
        return self._total


def _row(at: float, who: Principal, mode: Mode, served: Served) -> SpendRow:
    return SpendRow(
        at=EPOCH + at,
        tenant=who.tenant,
        tier=who.tier,
        key_id=str(who.key_id),
        mode=_named(mode),
        microusd=served.microusd,
        requests=1,
    )


def _named(mode: Mode) -> str | None:
    return None if mode.rank == 0 else mode.name
