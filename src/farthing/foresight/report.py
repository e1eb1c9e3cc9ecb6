"""What operators are shown: the actions with their chances of a click, and what of it was for nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime

from farthing.foresight.action import Action
from farthing.foresight.click_book import of_action
from farthing.foresight.predict import Prior, click_probability
from farthing.ports import ForesightLog
from farthing.settings import ForesightSettings
from farthing.types import ActionCounts, Json, WasteReport, utc_now

_NUMBERS = tuple(name for name in ActionCounts.__struct_fields__ if name not in {"action", "segment"})


class Reports:
    """Reads the counts for the admin doors. Raises the store's errors."""

    def __init__(
        self, actions: Mapping[str, Action], settings: ForesightSettings, log: ForesightLog, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._actions = actions
        self._settings = settings
        self._log = log
        self._clock = clock
        self._prior = Prior(click=settings.prior_click, weight=settings.prior_weight)

    async def actions(self, tenant: str | None) -> list[Json]:
        """The actions; with a tenant, what is learnt of its clicks on them."""
        half_life = self._settings.half_life_days
        counts = [] if tenant is None else await self._log.learned(tenant, list(self._actions), half_life_days=half_life)
        return [self._action(action, of_action(counts, name), learned=tenant is not None) for name, action in self._actions.items()]

    def _action(self, action: Action, counts: Sequence[ActionCounts], *, learned: bool) -> Json:
        settings = action.settings
        facts: Json = {
            "action": action.name,
            "after": settings.after,
            "model": settings.model,
            "depends_on": settings.depends_on,
            "ttl_s": settings.ttl_s,
            "price_of_latency_usd": str(settings.price_of_latency_usd),
        }
        if learned:
            segments = sorted({one.segment for one in counts} | {""})
            facts["segments"] = [{"segment": name, **self._chance(counts, name)} for name in segments]
        return facts

    def _chance(self, counts: Sequence[ActionCounts], segment: str) -> Json:
        click, known = click_probability(counts, segment, self._prior)
        return {"click": round(click, 4), "known": round(known, 2)}

    async def waste(self, tenant: str | None, monday: date) -> Json:
        """What foresight cost in a week, and what of it was read, by tenant, action and segment."""
        reports = await self._log.week(tenant, monday)
        rows = [{"tenant": one.tenant, **self._row(one, row)} for one in reports for row in one.rows]
        total = {name: sum(row[name] for row in rows) for name in (*_NUMBERS, "open", "wasted_microusd")}
        return {"object": "farthing.waste", "week": monday, "tenant": tenant, **total, "rows": rows}

    def _row(self, report: WasteReport, counts: ActionCounts) -> Json:
        whole = {name: round(getattr(counts, name)) for name in _NUMBERS}
        unread = whole["stale"] + whole["expired"]
        wasted = whole["spent_microusd"] * unread // whole["computed"] if whole["computed"] else 0
        opened = max(whole["computed"] - whole["read"] - unread, 0)
        click, _ = click_probability([row for row in report.rows if row.action == counts.action], counts.segment, self._prior)
        names = {"action": counts.action, "segment": counts.segment}
        return {**names, **whole, "open": opened, "wasted_microusd": min(wasted, whole["spent_microusd"]), "click": round(click, 4)}
