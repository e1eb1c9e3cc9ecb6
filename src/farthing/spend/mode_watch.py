"""The loop that decides: several times a second what was spent is counted, others are told, and the mode follows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from farthing.errors import FarthingError, InvalidRequest
from farthing.ports import SpendLog
from farthing.spend.mode_book import ModeBook, worse
from farthing.spend.mode_control import ModeControl
from farthing.spend_news import Hearing, read
from farthing.types import Mode, ModeState

_log = logging.getLogger("farthing.modes")
_EVERY_S = 0.25
_LOG_S = 12.0
_TELL_S = 2.0
_PAUSE_S = 2.0
_JUMP_S = 1.0


class SteadyClock:
    """Unix time that does not jump: the wall clock at the beginning, and the monotonic one from there."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()

    def __call__(self) -> float:
        """The present."""
        return self._steady() + self._ahead

    def shift_s(self) -> float:
        """How far the wall clock has jumped ahead since (negative: back); 0 for less than a second."""
        shift = self._wall() - self()
        return shift if abs(shift) > _JUMP_S else 0.0


class ModeWatch:
    """`decide`, `tell` and `keep_up` run until cancelled; `heard` takes news from other workers.

    Until the ledger was read, nobody goes up: what was spent is not known. `lost` counts pieces of news that did not come.
    """

    def __init__(
        self, control: ModeControl, book: ModeBook, log: SpendLog, clock: SteadyClock, ladder: Sequence[Mode], worker: str
    ) -> None:
        self._control = control
        self._book = book
        self._log = log
        self._clock = clock
        self._ladder = ladder
        self._worker = worker
        self._hearing = Hearing()
        self._missed = asyncio.Event()
        self._missed.set()
        self.loaded = False
        self.lost = 0

    async def decide(self) -> None:
        """Decide several times a second."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                self.look()
            except Exception:  # noqa: BLE001 - whatever it is, the ceiling must be looked after and the log must say
                _log.exception("the mode could not be decided")

    def look(self) -> None:
        """Decide once."""
        state = self._book.state
        wanted = self._control.decide(state)
        if wanted is not None and not self.loaded:
            wanted = ModeState(entries=worse(state.entries, wanted.entries, self._ladder), pins=state.pins)
        if wanted is not None and wanted != state:
            self._book.want(wanted)

    async def tell(self) -> None:
        """Tell others several times a second what was spent here. What cannot be told now is told later."""
        pause = _EVERY_S
        while True:
            await asyncio.sleep(pause)
            rows = self._control.demand.take_untold()
            pause = _EVERY_S
            if not rows:
                continue
            try:
                async with asyncio.timeout(_TELL_S):
                    await self._log.tell(rows, self._worker)
            except (FarthingError, TimeoutError) as error:
                _log.debug("others are not told of spending: %s", error)
                self._control.demand.untell(rows)
                pause = _PAUSE_S

    def heard(self, payload: str) -> None:
        """News from another worker; empty: some may have been missed."""
        if not payload:
            self._missed.set()
            return
        try:
            news = read(payload)
        except InvalidRequest as error:
            _log.warning("%s", error)
            return
        if news.worker == self._worker or not self._hearing.new(news):
            return
        if not self._hearing.take(news):
            self.lost += 1
            self._missed.set()
        self._control.demand.heard(news.spent())

    async def keep_up(self) -> None:
        """Read from the ledger what was missed, now and whenever news were lost."""
        while True:
            await self._missed.wait()
            self._missed.clear()
            try:
                async with asyncio.timeout(_LOG_S):
                    await self.load()
            except (FarthingError, TimeoutError) as error:
                _log.debug("what was spent is not known: %s", error)
                self._missed.set()
            await asyncio.sleep(_PAUSE_S)

    async def load(self) -> None:
        """Read what others have spent in the window. Raises the store's errors."""
        window = self._control.demand.window
        shift_s = self._clock.shift_s()
        since = datetime.fromtimestamp(self._clock() + min(shift_s, 0.0), UTC) - timedelta(seconds=window.window_s + window.step_s)
        rows = await self._log.since(since, span_s=window.step_s, but=self._worker)
        self._control.demand.reload(rows, shift_s=shift_s)
        self.loaded = True
