"""Which budgets a caller has: a snapshot in this process, on disk for a start without the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from farthing.budgets import Budget, Scope, settings_budget
from farthing.errors import FarthingError
from farthing.ports import BudgetStore
from farthing.settings import BudgetSettings
from farthing.snapshot import Snapshot
from farthing.types import Principal, utc_now

_log = logging.getLogger("farthing.budgets")
_MOST_CALLERS = 10_000
_PRUNE_EVERY_S = 3600.0
_SAVE_EVERY_S = 0.5


class BudgetBook:
    """`told` is called with all budgets whenever they have changed. While the store is away, the last snapshot counts."""

    def __init__(
        self,
        store: BudgetStore,
        settings: BudgetSettings,
        snapshot: Snapshot[Budget],
        told: Callable[[Sequence[Budget]], None],
        refresh_s: float,
    ) -> None:
        self._store = store
        self._settings = settings
        self._snapshot = snapshot
        self._told = told
        self._refresh_s = refresh_s
        self._budgets: list[Budget] = []
        self._by_subject: dict[tuple[Scope, str | None, str], list[Budget]] = {}
        self._callers: dict[tuple[UUID, str, str | None, str], tuple[Budget, ...]] = {}
        self._synced = False
        self._unsaved = True
        self._known = asyncio.Event()
        self._reloading = asyncio.Lock()
        self.loaded = False

    @property
    def ready(self) -> bool:
        """Whether `known` needs no wait."""
        return self._known.is_set()

    async def known(self) -> bool:
        """Whether it can be told which budgets there are. Right after a start that takes a moment, which is waited for."""
        if not self._known.is_set():
            try:
                async with asyncio.timeout(self._settings.store_timeout_s):
                    await self._known.wait()
            except TimeoutError:
                return False
        return True

    def of(self, who: Principal, user: str | None) -> tuple[Budget, ...]:
        """The budgets that a caller's spending counts for."""
        if not self._by_subject:
            return ()
        caller = (who.key_id, who.tenant, user, who.tier)
        found = self._callers.get(caller)
        if found is None:
            found = self._find(who, user)
            if len(self._callers) >= _MOST_CALLERS:
                self._callers.clear()
            self._callers[caller] = found
        return found

    def _find(self, who: Principal, user: str | None) -> tuple[Budget, ...]:
        subjects: list[tuple[Scope, str | None, str]] = [
            ("key", who.tenant, str(who.key_id)),
            ("tenant", who.tenant, who.tenant),
            ("tier", None, who.tier),
            ("total", None, ""),
        ]
        if user is not None:
            subjects.append(("user", who.tenant, user))
        return tuple(budget for subject in subjects for budget in self._by_subject.get(subject, ()))

    def _take_in(self, budgets: list[Budget]) -> None:
        if self.loaded and budgets == self._budgets:
            return
        self._budgets = budgets
        by_subject: dict[tuple[Scope, str | None, str], list[Budget]] = {}
        for budget in budgets:
            by_subject.setdefault((budget.scope, budget.tenant, budget.subject), []).append(budget)
        self._by_subject = by_subject
        self._callers.clear()
        self._told(budgets)

    async def open(self) -> None:
        """Begin with the snapshot on disk, if there is one, and with the budgets of the settings."""
        saved = await asyncio.to_thread(self._snapshot.read)
        kept = [budget for budget in saved.records if budget.origin != "settings"] if saved else []
        self._take_in([*kept, *self._of_settings()])
        if saved:
            self._known.set()

    def _of_settings(self) -> list[Budget]:
        now = utc_now()
        given = self._settings
        budgets = [settings_budget("total", "", given.total, now)] if given.total else []
        budgets += [settings_budget("tier", tier, text, now) for tier, text in given.tiers.items()]
        return budgets + [settings_budget("tenant", tenant, text, now) for tenant, text in given.tenants.items()]

    async def reload(self) -> None:
        """Take a new snapshot. Raises the store's errors and keeps the old one then."""
        async with self._reloading:  # an older answer must not overtake a newer one
            if not self._synced:
                await self._store.sync_settings(self._of_settings())
                self._synced = True
            before = self._budgets
            self._take_in(await self._store.all(self._settings.max_cached))
            self.loaded = True
            self._known.set()
            self._unsaved = self._unsaved or self._budgets != before
        if len(self._budgets) >= self._settings.max_cached:
            _log.error("there are more budgets than budgets.max_cached (%d): the newest do not hold", self._settings.max_cached)

    async def save(self) -> None:
        """Write the snapshot when it has changed, until cancelled; again, when the disk has refused."""
        while True:
            await self.close()
            await asyncio.sleep(_SAVE_EVERY_S)

    async def close(self) -> None:
        """Write what is not written yet."""
        if self._unsaved and self.loaded:
            self._unsaved = not await asyncio.to_thread(self._snapshot.write, self._budgets)

    async def run(self) -> None:
        """Refresh by the clock until cancelled."""
        prune_at = 0.0
        while True:
            try:
                await self.reload()
                if time.monotonic() >= prune_at:
                    await self._store.prune()
                    prune_at = time.monotonic() + _PRUNE_EVERY_S
            except FarthingError as error:
                _log.debug("budgets not refreshed: %s", error)
            await asyncio.sleep(self._refresh_s)
