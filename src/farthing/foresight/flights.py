"""Answers that are being made in this process: whoever wants the same one waits for it, be it a click or what foresees clicks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from farthing.types import Lifeline

Place = tuple[str, str, str]
"""Tenant, user, action."""


class _Flight:
    def __init__(self, lifeline: Lifeline) -> None:
        self.lifeline = lifeline
        self.landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Flights:
    """By place. What comes of one is in the store: who waited for it looks there, so that nothing is handed on that is stale by then."""

    def __init__(self) -> None:
        self._flights: dict[Place, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, place: Place) -> bool:
        return place in self._flights

    def begin(self, place: Place, lifeline: Lifeline) -> None:
        """The answer is being made. While others wait for it, a client that goes away does not end it."""
        self._flights[place] = _Flight(lifeline)

    def end(self, place: Place) -> None:
        """It is there, or will not be. A no-op the second time."""
        flight = self._flights.pop(place, None)
        if flight is not None and not flight.landed.done():
            flight.landed.set_result(None)

    @contextmanager
    def making(self, place: Place) -> Iterator[None]:
        """Around the making of an answer that nobody waits for."""
        self.begin(place, Lifeline(None))
        try:
            yield
        finally:
            self.end(place)

    async def wait(self, place: Place, timeout_s: float) -> bool:
        """Wait for it. False: nobody makes it, or it took too long."""
        flight = self._flights.get(place)
        if flight is None:
            return False
        flight.lifeline.hold()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(flight.landed)
        except TimeoutError:
            return False
        finally:
            flight.lifeline.release()
        return True
