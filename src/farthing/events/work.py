"""What one handler has under way: each delivery with its lease, its deadline, and what becomes of it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from farthing.errors import FarthingError
from farthing.events.handler import Handler
from farthing.ports import EventBus
from farthing.settings import EventSettings
from farthing.types import Delivery

_log = logging.getLogger("farthing.events")
_LONGEST_ERROR: Final = 1000
_TO_CANCEL_S: Final = 1.0
_MOMENT_S: Final = 0.01
_ENDED: Final = "its process ended"


class Work:
    """The deliveries of one handler in this process, `settings.concurrency` at most.

    `done` tells the bus that one is handled; `ended` is called when there is room again, and perhaps more of a lane. `handled` and `died`
    count events, `failed` attempts, `lost` deliveries whose lease was lost under way.
    """

    def __init__(
        self,
        bus: EventBus,
        handler: Handler,
        settings: EventSettings,
        done: Callable[[Delivery], Awaitable[object]],
        ended: Callable[[], None],
        *,
        rng: random.Random,
        clock: Callable[[], datetime],
    ) -> None:
        self._bus = bus
        self._handle = handler.handle
        self._name = handler.subscription.handler
        self._settings = settings
        self._done = done
        self._tell_ended = ended
        self._rng = rng
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self.handled = 0
        self.failed = 0
        self.died = 0
        self.lost = 0

    @property
    def under_way(self) -> int:
        """Deliveries."""
        return len(self._tasks)

    async def room(self) -> int:
        """How many more can be begun: at least one, for which it waits; and a moment longer for others, so that not each is taken alone."""
        while self._free <= 0:
            self._ended.clear()
            await self._ended.wait()
        if self._free < self._settings.concurrency // 2:
            await asyncio.sleep(_MOMENT_S)
        return self._free

    @property
    def _free(self) -> int:
        return self._settings.concurrency - len(self._tasks)

    def begin(self, delivery: Delivery) -> None:
        """Handle a delivery, in the background."""
        task = asyncio.create_task(self._one(delivery), name=f"event for {self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended.set()
        self._tell_ended()

    async def drain(self, seconds: float) -> None:
        """Let what is under way finish, for so long; what is left is given back to the bus."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        left = tuple(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _one(self, delivery: Delivery) -> None:
        try:
            error = await self._try(delivery)
            if error is None:
                await self._done(delivery)
                self.handled += len(delivery.events)
            elif error:
                await self._give_back(delivery, error)
            else:
                self.lost += 1
        except asyncio.CancelledError:
            await self._let_go(delivery)
            raise
        except FarthingError as error:
            _log.warning("events for %s are delivered again, for the bus is away: %s", self._name, error)
        except Exception:  # noqa: BLE001 - whatever it is, the others go on and the log must say
            _log.exception("events for %s are delivered again", self._name)

    async def _try(self, delivery: Delivery) -> str | None:
        """Why the handler could not handle it; None when it did. Empty: the lease was lost, and it is no longer ours."""
        if delivery.attempt > self._settings.attempts + 1:
            return f"it was not finished in {delivery.attempt - 1} attempts: each time its process ended, or was silent for too long"
        handling = asyncio.ensure_future(self._handle(delivery.events))
        try:
            held = await self._hold(delivery, handling)
        finally:
            await _ended(handling)
        if not held:
            return ""
        if handling.cancelled() or not handling.done():
            return f"it was not handled within {self._settings.deadline_s:g} s"
        error = handling.exception()
        return None if error is None else f"{type(error).__name__}: {error}"

    async def _hold(self, delivery: Delivery, handling: asyncio.Future[None]) -> bool:
        """Keep the lease until the handler is through or its time is up. False when the lease is lost."""
        now = asyncio.get_running_loop().time
        until = now() + self._settings.deadline_s
        while (left := until - now()) > 0:
            await asyncio.wait({handling}, timeout=min(left, self._settings.lease_s / 3))
            if handling.done():
                return True
            try:
                if now() < until and await self._bus.extend(delivery, self._settings.lease_s) is None:
                    return False
            except FarthingError as error:
                _log.debug("a lease of %s was not renewed: %s", self._name, error)
        return True

    async def _give_back(self, delivery: Delivery, error: str) -> None:
        """Again later, or never."""
        self.failed += 1
        last = delivery.attempt >= self._settings.attempts
        said = error.replace("\x00", "")[:_LONGEST_ERROR]
        await self._bus.failed(delivery, said, None if last else self._clock() + timedelta(seconds=self._pause(delivery.attempt)))
        if not last:
            _log.info("events for %s failed at attempt %d and are tried again: %s", self._name, delivery.attempt, said)
        elif len(delivery.events) == 1:
            self.died += 1
            _log.error("an event for %s is a dead letter after %d attempts: %s", self._name, delivery.attempt, said)

    def _pause(self, attempt: int) -> float:
        """Seconds before the next attempt: about twice as many each time, and not the same for all."""
        settings = self._settings
        return min(settings.max_backoff_s, settings.backoff_s * 2.0 ** min(attempt - 1, 30)) * self._rng.uniform(0.5, 1)

    async def _let_go(self, delivery: Delivery) -> None:
        """Another process may have it at once."""
        try:
            async with asyncio.timeout(_TO_CANCEL_S):
                await self._bus.failed(delivery, _ENDED, self._clock())
        except (FarthingError, TimeoutError) as error:
            _log.debug("a delivery for %s waits until its lease ends: %s", self._name, error)


async def _ended(handling: asyncio.Future[None]) -> None:
    """See that a handler ends, one that does not let itself be cancelled soon excepted."""
    if not handling.done():
        handling.cancel()
        await asyncio.wait({handling}, timeout=_TO_CANCEL_S)
