"""Jobs in PostgreSQL: what is to be done and what came of it in tables of ours, whose turn it is in pgqueuer's queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from random import random
from typing import Any
from uuid import UUID, uuid4

import msgspec
from psycopg.rows import TupleRow

from farthing.errors import Conflict, NotFound
from farthing.ports import Held
from farthing.postgres import jobs_sql as sql
from farthing.postgres.connection import Connection
from farthing.postgres.jobs_queue import JobQueue, LostRace
from farthing.postgres.pool import Database
from farthing.types import (
    GIVEN_UP_AFTER,
    MOST_PAGE_BYTES,
    Ending,
    Item,
    ItemResult,
    ItemState,
    Lease,
    NewItem,
    NewRun,
    Progress,
    Run,
    RunState,
    new_id,
    utc_now,
)

_MOST_RUNS = 500
"""That are looked at for items; others wait until these have ended."""
_STATES = {"retry": "waiting", "released": "waiting"}
_TRIES = 5
_PAUSE_S = 0.02
"""Several workers that look at the same time want the same places; one of them gets them."""
_DIED = "its worker went away in the last attempt"


class PostgresJobs:
    """`ports.JobStore` on `farthing.runs`, `farthing.items` and `farthing.pgqueuer`. Leases run by the database's clock."""

    def __init__(
        self, database: Database, *, lease_s: float, clock: Callable[[], datetime] = utc_now, random: Callable[[], float] = random
    ) -> None:
        self._database = database
        self._lease_s = lease_s
        self._clock = clock
        self._random = random
        self._queue = JobQueue(uuid4(), lease_s)

    async def start(self, run: NewRun) -> Run:
        """See `ports.JobStore.start`."""
        values = {**msgspec.structs.asdict(run), "id": new_id(), "now": self._clock()}
        async with self._database.service() as connection:
            await connection.execute(sql.START, values)
            row = await (await connection.execute(sql.NAMED, values)).fetchone()
            assert row is not None
            return await _shown(connection, row[0])

    async def add(self, run: UUID, items: Sequence[NewItem]) -> int:
        """See `ports.JobStore.add`."""
        async with self._database.service() as connection:
            state, added, tenant, kind = await _locked(connection, run)
            if state != "filling":
                raise Conflict(f"the run {run} takes no more items: it is {state}")
            given = {
                "run": run,
                "tenant": tenant,
                "added": added,
                "keys": [one.key for one in items],
                "payloads": [_text(one.payload) for one in items],
                "now": self._clock(),
            }
            rows = await (await connection.execute(sql.ADD, given)).fetchall()
            if rows:
                await self._queue.put(connection, run, [item for item, _ in rows], [-position for _, position in rows])
                await connection.execute(sql.ADDED, {"run": run, "more": len(items)})
                await connection.execute(sql.NOTIFY, (kind,))
        return len(rows)

    async def seal(self, run: UUID) -> Run:
        """See `ports.JobStore.seal`."""
        async with self._database.service() as connection:
            await _locked(connection, run)
            await connection.execute(sql.SEAL, {"run": run})
            return await _shown(connection, run)

    async def claim(self, kinds: Sequence[str], *, most: int) -> list[Lease]:
        """See `ports.JobStore.claim`."""
        if most < 1:
            return []
        for tries in range(_TRIES):
            try:
                async with self._database.service() as connection:
                    return await self._claim(connection, kinds, most)
            except LostRace:
                await asyncio.sleep(self._random() * _PAUSE_S * (tries + 1))
        return []

    async def _claim(self, connection: Connection, kinds: Sequence[str], most: int) -> list[Lease]:
        rows = await (await connection.execute(sql.OPEN, {"kinds": list(kinds), "most": _MOST_RUNS})).fetchall()
        if not rows:
            return []
        runs = {row[0]: row[1:] for row in rows}
        entries = await self._queue.take(connection, {run: facts[2] for run, facts in runs.items()}, most)
        if not entries:
            return []
        leased = await (await connection.execute(sql.LEASE, {"items": list(entries), "now": self._clock()})).fetchall()
        leases = [_lease(row, runs[row[1]], entries[row[0]]) for row in leased]
        known = {lease.id for lease in leases}
        await self._queue.take_out(connection, [entry for item, entry in entries.items() if item not in known], well=False)
        dead = [Ending(lease=one, state="failed", error=_DIED) for one in leases if one.item.attempt > one.attempts]
        if dead:
            await self._end(connection, dead, uncounted=1)
        return [one for one in leases if one.item.attempt <= one.attempts]

    async def extend(self, leases: Sequence[Lease]) -> Mapping[int, Held]:
        """See `ports.JobStore.extend`."""
        values = {
            "entries": [one.token for one in leases],
            "items": [one.id for one in leases],
            "leases": [one.number for one in leases],
        }
        async with self._database.service() as connection:
            rows = await (await connection.execute(sql.EXTEND, values)).fetchall()
        return {item: "cancelled" if cancelled else "held" for item, cancelled in rows}

    async def end(self, endings: Sequence[Ending]) -> set[int]:
        """See `ports.JobStore.end`."""
        async with self._database.service() as connection:
            return await self._end(connection, endings)

    async def _end(self, connection: Connection, endings: Sequence[Ending], *, uncounted: int = 0) -> set[int]:
        ordered = sorted(endings, key=lambda one: one.lease.id)  # in one order everywhere, or two writers may wait for each other
        values = {
            "items": [one.lease.id for one in ordered],
            "leases": [one.lease.number for one in ordered],
            "states": [_STATES.get(one.state, one.state) for one in ordered],
            "uncounted": [1 if one.state == "released" else uncounted for one in ordered],
            "results": [None if one.result is None else one.result.decode() for one in ordered],
            "errors": [None if one.error is None else one.error.replace("\0", "\ufffd") for one in ordered],
            "now": self._clock(),
        }
        await connection.execute(sql.LOCK_ENTRIES, ([one.lease.token for one in ordered],))
        states: dict[int, str] = dict(await (await connection.execute(sql.END, values)).fetchall())
        by_state: dict[str, list[Ending]] = {}
        for one in ordered:
            if one.lease.id in states:
                by_state.setdefault(states[one.lease.id], []).append(one)
        again = by_state.pop("waiting", [])
        await self._queue.put_back(connection, {one.lease.token: one.delay_s for one in again})
        for state, some in by_state.items():
            await self._queue.take_out(connection, [one.lease.token for one in some], well=state == "done")
        return set(states)

    async def cancel(self, run: UUID) -> Run:
        """See `ports.JobStore.cancel`."""
        async with self._database.service() as connection:
            _, _, _, kind = await _locked(connection, run)
            await connection.execute(sql.CANCEL, {"run": run})
            await connection.execute(sql.NOTIFY, (kind,))
        await self.settle()
        async with self._database.service() as connection:
            return await _shown(connection, run)

    async def settle(self) -> int:
        """See `ports.JobStore.settle`."""
        async with self._database.service() as connection:
            if await (await connection.execute(sql.ANY_OPEN)).fetchone() is None:
                return 0
            await connection.execute(sql.GIVE_UP, {"before": self._clock() - GIVEN_UP_AFTER})
        await self._database.repeat(sql.DROP, {"lease_s": self._lease_s, "now": self._clock()})
        async with self._database.service() as connection:
            return (await connection.execute(sql.FINISH, {"now": self._clock()})).rowcount

    async def run(self, run: UUID) -> Run | None:
        """See `ports.JobStore.run`."""
        async with self._database.service() as connection:
            row = await (await connection.execute(sql.OF, {"run": run})).fetchone()
        return _run(row) if row is not None else None

    async def runs(
        self, *, tenant: str | None = None, kind: str | None = None, state: RunState | None = None, limit: int, before: UUID | None = None
    ) -> list[Run]:
        """See `ports.JobStore.runs`."""
        values = {"tenant": tenant, "kind": kind, "state": state, "limit": limit, "before": before}
        async with self._database.service() as connection:
            rows = await (await connection.execute(sql.LIST, values)).fetchall()
        return [_run(row) for row in rows]

    async def results(self, run: UUID, *, state: ItemState | None = None, limit: int, after: int = -1) -> list[ItemResult]:
        """See `ports.JobStore.results`."""
        values = {"run": run, "state": state, "limit": limit, "after": after, "bytes": MOST_PAGE_BYTES}
        async with self._database.service() as connection:
            rows = await (await connection.execute(sql.RESULTS, values)).fetchall()
        return [ItemResult(**dict(zip(ItemResult.__struct_fields__, row, strict=True))) for row in rows]

    async def schedule(self, name: str, expression: str, first: datetime) -> datetime:
        """See `ports.JobStore.schedule`."""
        async with self._database.service() as connection:
            row = await (await connection.execute(sql.SCHEDULE, {"name": name, "expression": expression, "first": first})).fetchone()
        assert row is not None
        at: datetime = row[0]
        return at

    async def fired(self, name: str, at: datetime, following: datetime) -> bool:
        """See `ports.JobStore.fired`."""
        async with self._database.service() as connection:
            return (await connection.execute(sql.FIRED, {"name": name, "at": at, "following": following})).rowcount == 1

    async def forget(self, tenant: str) -> int:
        """See `ports.JobStore.forget`."""
        async with self._database.service() as connection:
            await connection.execute("UPDATE farthing.runs SET state = 'cancelled' WHERE tenant = %s AND ended_at IS NULL", (tenant,))
        await self._database.repeat(sql.STRAY_ENTRIES, {"tenant": tenant})
        return [await self._database.repeat(statement, {"tenant": tenant}) for statement in sql.FORGET][-1]

    async def prune(self, before: datetime, *, max_runs: int) -> int:
        """See `ports.JobStore.prune`. Empties pgqueuer's log too."""
        gone = [await self._database.repeat(statement, {"before": before, "keep": max_runs}) for statement in sql.PRUNE][-1]
        async with self._database.service() as connection:
            row = await (await connection.execute(sql.LAST_LOGGED)).fetchone()
        await self._database.repeat(sql.LOG, {"last": row[0] if row else 0})
        return gone


async def _locked(connection: Connection, run: UUID) -> TupleRow:
    row = await (await connection.execute(sql.LOCKED, {"run": run})).fetchone()
    if row is None:
        raise NotFound(f"there is no run {run}", param="run")
    return row


async def _shown(connection: Connection, run: UUID) -> Run:
    row = await (await connection.execute(sql.OF, {"run": run})).fetchone()
    assert row is not None  # it is locked, or has just been made
    return _run(row)


def _run(row: TupleRow) -> Run:
    facts = dict(zip(sql.RUN, row, strict=False))
    return Run(**facts, progress=Progress(**dict(zip(sql.COUNTED, row[len(sql.RUN) :], strict=True))))


def _lease(row: TupleRow, facts: Sequence[Any], entry: int) -> Lease:
    item, run, key, payload, attempt, number = row
    kind, tenant, _, attempts, deadline_s, backoff_s = facts
    return Lease(
        id=item,
        number=number,
        item=Item(run=run, kind=kind, tenant=tenant, key=key, payload=payload, attempt=attempt),
        attempts=attempts,
        deadline_s=deadline_s,
        backoff_s=backoff_s,
        token=entry,
    )


def _text(payload: Mapping[str, Any]) -> str:
    return msgspec.json.encode(payload).decode()
