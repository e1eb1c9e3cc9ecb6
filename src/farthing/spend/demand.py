"""Who spends how much: what this worker saw and what others told, in rolling windows and as forecasts. No I/O; time comes from a clock.

Seeing costs a look into a dict: what was seen is counted when it is next looked at (`fold`), many times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from uuid import UUID

from farthing.spend.forecast import Constants, Flow
from farthing.spend.window import MOST_MICROUSD, Window
from farthing.types import Mode, SpendRow

_MOST_TIERS = 64
_MOST_UNTOLD = 500
_MOST_REQUESTS = 10**9
REST = "(rest)"
"""The tier of those that are too many to be followed apart."""

_Who = tuple[str, str | None, UUID | str | None, str | None]


class KeyFlow(Flow):
    """What a key asks. `tenant` and `tier` are those of its last request."""

    __slots__ = ("tenant", "tier")

    def __init__(self, priors: Sequence[float], constants: Constants, tier: Flow) -> None:
        super().__init__(priors, constants, tier.costs)
        self.tenant = ""
        self.tier = ""


class Demand:
    """`window` is what everybody spent, `tiers`, `keys` and `tenants` (with their tier) what they ask. `ignored`: rows not to be believed.

    Where requests are announced when they begin (`came`), `announced`, demand is counted then, and what is under way is known.

    `priors` is what a request is guessed to cost in each mode (micro-dollars), until some were seen. `tenants` are those to follow; of
    the keys, `max_keys` at most.
    """

    def __init__(
        self,
        ladder: Sequence[Mode],
        priors: Sequence[float],
        clock: Callable[[], float],
        *,
        window_s: float,
        tenants: Iterable[str] = (),
        max_keys: int = 1000,
        announced: bool = False,
    ) -> None:
        self._announced = announced
        self._constants = Constants.within(window_s)
        self._rungs: dict[str | None, int] = {rung.name: rung.rank for rung in ladder}
        self._priors = priors
        self._clock = clock
        self._max_keys = max_keys
        self._followed = list(tenants)
        self._now = clock()
        self._seen: dict[_Who, list[int]] = {}
        self._under_way: dict[tuple[str, int], int] = {}
        self._own_flow = Flow(priors, self._constants)
        self._coming: dict[_Who, int] = {}
        self._untold: dict[_Who, list[int]] = {}
        self._own = Window(window_s, self._followed, most=max_keys)
        self.window = Window(window_s, self._followed, most=max_keys)
        self.tiers: dict[str, Flow] = {}
        self.keys: dict[str, KeyFlow] = {}
        self.tenants: dict[tuple[str, str], Flow] = {}
        self.ignored = 0

    def came(self, tenant: str, tier: str | None, key: UUID | str | None, mode: str | None, requests: int = 1) -> None:
        """A request of this worker begins. When it has ended, say so (`ended`)."""
        who = (tenant, tier, key, mode)
        self._coming[who] = self._coming.get(who, 0) + requests
        place = (tier or "none", self._rungs.get(mode, 0))
        self._under_way[place] = self._under_way.get(place, 0) + requests

    def ended(self, tier: str | None, mode: str | None, requests: int = 1) -> None:
        """A request that had come is under way no more."""
        place = (tier or "none", self._rungs.get(mode, 0))
        self._under_way[place] = max(self._under_way.get(place, 0) - requests, 0)

    def saw(self, tenant: str, tier: str | None, key: UUID | str | None, mode: str | None, microusd: int, requests: int) -> None:
        """Count what a request of this worker was: `requests` 1 when it has ended, 0 when it goes on."""
        who = (tenant, tier, key, mode)
        seen = self._seen.get(who)
        if seen is None:
            seen = self._seen[who] = [0, 0, 0]
        if not 0 <= microusd <= MOST_MICROUSD:  # neither is NaN
            self.ignored += 1
            return
        seen[0] += microusd
        seen[1] += microusd * microusd if requests <= 1 else microusd * microusd // requests
        seen[2] += requests

    def heard(self, rows: Iterable[SpendRow]) -> None:
        """Count what other workers have spent just now. The time in the rows does not count: clocks differ."""
        now = self.fold()
        for row in rows:
            if self._believed(row):
                self._take(now, row)
                self.window.add(now, row.tenant, row.key_id, row.microusd)

    def reload(self, rows: Sequence[SpendRow], *, shift_s: float = 0.0) -> None:
        """Put what the ledger has of other workers in the place of what they told. `shift_s`: how far the ledger's clock is ahead.

        Where the clocks disagree, what was spent counts as spent later: so it counts for longer. The first time, the forecast learns
        from it, too.
        """
        now = self.fold()
        window = Window(self.window.window_s, self._followed, most=self._max_keys)
        window.take_in(self._own)
        learn = not self.tiers
        for row in sorted(rows, key=_time_of):
            if self._believed(row):
                at = min(max(row.at, row.at - shift_s), now)
                window.add(at, row.tenant, row.key_id, row.microusd)
                if learn:
                    self._take(at, row)
        window.advance(now)
        self.window = window

    def _believed(self, row: SpendRow) -> bool:
        good = 0 <= row.microusd <= MOST_MICROUSD and 0 <= row.requests <= _MOST_REQUESTS and row.at == row.at
        self.ignored += not good
        return good

    def fold(self) -> float:
        """Count what was seen since the last time. Returns the present on a clock that never goes back."""
        now = self._now = max(self._clock(), self._now)
        coming, self._coming = self._coming, {}
        for (tenant, tier, key_id, _), requests in coming.items():
            self._count(now, tenant, tier, None if key_id is None else str(key_id), requests)
            self._own_flow.came(now, requests)
        seen, self._seen = self._seen, {}
        for who, (microusd, squares, requests) in seen.items():
            tenant, tier, key_id, mode = who
            key = None if key_id is None else str(key_id)
            if not self._announced:
                self._count(now, tenant, tier, key, requests)
            for flow in self._flows(tenant, tier, key):
                flow.costs.saw(now, self._rungs.get(mode, 0), requests, microusd, squares)
            self._own.add(now, tenant, key, microusd)
            self.window.add(now, tenant, key, microusd)
            self._owe(who, microusd, requests)
        self._own.advance(now)
        self.window.advance(now)
        if len(self.keys) > self._max_keys:
            spare = len(self.keys) - self._max_keys * 9 // 10
            for name in nsmallest(spare, self.keys, key=lambda name: self.keys[name].requests_per_s(now)):
                del self.keys[name]
        return now

    def _take(self, now: float, row: SpendRow) -> None:
        """Learn from what another worker's requests were."""
        self._count(now, row.tenant, row.tier, row.key_id, row.requests)
        squares = row.microusd * row.microusd / max(row.requests, 1)
        for flow in self._flows(row.tenant, row.tier, row.key_id):
            flow.costs.saw(now, self._rungs.get(row.mode, 0), row.requests, row.microusd, squares)

    def _count(self, now: float, tenant: str, tier: str | None, key: str | None, requests: int) -> None:
        for flow in self._flows(tenant, tier, key):
            flow.came(now, requests)

    def _flows(self, tenant: str, tier: str | None, key: str | None) -> list[Flow]:
        """Everything that a caller counts for."""
        name = tier or "none"
        if name not in self.tiers and len(self.tiers) >= _MOST_TIERS:
            name = REST
        of_tier = self.tiers.get(name)
        if of_tier is None:
            of_tier = self.tiers[name] = Flow(self._priors, self._constants)
        flows = [of_tier]
        if tenant in self.window.tenants:
            part = self.tenants.get((tenant, name))
            if part is None:
                part = self.tenants[tenant, name] = Flow(self._priors, self._constants, of_tier.costs)
            flows.append(part)
        if key is not None:
            of_key = self.keys.get(key)
            if of_key is None:
                of_key = self.keys[key] = KeyFlow(self._priors, self._constants, of_tier)
            of_key.tenant, of_key.tier = tenant, name
            flows.append(of_key)
        return flows

    def under_way_microusd(self) -> int:
        """What requests under way will cost, of all workers: as many more as all have more requests than this one."""
        own = 0.0
        for (tier, rung), requests in self._under_way.items():
            flow = self.tiers.get(tier) or self.tiers.get(REST)
            own += requests * flow.costs.means()[rung] if flow and requests else 0.0
        demand = sum(flow.requests_per_s(self._now) for flow in self.tiers.values())
        mine = self._own_flow.requests_per_s(self._now)
        return round(own * (max(demand / mine, 1.0) if mine > 0 else 1.0))

    def _owe(self, who: _Who, microusd: int, requests: int) -> None:
        """Remember to tell others. When there are too many to tell apart, it is told without a name."""
        if who not in self._untold and len(self._untold) >= _MOST_UNTOLD:
            who = ("", who[1], None, who[3])
        owed = self._untold.setdefault(who, [0, 0])
        owed[0] += microusd
        owed[1] += requests

    def take_untold(self) -> list[SpendRow]:
        """What others have not been told yet. Give it back (`untell`) when they could not be."""
        now = self.fold()
        untold, self._untold = self._untold, {}
        return [
            SpendRow(
                at=now,
                tenant=tenant,
                tier=tier,
                key_id=None if key is None else str(key),
                mode=mode,
                microusd=microusd,
                requests=requests,
            )
            for (tenant, tier, key, mode), (microusd, requests) in untold.items()
        ]

    def untell(self, rows: Iterable[SpendRow]) -> None:
        """These could not be told; they will be, with the next ones."""
        for row in rows:
            self._owe((row.tenant, row.tier, row.key_id, row.mode), row.microusd, row.requests)


def _time_of(row: SpendRow) -> float:
    return row.at
