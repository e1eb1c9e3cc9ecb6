"""The stage that says how much may be done for a request, and what tells the demand of requests as they begin and end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from farthing.pipeline.stage import Next
from farthing.spend.demand import Demand
from farthing.types import ANSWER, DEEP, Answer, LedgerEntry, Mode, Principal, Request

_UNBILLED = frozenset({"notional", "none"})
_MOST_UNDER_WAY = 20_000


class ModeStage:
    """See `pipeline.stage.Stage`. `mode_of` looks into memory; `came` is told of each request. Neither waits."""

    def __init__(self, mode_of: Callable[[Principal], Mode], came: Callable[[Request], None] | None) -> None:
        self._mode_of = mode_of
        self._came = came

    def __call__(self, request: Request, following: Next) -> Awaitable[Answer]:
        """Set the request's mode. Not a coroutine of its own: there is nothing to wait for."""
        request.mode = self._mode_of(request.principal)
        if self._came is not None:
            self._came(request)
        return following(request)


class SpendWatch:
    """Tells `demand` what requests begin and what they cost (`spend.meter.Observer`). What nobody bills costs nothing."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._under_way: dict[UUID, tuple[str, str | None]] = {}

    def came(self, request: Request) -> None:
        """A request begins."""
        who = request.principal
        mode = _name(request.mode)
        if len(self._under_way) >= _MOST_UNDER_WAY:
            self._demand.ended(*self._under_way.pop(next(iter(self._under_way))))
        self._under_way[request.id] = who.tier, mode
        self._demand.came(who.tenant, who.tier, who.key_id, mode)

    def observe(self, entry: LedgerEntry, request: Request) -> None:
        """A request was settled, or a part of it was."""
        if entry.key_id is None:
            return
        ended = entry.purpose == ANSWER and entry.final and (place := self._under_way.pop(request.id, None)) is not None
        if ended:
            assert place is not None
            self._demand.ended(*place)
        cost = 0 if entry.price_source in _UNBILLED else entry.cost_microusd
        if ended or cost:
            self._demand.saw(entry.tenant, entry.tier, entry.key_id, entry.mode, cost, int(ended))


def _name(mode: Mode) -> str | None:
    """As the ledger has it."""
    return None if mode is DEEP else mode.name
