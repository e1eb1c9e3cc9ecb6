"""Modes, put together: who decides them, where they are agreed on, what the request path knows of them. Part of the composition root."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from farthing.app_stores import Stores
from farthing.background import Background
from farthing.modes import MODES, checked_mode
from farthing.routing.catalogue import Catalogue
from farthing.settings import Settings
from farthing.snapshot import Snapshot
from farthing.spend.meter import Observer
from farthing.spend.mode_book import ModeBook
from farthing.spend.mode_control import ModeControl
from farthing.spend.mode_stage import ModeStage, SpendWatch
from farthing.spend.mode_watch import ModeWatch, SteadyClock
from farthing.spend.prices import cost
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import ANONYMOUS, Document, Json, Mode, Operation, Price, Principal, Usage

_USUAL = Usage(input=1500, output=400)
"""What a request is taken for until some were seen."""
_OTHERS = "other"
_WAIT_S, _MOST_WAITS = 0.05, 60


class Modes:
    """`stage` is the stage; `observers` see what is spent. Without a ceiling, or when others decide, nothing is watched."""

    def __init__(self, settings: Settings, stores: Stores, catalogue: Catalogue, worker: str) -> None:
        self.ladder = settings.ladder()
        self._settings = settings.modes
        self.book = ModeBook(stores.config, self.ladder, Snapshot(settings.data / "snapshot", MODES, Document))
        self._control: ModeControl | None = None
        self._watch: ModeWatch | None = None
        self.observers: list[Observer] = []
        came = None
        if self._settings.has_ceiling and self._settings.decide == "policy":
            clock = SteadyClock()
            self._control = ModeControl(self._settings, self.ladder, clock, priors(self.ladder, catalogue), announced=True)
            self._watch = ModeWatch(self._control, self.book, stores.spend, clock, self.ladder, worker)
            seen = SpendWatch(self._control.demand)
            self.observers.append(seen.observe)
            came = seen.came
        self.stage = ModeStage(self.book.mode_of, came)

    def of(self, who: Principal, name: str | None) -> Mode:
        """The mode of a caller; that of a name, where one is given. Raises `InvalidRequest` for a name that no mode has."""
        return self.book.mode_of(who) if name is None else checked_mode(name, self.ladder)

    async def start(self, background: Background, keys_known: Callable[[], bool]) -> None:
        """Begin with what was known last, and agree with others from there.

        Where keys are not known yet, connections to a database that just comes up are left to them for a moment.
        """
        await self.book.open()
        background.start("modes", partial(_after, keys_known, self.book.run))
        if self._watch is not None:
            background.start("mode policy", self._watch.decide)
            background.start("spending told", self._watch.tell)
            background.start("spending", partial(_after, keys_known, self._watch.keep_up))

    async def heard(self, channel: str, payload: str) -> None:
        """News from other workers."""
        if channel == "config" and payload in {"", MODES}:
            self.book.ask()
        elif channel == "spend" and self._watch is not None:
            self._watch.heard(payload)

    def lines(self) -> Json:
        """What is known of spending, for operators."""
        if self._control is None:
            return {"decides": self._settings.decide, "ceiling": False}
        outlook = msgspec.to_builtins(self._control.outlook(self.book.state))
        return {"decides": "policy", "ceiling": True, "window_s": self._settings.window_s, **outlook}

    def register(self, metrics: Metrics) -> None:
        """Show which mode holds, and how the ceiling stands."""
        gauge, counter = metrics.gauge, metrics.counter
        rank = "The rank of the mode of a tier: 0 is the best one. Modes of single tenants and keys are not in it."
        for tier in [*self._settings.tiers, _OTHERS]:
            gauge(names.MODE_RANK, rank, partial(self._rank, tier), attributes={names.TIER: tier}, merge="max")
        counter(names.MODE_CHANGES, "Changes of modes that this worker decided.", lambda: self.book.written)
        gauge(names.MODE_STORE_AWAY, "1 while modes cannot be agreed on.", lambda: int(self.book.away), merge="max")
        control, watch = self._control, self._watch
        if control is not None and watch is not None:
            spent = "Spent within the window by all workers, as this one knows."
            gauge(names.MODE_SPENT, spent, lambda: control.demand.window.total.total, unit="{microusd}", merge="max")
            left = "Seconds until the ceiling is reached at the present rate; as many as a window has, when it is not reached."
            gauge(names.MODE_EXHAUSTED, left, self._exhausted_in_s, unit="s", merge="max")
            counter(names.MODE_NEWS_LOST, "Pieces of news of other workers' spending that did not come.", lambda: watch.lost)

    def _rank(self, tier: str) -> int:
        return self.book.rank_of(f"tier:{tier}")

    def _exhausted_in_s(self) -> float:
        assert self._control is not None
        seconds = self._control.outlook(self.book.state).exhausted_in_s
        return self._settings.window_s if seconds is None else seconds


async def _after(there: Callable[[], bool], run: Callable[[], Awaitable[None]]) -> None:
    for _ in range(_MOST_WAITS):
        if there():
            break
        await asyncio.sleep(_WAIT_S)
    await run()


def priors(ladder: Sequence[Mode], catalogue: Catalogue) -> tuple[float, ...]:
    """What a request may cost in each mode (micro-dollars), by the price of the dearest model, until some were seen."""
    prices = {
        model.name: [deployment.price for deployment in model.deployments]
        for model in catalogue.visible(ANONYMOUS)
        if model.operation is Operation.CHAT
    }
    dearest = max((_dearest(of) for of in prices.values()), key=_usual, default=Price())
    return tuple(_prior(rung, dearest, prices) for rung in ladder)


def _prior(rung: Mode, dearest: Price, prices: dict[str, list[Price]]) -> float:
    least = 0.6 if rung.history_turns or rung.retrieval_tokens or rung.retrieval_chunks else 1.0
    usage = Usage(input=math.ceil(_USUAL.input * least), output=min(_USUAL.output, rung.max_tokens or _USUAL.output))
    price = dearest
    if rung.model in prices:
        price = min(dearest, _dearest(prices[rung.model]), key=_usual)
    return 0.0 if price.free else float(cost(price, usage))


def _dearest(prices: Sequence[Price]) -> Price:
    return max(prices, key=_usual, default=Price())


def _usual(price: Price) -> int:
    return 0 if price.free else cost(price, _USUAL)
