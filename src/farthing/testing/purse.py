"""A purse for tests of what is not about money: it lets everybody spend, and remembers what was kept and what became of it."""

from __future__ import annotations

from farthing.errors import FarthingError
from farthing.types import Price, Request, Usage


class OpenPurse:
    """`ports.Purse`. `refusals` maps upstream models to the error that their reservation raises."""

    def __init__(self, refusals: dict[str, FarthingError] | None = None) -> None:
        self.refusals = refusals or {}
        self.reserved: list[str] = []
        self.settled: list[tuple[str, Usage, int]] = []

    async def reserve(self, request: Request, upstream_model: str, price: Price) -> OpenReservation:
        """See `ports.Purse.reserve`."""
        del request, price
        if upstream_model in self.refusals:
            raise self.refusals[upstream_model]
        self.reserved.append(upstream_model)
        return OpenReservation(self, upstream_model)


class OpenReservation:
    """`ports.Reservation`. Settling twice is an error of the caller."""

    def __init__(self, purse: OpenPurse, upstream_model: str) -> None:
        self._purse = purse
        self._model = upstream_model
        self._settled = False

    def settle(self, usage: Usage, cost_microusd: int) -> None:
        """See `ports.Reservation.settle`."""
        assert not self._settled, "a reservation is settled once"
        self._settled = True
        self._purse.settled.append((self._model, usage, cost_microusd))
