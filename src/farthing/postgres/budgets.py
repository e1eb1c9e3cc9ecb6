"""Budgets in PostgreSQL. What is spent of them is counted by the ledger's own statement (`ledger_sql.APPEND`), in its transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from psycopg.rows import TupleRow

from farthing.budgets import Ask, Budget, BudgetUse, LeaseState, Window, budget_event, budget_gone
from farthing.errors import InvalidRequest
from farthing.postgres.budgets_sql import ALL, COUNT_SPENT, DELETE, LEASE, LOCK, OLDER_THAN, PRUNE, PUT, RELEASE, USES
from farthing.postgres.connection import Connection
from farthing.postgres.events_storing import Append, append
from farthing.postgres.pool import Database
from farthing.types import utc_now, uuid7_at

_STRAGGLERS_S = 2.0


class PostgresBudgets:
    """`ports.BudgetStore` on `farthing.budgets`, `budget_spend` and `budget_leases`.

    Changes are told on the channel `budgets`, and to the bus (`append`), in the same transaction.
    """

    def __init__(self, database: Database, *, append: Append | None = append, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._append = append
        self._clock = clock

    async def all(self, limit: int) -> list[Budget]:
        """See `ports.BudgetStore.all`."""
        async with self._database.service() as connection:
            rows = await (await connection.execute(ALL, (limit,))).fetchall()
        return [_budget(row) for row in rows]

    async def put(self, budget: Budget) -> None:
        """See `ports.BudgetStore.put`."""
        async with self._database.service() as connection:
            written_by = await _put(connection, budget)
            if self._append is not None:
                await self._append(connection, [budget_event(budget, self._clock())])
        if written_by is not None:
            await self._count_spent(budget, written_by)

    async def _count_spent(self, budget: Budget, written_by: int) -> None:
        """Count what the ledger holds already. Appends from before the budget was there do not know of it: let them end first."""
        async with asyncio.timeout(_STRAGGLERS_S):
            while True:
                async with self._database.service() as connection:
                    row = await (await connection.execute(OLDER_THAN, (written_by,))).fetchone()
                if row is None or not row[0]:
                    break
                await asyncio.sleep(0.02)
        since = budget.window.since(budget.created_at)
        first = uuid7_at(max(0, int(since.timestamp() * 1000)), bytes(10))
        async with self._database.service() as connection:
            await connection.execute(LOCK, ([budget.id],))
            await connection.execute(COUNT_SPENT, {"id": budget.id, "first": first})

    async def delete(self, budget_id: UUID) -> bool:
        """See `ports.BudgetStore.delete`."""
        async with self._database.service() as connection:
            return await self._delete(connection, [budget_id])

    async def _delete(self, connection: Connection, ids: Sequence[UUID]) -> bool:
        gone = await (await connection.execute(DELETE, {"ids": ids})).fetchall()
        if self._append is not None:
            now = self._clock()
            await self._append(connection, [budget_gone(found, tenant, now) for _, found, tenant in gone])
        return bool(gone)

    async def sync_settings(self, budgets: Sequence[Budget]) -> None:
        """See `ports.BudgetStore.sync_settings`."""
        known = {budget.id: budget for budget in await self.all(1_000_000) if budget.origin == "settings"}
        wanted = {budget.id: budget for budget in budgets}
        gone = [budget_id for budget_id in known if budget_id not in wanted]
        if gone:
            async with self._database.service() as connection:
                await self._delete(connection, gone)
        for budget_id, budget in wanted.items():
            old = known.get(budget_id)
            if old is None or (old.limit_microusd, old.hard) != (budget.limit_microusd, budget.hard):
                await self.put(budget)

    async def uses(self, budgets: Sequence[Budget], at: datetime) -> list[BudgetUse]:
        """See `ports.BudgetStore.uses`."""
        values = ([b.id for b in budgets], [b.window.since(at) for b in budgets], [b.window.start(at) for b in budgets])
        async with self._database.service() as connection:
            rows = await (await connection.execute(USES, values)).fetchall()
        found = {row[0]: row for row in rows}
        return [
            BudgetUse(budget=budget, spent_microusd=int(found[budget.id][1]), held_microusd=int(found[budget.id][2]))
            for budget in budgets
            if budget.id in found
        ]

    async def lease(self, worker: str, asks: Sequence[Ask], ttl_s: float) -> list[LeaseState]:
        """See `ports.BudgetStore.lease`. Budgets are locked in the order of their ids, so that workers wait in one direction only."""
        ids = sorted(ask.budget_id for ask in asks)
        values = {
            "worker": worker,
            "ttl": ttl_s,
            "ids": [ask.budget_id for ask in asks],
            "starts": [ask.window_start for ask in asks],
            "since": [ask.since for ask in asks],
            "changes": [ask.change for ask in asks],
            "least": [ask.least for ask in asks],
            "spare": [ask.spare for ask in asks],
            "rest": [ask.rest for ask in asks],
        }
        async with self._database.service() as connection:
            await connection.execute(LOCK, (ids,))
            rows = await (await connection.execute(LEASE, values)).fetchall()
        return [
            LeaseState(
                budget_id=row[0],
                limit_microusd=row[1],
                granted=row[2],
                spent=int(row[3]),
                others=int(row[4]),
                unsettled=row[5],
                fresh=row[6],
            )
            for row in rows
        ]

    async def release(self, worker: str) -> None:
        """See `ports.BudgetStore.release`."""
        async with self._database.service() as connection:
            await connection.execute(RELEASE, (worker,))

    async def prune(self) -> None:
        """See `ports.BudgetStore.prune`."""
        async with self._database.service() as connection:
            await connection.execute(PRUNE)


async def _put(connection: Connection, budget: Budget) -> int | None:
    """Store it. The number of our transaction when it is new, None when it was there."""
    values = {
        "id": budget.id,
        "scope": budget.scope,
        "subject": budget.subject,
        "tenant": budget.tenant,
        "limit": budget.limit_microusd,
        "kind": budget.window.kind,
        "seconds": budget.window.seconds,
        "hard": budget.hard,
        "origin": budget.origin,
        "created_at": budget.created_at,
    }
    row = await (await connection.execute(PUT, values)).fetchone()
    if row is None:
        raise InvalidRequest(f"There is a budget {budget.id} of another scope, subject or window.")
    return int(row[1]) if row[0] else None


def _budget(row: TupleRow) -> Budget:
    budget_id, scope, subject, tenant, limit, kind, seconds, hard, origin, created_at = row
    return Budget(
        id=budget_id,
        scope=scope,
        subject=subject,
        tenant=tenant,
        limit_microusd=limit,
        window=Window(kind=kind, seconds=seconds),
        hard=hard,
        origin=origin,
        created_at=created_at,
    )
