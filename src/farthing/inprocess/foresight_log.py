"""What became of answers that were computed ahead, in the memory of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

import msgspec

from farthing.inprocess.states import InProcessStates
from farthing.ports import LATE_CLICKS
from farthing.types import ActionCounts, Click, Foreseen, WasteReport, time_of, utc_now

_WEEK = timedelta(days=7)
_NUMBERS = tuple(name for name in ActionCounts.__struct_fields__ if name not in {"action", "segment"})


class InProcessForesightLog:
    """`ports.ForesightLog`. Keeps `max_rows` answers that have not ended; beyond it the oldest are not counted any more."""

    def __init__(self, states: InProcessStates, *, max_rows: int = 100_000, clock: Callable[[], datetime] = utc_now) -> None:
        self._states = states
        self._max_rows = max_rows
        self._clock = clock
        self._foreseen: dict[tuple[str, UUID], Foreseen] = {}
        self._read: set[tuple[str, UUID]] = set()
        self._counts: dict[tuple[str, str, date, str], dict[str, int]] = {}
        self._reports: dict[tuple[date, str], WasteReport] = {}
        self._erasures: dict[tuple[str, str | None], datetime] = {}

    async def add(self, foreseen: Sequence[Foreseen], clicks: Sequence[Click]) -> None:
        """See `ports.ForesightLog.add`."""
        made = {(one.tenant, one.request_id): one for one in foreseen if not self._erased(one.tenant, one.user, time_of(one.request_id))}
        new = [one for place, one in made.items() if place not in self._foreseen]
        for one in new:
            self._foreseen[one.tenant, one.request_id] = one
            spent = {"tokens_in": one.tokens_in, "tokens_out": one.tokens_out, "spent_microusd": one.cost_microusd}
            self._count(one.tenant, one.made_at, one.action, one.segment, computed=1, **spent)
        for click in clicks:
            if not self._erased(click.tenant, click.user, click.at):
                self._click(click)
        for one in new:
            self._replace(one)
        for place in list(self._foreseen)[: max(len(self._foreseen) - self._max_rows, 0)]:
            del self._foreseen[place]
            self._read.discard(place)

    def _replace(self, new: Foreseen) -> None:
        now = self._clock()
        for place, old in self._foreseen.items():
            same = (old.tenant, old.user, old.action) == (new.tenant, new.user, new.action)
            if same and old.made_at < new.made_at and old.expires_at > now:
                self._foreseen[place] = msgspec.structs.replace(old, expires_at=now)

    def _click(self, click: Click) -> None:
        place = None if click.request_id is None else (click.tenant, click.request_id)
        known = self._foreseen.get(place) if place is not None else None
        first = known is not None and place not in self._read
        if place is not None and first:
            self._read.add(place)
        numbers = {"read": int(first), "served": int(place is not None), "live": int(place is None), "saved_microusd": click.saved_microusd}
        self._count(click.tenant, click.at, click.action, known.segment if known else "", **numbers)

    async def settle(self) -> int:
        """See `ports.ForesightLog.settle`."""
        ended = self._clock() - LATE_CLICKS
        return self._end(place for place, one in self._foreseen.items() if one.expires_at <= ended)

    def _end(self, places: Iterable[tuple[str, UUID]]) -> int:
        gone = list(places)
        for place in gone:
            one = self._foreseen.pop(place)
            if place not in self._read:
                stale = self._states.versions(one.tenant, list(one.versions)) != one.versions
                self._count(one.tenant, self._clock(), one.action, one.segment, stale=int(stale), expired=int(not stale))
            self._read.discard(place)
        return len(gone)

    async def learned(self, tenant: str, actions: Sequence[str], *, half_life_days: float) -> list[ActionCounts]:
        """See `ports.ForesightLog.learned`."""
        today = self._clock().date()
        sums: dict[tuple[str, str], dict[str, float]] = {}
        for (owner, action, day, segment), numbers in self._counts.items():
            if owner == tenant and action in actions:
                weight = 0.5 ** (max((today - day).days, 0) / half_life_days)
                held = sums.setdefault((action, segment), dict.fromkeys(_NUMBERS, 0.0))
                for name in _NUMBERS:
                    held[name] += numbers[name] * weight
        return [ActionCounts(action=action, segment=segment, **numbers) for (action, segment), numbers in sorted(sums.items())]

    async def week(self, tenant: str | None, monday: date) -> list[WasteReport]:
        """See `ports.ForesightLog.week`."""
        stored = {owner: one for (week, owner), one in self._reports.items() if week == monday and tenant in {None, owner}}
        counted = {owner for owner, _, day, _ in self._counts if monday <= day < monday + _WEEK and tenant in {None, owner}}
        found = {**{owner: self._report(owner, monday) for owner in counted}, **stored}
        return [found[owner] for owner in sorted(found)]

    def _report(self, tenant: str, monday: date) -> WasteReport:
        sums: dict[tuple[str, str], dict[str, float]] = {}
        for (owner, action, day, segment), numbers in self._counts.items():
            if owner == tenant and monday <= day < monday + _WEEK:
                held = sums.setdefault((action, segment), dict.fromkeys(_NUMBERS, 0))
                for name in _NUMBERS:
                    held[name] += numbers[name]
        rows = [ActionCounts(action=action, segment=segment, **numbers) for (action, segment), numbers in sorted(sums.items())]
        return WasteReport(tenant=tenant, week=monday, rows=tuple(rows), made_at=self._clock())

    async def store_week(self, monday: date) -> int:
        """See `ports.ForesightLog.store_week`."""
        counted = {owner for owner, _, day, _ in self._counts if monday <= day < monday + _WEEK}
        for owner in counted:
            self._reports[monday, owner] = self._report(owner, monday)
        return len(counted)

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.ForesightLog.forget`."""
        if user_id == "":
            return 0
        self._erasures[tenant, user_id] = self._clock()
        mine = [place for place, one in self._foreseen.items() if one.tenant == tenant and user_id in {None, one.user}]
        for place in mine:
            del self._foreseen[place]
            self._read.discard(place)
        if user_id is not None:
            return len(mine)
        before = len(self._counts) + len(self._reports)
        self._counts = {place: numbers for place, numbers in self._counts.items() if place[0] != tenant}
        self._reports = {place: one for place, one in self._reports.items() if place[1] != tenant}
        return len(mine) + before - len(self._counts) - len(self._reports)

    async def prune(self, before: date) -> int:
        """See `ports.ForesightLog.prune`."""
        held = len(self._counts) + len(self._reports)
        self._counts = {place: numbers for place, numbers in self._counts.items() if place[2] >= before}
        self._reports = {place: one for place, one in self._reports.items() if place[0] >= before}
        return held - len(self._counts) - len(self._reports)

    def _count(self, tenant: str, at: datetime, action: str, segment: str, **numbers: int) -> None:
        held = self._counts.setdefault((tenant, action, at.date(), segment), dict.fromkeys(_NUMBERS, 0))
        for name, number in numbers.items():
            held[name] += number

    def _erased(self, tenant: str, user: str, begun: datetime) -> bool:
        ends = (self._erasures.get((tenant, who)) for who in (None, user))
        return any(end is not None and end >= begun for end in ends)
