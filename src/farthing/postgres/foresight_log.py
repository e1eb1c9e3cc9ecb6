"""What became of answers that were computed ahead, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime

import msgspec

from farthing.ports import LATE_CLICKS
from farthing.postgres import foresight_sql as sql
from farthing.postgres.erasures import UNTIL_WRITTEN, erase
from farthing.postgres.pool import Database
from farthing.types import ActionCounts, Click, Foreseen, WasteReport, time_of, utc_now

_MOST_TENANTS = 10_000
_encode = msgspec.json.Encoder().encode


class PostgresForesightLog:
    """`ports.ForesightLog` on `farthing.foreseen`, `farthing.foresight_counts` and `farthing.foresight_reports`."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def add(self, foreseen: Sequence[Foreseen], clicks: Sequence[Click]) -> None:
        """See `ports.ForesightLog.add`."""
        made = list({(one.tenant, one.request_id): one for one in foreseen}.values())
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            if made:
                await connection.execute(sql.ADD.encode(), _values(made))
            if clicks:
                await connection.execute(
                    sql.CLICKED.encode(),
                    {
                        "requests": [one.request_id for one in clicks],
                        "tenants": [one.tenant for one in clicks],
                        "users": [one.user for one in clicks],
                        "actions": [one.action for one in clicks],
                        "saved": [one.saved_microusd for one in clicks],
                        "ats": [one.at for one in clicks],
                    },
                )
            if made:
                await connection.execute(sql.REPLACED.encode(), {**_values(made), "now": self._clock()})

    async def settle(self) -> int:
        """See `ports.ForesightLog.settle`."""
        return await self._database.repeat(sql.SETTLE, {"now": self._clock(), "late": LATE_CLICKS}, alone=sql.SETTLING)

    async def learned(self, tenant: str, actions: Sequence[str], *, half_life_days: float) -> list[ActionCounts]:
        """See `ports.ForesightLog.learned`."""
        values = {"tenant": tenant, "actions": list(actions), "today": self._clock().date(), "half_life": half_life_days}
        async with self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(sql.LEARNED.encode(), values)).fetchall()
        return [ActionCounts(**dict(zip(("action", "segment", *sql.NUMBERS), row, strict=True))) for row in rows]

    async def week(self, tenant: str | None, monday: date) -> list[WasteReport]:
        """See `ports.ForesightLog.week`."""
        values = {"tenant": tenant, "monday": monday, "now": self._clock(), "limit": _MOST_TENANTS}
        async with self._database.service() if tenant is None else self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(sql.WEEK.encode(), values)).fetchall()
        return [
            WasteReport(tenant=owner, week=monday, rows=msgspec.convert(counts, tuple[ActionCounts, ...]), made_at=made_at)
            for owner, counts, made_at in rows
        ]

    async def store_week(self, monday: date) -> int:
        """See `ports.ForesightLog.store_week`."""
        async with self._database.service() as connection:
            values = {"tenant": None, "monday": monday, "now": self._clock()}
            return (await connection.execute(sql.STORE_WEEK.encode(), values)).rowcount

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.ForesightLog.forget`."""
        if user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        async with self._database.service() as connection:
            await erase(connection, tenant, "foreseen", user_id, self._clock())
        values = {"tenant": tenant, "user": user_id}
        parts = ["foreseen"] if user_id is not None else list(sql.FORGET)
        return sum([await self._database.repeat(sql.FORGET[part], values) for part in parts])

    async def prune(self, before: date) -> int:
        """See `ports.ForesightLog.prune`."""
        return sum([await self._database.repeat(statement, {"before": before}) for statement in sql.PRUNE])


def _values(made: Sequence[Foreseen]) -> dict[str, object]:
    return {
        "requests": [one.request_id for one in made],
        "tenants": [one.tenant for one in made],
        "users": [one.user for one in made],
        "actions": [one.action for one in made],
        "segments": [one.segment for one in made],
        "versions": [_encode(one.versions).decode() for one in made],
        "made": [one.made_at for one in made],
        "expire": [one.expires_at for one in made],
        "costs": [one.cost_microusd for one in made],
        "ins": [one.tokens_in for one in made],
        "outs": [one.tokens_out for one in made],
        "begun": [time_of(one.request_id) for one in made],
    }
