"""What reading facts out of events remembers, in dictionaries, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

from farthing.types import Allowance, Event, Sighting, event_digest, utc_now

_ERASURES_KEPT = timedelta(days=7)
_ALL = ""


class _Erasures:
    """Who was forgotten, and when."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._at: dict[tuple[str, str | None], datetime] = {}

    def note(self, tenant: str, user_id: str | None) -> None:
        oldest = self._clock() - _ERASURES_KEPT
        self._at = {place: at for place, at in self._at.items() if at >= oldest} | {(tenant, user_id): self._clock()}

    def cover(self, tenant: str, user: str, arrived: datetime) -> bool:
        return any(at >= arrived for place in ((tenant, None), (tenant, user)) if (at := self._at.get(place)) is not None)


class InProcessSightings:
    """`ports.SightingStore`."""

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._erasures = _Erasures(clock)
        self._rows: dict[tuple[str, str, str, str], Sighting] = {}

    async def see(self, sighting: Sighting, *, within_s: float, most: int) -> list[Sighting]:
        """See `ports.SightingStore.see`."""
        if sighting.arrived <= self._clock() - _ERASURES_KEPT or self._erasures.cover(sighting.tenant, sighting.user, sighting.arrived):
            return []
        mine = self._rows.setdefault((sighting.tenant, sighting.user, sighting.rule, sighting.event), sighting)
        near = sorted((one for one in self._rows.values() if _alike(one, mine, within_s)), key=_order)
        at = near.index(mine)
        return near[max(0, at - most + 1) : at + most + 1]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.SightingStore.forget`."""
        if user_id == _ALL:
            return 0
        self._erasures.note(tenant, user_id)
        gone = [place for place in self._rows if place[0] == tenant and user_id in {None, place[1]}]
        for place in gone:
            del self._rows[place]
        return len(gone)

    async def prune(self, before: datetime, *, max_rows: int) -> int:
        """See `ports.SightingStore.prune`."""
        kept = sorted(((place, one) for place, one in self._rows.items() if one.at >= before), key=lambda row: row[1].at)
        gone = len(self._rows) - min(len(kept), max_rows)
        self._rows = dict(kept[-max_rows:])
        return gone


class InProcessReadings:
    """`ports.ReadingStore`."""

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._erasures = _Erasures(clock)
        self._read: dict[tuple[str, str, bytes], datetime] = {}
        self._spent: dict[tuple[str, date, str], tuple[int, int]] = {}

    async def unread(self, tenant: str, user: str, events: Sequence[Event]) -> list[Event]:
        """See `ports.ReadingStore.unread`."""
        return [one for one in events if (tenant, user, event_digest(one)) not in self._read]

    async def reserve(self, tenant: str, user: str, day: date, microusd: int, allowance: Allowance) -> bool:
        """See `ports.ReadingStore.reserve`."""
        own, all_ = self._spent.get((tenant, day, user), (0, 0)), self._spent.get((tenant, day, _ALL), (0, 0))
        fits = own[0] + microusd <= allowance.user_microusd and all_[0] + microusd <= allowance.tenant_microusd
        if user == _ALL or not fits or own[1] >= allowance.user_calls:
            return False
        self._spent[tenant, day, user] = own[0] + microusd, own[1] + 1
        self._spent[tenant, day, _ALL] = all_[0] + microusd, all_[1] + 1
        return True

    async def settle(self, tenant: str, user: str, day: date, *, reserved: int, spent: int) -> None:
        """See `ports.ReadingStore.settle`."""
        for one in (user, _ALL):
            held = self._spent.get((tenant, day, one))
            if held is not None:
                self._spent[tenant, day, one] = max(0, held[0] + spent - reserved), held[1]

    async def read(self, tenant: str, user: str, events: Sequence[Event]) -> None:
        """See `ports.ReadingStore.read`."""
        for one in events:
            if not self._erasures.cover(tenant, user, one.received_at):
                self._read.setdefault((tenant, user, event_digest(one)), self._clock())

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.ReadingStore.forget`."""
        if user_id == _ALL:
            return 0
        self._erasures.note(tenant, user_id)
        read = [place for place in self._read if place[0] == tenant and user_id in {None, place[1]}]
        spent = [place for place in self._spent if place[0] == tenant and user_id in {None, place[2]}]
        for place in read:
            del self._read[place]
        for day in spent:
            del self._spent[day]
        return len(read) + len(spent)

    async def prune(self, before: datetime) -> int:
        """See `ports.ReadingStore.prune`."""
        held = len(self._read) + len(self._spent)
        self._read = {place: at for place, at in self._read.items() if at >= before}
        self._spent = {place: spent for place, spent in self._spent.items() if place[1] >= before.date()}
        return held - len(self._read) - len(self._spent)


def _order(one: Sighting) -> tuple[datetime, str]:
    return one.at, one.event


def _alike(one: Sighting, other: Sighting, within_s: float) -> bool:
    same = (one.tenant, one.user, one.rule, one.group) == (other.tenant, other.user, other.rule, other.group)
    return same and abs((one.at - other.at).total_seconds()) <= within_s
