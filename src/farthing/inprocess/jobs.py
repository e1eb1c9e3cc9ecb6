"""Jobs in this process's memory, for tests and for who has no database."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any
from uuid import UUID

import msgspec

from farthing.errors import Conflict, NotFound
from farthing.inprocess.stores import InProcessChanges
from farthing.ports import Held
from farthing.types import (
    GIVEN_UP_AFTER,
    MOST_PAGE_BYTES,
    Ending,
    Item,
    ItemResult,
    ItemState,
    Json,
    Lease,
    NewItem,
    NewRun,
    Progress,
    Run,
    RunState,
    new_id,
    utc_now,
)

_OPEN = ("waiting", "running")
_DIED = "its worker went away in the last attempt"


class _Entry(msgspec.Struct, kw_only=True):
    """An item. `due` and `beat` are of the monotonic clock."""

    id: int
    position: int
    key: str
    payload: bytes
    at: datetime
    state: ItemState = "waiting"
    number: int = 0
    attempts: int = 0
    result: Any = None
    error: str | None = None
    due: float = 0.0
    beat: float = 0.0


class _Run(msgspec.Struct, kw_only=True):
    facts: Run
    entries: dict[str, _Entry] = {}

    @property
    def shown(self) -> Run:
        counts: dict[str, int] = {}
        for one in self.entries.values():
            counts[one.state] = counts.get(one.state, 0) + 1
        return msgspec.structs.replace(self.facts, progress=Progress(**counts))


class InProcessJobs:
    """`ports.JobStore`. `ticks` tells how time passes for leases and retries (seconds), `clock` what time it is."""

    def __init__(
        self,
        changes: InProcessChanges,
        *,
        lease_s: float,
        clock: Callable[[], datetime] = utc_now,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changes = changes
        self._lease_s = lease_s
        self._clock = clock
        self._ticks = ticks
        self._runs: dict[UUID, _Run] = {}
        self._entries: dict[int, tuple[_Run, _Entry]] = {}
        self._schedules: dict[str, tuple[str, datetime]] = {}
        self._last = 0

    async def start(self, run: NewRun) -> Run:
        """See `ports.JobStore.start`."""
        for known in self._runs.values():
            if (known.facts.tenant, known.facts.kind, known.facts.name) == (run.tenant, run.kind, run.name):
                return known.shown
        made = Run(id=new_id(), state="filling", created_at=self._clock(), **msgspec.structs.asdict(run))
        self._runs[made.id] = _Run(facts=made)
        return made

    async def add(self, run: UUID, items: Sequence[NewItem]) -> int:
        """See `ports.JobStore.add`."""
        found = self._of(run)
        if found.facts.state != "filling":
            raise Conflict(f"the run {run} takes no more items: it is {found.facts.state}")
        before = len(found.entries)
        for one in items:
            if one.key not in found.entries:
                self._last += 1
                encoded = msgspec.json.encode(one.payload)
                entry = _Entry(id=self._last, position=len(found.entries), key=one.key, payload=encoded, at=self._clock())
                found.entries[one.key] = entry
                self._entries[entry.id] = found, entry
        if len(found.entries) > before:
            self._changes.publish("jobs", found.facts.kind)
        return len(found.entries) - before

    async def seal(self, run: UUID) -> Run:
        """See `ports.JobStore.seal`."""
        found = self._of(run)
        if found.facts.state == "filling":
            found.facts = msgspec.structs.replace(found.facts, state="running")
        return found.shown

    async def claim(self, kinds: Sequence[str], *, most: int) -> list[Lease]:
        """See `ports.JobStore.claim`."""
        due = [pair for run in self._runs.values() if run.facts.kind in kinds for pair in self._due(run)]
        due.sort(key=lambda pair: (pair[1].position, pair[1].id))
        leases = [self._lease(run, entry) for run, entry in due[: max(most, 0)]]
        return [lease for lease in leases if lease is not None]

    def _due(self, run: _Run) -> list[tuple[_Run, _Entry]]:
        """Items of a run that may be leased now: as many as its width leaves, and those whose worker went away."""
        if run.facts.state not in ("filling", "running"):
            return []
        now = self._ticks()
        stale = [one for one in run.entries.values() if one.state == "running" and one.beat <= now - self._lease_s]
        taken = sum(1 for one in run.entries.values() if one.state == "running")
        waiting = [one for one in run.entries.values() if one.state == "waiting" and one.due <= now]
        return [(run, one) for one in [*stale, *waiting[: max(run.facts.wide - taken, 0)]]]

    def _lease(self, run: _Run, entry: _Entry) -> Lease | None:
        facts = run.facts
        entry.number += 1
        entry.at = self._clock()
        if entry.attempts >= facts.attempts:
            entry.state, entry.error = "failed", _DIED
            return None
        entry.state, entry.attempts, entry.beat = "running", entry.attempts + 1, self._ticks()
        payload: Json = msgspec.json.decode(entry.payload)
        item = Item(run=facts.id, kind=facts.kind, tenant=facts.tenant, key=entry.key, payload=payload, attempt=entry.attempts)
        return Lease(
            id=entry.id,
            number=entry.number,
            item=item,
            attempts=facts.attempts,
            deadline_s=facts.deadline_s,
            backoff_s=facts.backoff_s,
        )

    async def extend(self, leases: Sequence[Lease]) -> Mapping[int, Held]:
        """See `ports.JobStore.extend`."""
        held: dict[int, Held] = {}
        for lease in leases:
            found = self._held(lease)
            if found is not None:
                run, entry = found
                entry.beat = self._ticks()
                held[lease.id] = "cancelled" if run.facts.state == "cancelled" else "held"
        return held

    async def end(self, endings: Sequence[Ending]) -> set[int]:
        """See `ports.JobStore.end`."""
        held = [(one, found) for one in endings if (found := self._held(one.lease)) is not None]
        for one, (run, entry) in held:
            entry.at, entry.error = self._clock(), one.error
            entry.result = None if one.result is None else msgspec.json.decode(one.result)
            if one.state in ("done", "failed", "cancelled"):
                entry.state = one.state
                continue
            entry.attempts -= one.state == "released"
            entry.due = self._ticks() + one.delay_s
            entry.state = "cancelled" if run.facts.state == "cancelled" else "waiting"
        return {one.lease.id for one, _ in held}

    def _held(self, lease: Lease) -> tuple[_Run, _Entry] | None:
        found = self._entries.get(lease.id)
        return found if found is not None and found[1].state == "running" and found[1].number == lease.number else None

    async def cancel(self, run: UUID) -> Run:
        """See `ports.JobStore.cancel`."""
        found = self._of(run)
        if found.facts.state in ("filling", "running"):
            found.facts = msgspec.structs.replace(found.facts, state="cancelled")
            self._changes.publish("jobs", found.facts.kind)
        await self.settle()
        return found.shown

    async def settle(self) -> int:
        """See `ports.JobStore.settle`."""
        ended = 0
        for run in self._runs.values():
            facts = run.facts
            if facts.state == "filling" and facts.created_at < self._clock() - GIVEN_UP_AFTER:
                facts = msgspec.structs.replace(facts, state="cancelled")
            if facts.ended_at is not None or facts.state == "filling":
                continue
            if facts.state == "cancelled":
                self._drop(run)
            if all(one.state not in _OPEN for one in run.entries.values()):
                state: RunState = "done" if facts.state == "running" else facts.state
                facts = msgspec.structs.replace(facts, state=state, ended_at=self._clock())
                ended += 1
            run.facts = facts
        return ended

    def _drop(self, run: _Run) -> None:
        """Cancel what nobody works on."""
        for one in run.entries.values():
            if one.state == "waiting" or (one.state == "running" and one.beat <= self._ticks() - self._lease_s):
                one.state, one.at = "cancelled", self._clock()

    async def run(self, run: UUID) -> Run | None:
        """See `ports.JobStore.run`."""
        found = self._runs.get(run)
        return found.shown if found is not None else None

    async def runs(
        self, *, tenant: str | None = None, kind: str | None = None, state: RunState | None = None, limit: int, before: UUID | None = None
    ) -> list[Run]:
        """See `ports.JobStore.runs`."""
        wanted = [
            one
            for one in self._runs.values()
            if (tenant is None or one.facts.tenant == tenant)
            and (kind is None or one.facts.kind == kind)
            and (state is None or one.facts.state == state)
            and (before is None or one.facts.id < before)
        ]
        return [one.shown for one in sorted(wanted, key=lambda one: one.facts.id, reverse=True)[:limit]]

    async def results(self, run: UUID, *, state: ItemState | None = None, limit: int, after: int = -1) -> list[ItemResult]:
        """See `ports.JobStore.results`."""
        found = self._runs.get(run)
        entries = [] if found is None else [one for one in found.entries.values() if one.position > after]
        chosen = [one for one in entries if state is None or one.state == state][:limit]
        sizes = [0, *accumulate(len(msgspec.json.encode(one.result)) for one in chosen)]
        fields = ItemResult.__struct_fields__
        page = [one for one, before in zip(chosen, sizes, strict=False) if before < MOST_PAGE_BYTES]
        return [ItemResult(**{name: getattr(one, name) for name in fields}) for one in page]

    async def schedule(self, name: str, expression: str, first: datetime) -> datetime:
        """See `ports.JobStore.schedule`."""
        known = self._schedules.get(name)
        if known is None or known[0] != expression:
            self._schedules[name] = expression, first
        return self._schedules[name][1]

    async def fired(self, name: str, at: datetime, following: datetime) -> bool:
        """See `ports.JobStore.fired`."""
        known = self._schedules.get(name)
        if known is None or known[1] != at:
            return False
        self._schedules[name] = known[0], following
        return True

    async def forget(self, tenant: str) -> int:
        """See `ports.JobStore.forget`."""
        return self._delete([one for one in self._runs.values() if one.facts.tenant == tenant])

    async def prune(self, before: datetime, *, max_runs: int) -> int:
        """See `ports.JobStore.prune`."""
        ended = [(one.facts.ended_at, one) for one in self._runs.values() if one.facts.ended_at is not None]
        ended.sort(key=lambda pair: pair[0], reverse=True)
        return self._delete([one for at, (when, one) in enumerate(ended) if when < before or at >= max_runs])

    def _delete(self, runs: Sequence[_Run]) -> int:
        for run in runs:
            del self._runs[run.facts.id]
            for entry in run.entries.values():
                del self._entries[entry.id]
        return len(runs)

    def _of(self, run: UUID) -> _Run:
        found = self._runs.get(run)
        if found is None:
            raise NotFound(f"there is no run {run}", param="run")
        return found
