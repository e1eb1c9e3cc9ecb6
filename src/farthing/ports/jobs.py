"""Jobs. See `ports`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from farthing.types import Ending, ItemResult, ItemState, Lease, NewItem, NewRun, Run, RunState

Held = Literal["held", "cancelled"]
"""A lease that still holds; `cancelled`: but its run was."""


class JobStore(Protocol):
    """Durable runs of items. What is returned is durable. Raises `Unavailable` while the store is away.

    An item is leased by one process at a time; a lease that is not extended within the store's lease time is lost, and the item leased
    anew. What is said of a lost lease changes nothing. So each item ends once, whatever dies, and is tried at least once.
    """

    async def start(self, run: NewRun) -> Run:
        """A run to be filled. The one of that name that is there already, whatever its state, is returned as it is."""

    async def add(self, run: UUID, items: Sequence[NewItem]) -> int:
        """Give a run that is being filled some items, all or none; those whose keys it has are left out. Returns how many were new.

        Raises `Conflict` when it is not being filled any more, `NotFound` when there is no such run.
        """

    async def seal(self, run: UUID) -> Run:
        """There will be no more items. A no-op when that was said before. Raises `NotFound`."""

    async def claim(self, kinds: Sequence[str], *, most: int) -> list[Lease]:
        """Lease at most `most` items of these kinds that are due, of the runs that got least so far first. Empty when there are none.

        An item whose last allowed attempt was lost with its worker fails instead.
        """

    async def extend(self, leases: Sequence[Lease]) -> Mapping[int, Held]:
        """Keep leases for another lease time from now. Returns, by the item's id, those that were not lost."""

    async def end(self, endings: Sequence[Ending]) -> set[int]:
        """End leases, all in one transaction. Returns the ids of the items whose lease held; the others are left as they are.

        An item to be retried of a run that was cancelled is cancelled.
        """

    async def cancel(self, run: UUID) -> Run:
        """No more items are begun; those under way are told when leases are extended. A no-op when all have ended. Raises `NotFound`."""

    async def settle(self) -> int:
        """End runs whose items have all ended, and what is left of cancelled ones. To be called now and then. Returns how many runs ended.

        A run that is still being filled a day after its start was given up by whoever did so: it is cancelled.
        """

    async def run(self, run: UUID) -> Run | None:
        """A run; None when there is none."""

    async def runs(
        self, *, tenant: str | None = None, kind: str | None = None, state: RunState | None = None, limit: int, before: UUID | None = None
    ) -> list[Run]:
        """Runs, newest first, older than the run `before`."""

    async def results(self, run: UUID, *, state: ItemState | None = None, limit: int, after: int = -1) -> list[ItemResult]:
        """At most `limit` items in the order in which they were added, behind a position. They change while the run is under way.

        Fewer where their results are large: as many as begin within `types.MOST_PAGE_BYTES`, so that there is one if there are any.
        """

    async def schedule(self, name: str, expression: str, first: datetime) -> datetime:
        """When a schedule fires next: `first` where it is new, or was by another expression."""

    async def fired(self, name: str, at: datetime, following: datetime) -> bool:
        """It fired for `at`, and does so next at `following`. False when somebody else said that of `at`."""

    async def forget(self, tenant: str) -> int:
        """Delete all runs of a tenant, those under way too. Returns how many they were."""

    async def prune(self, before: datetime, *, max_runs: int) -> int:
        """Delete runs that ended before, and the oldest of more than `max_runs` that ended. Returns how many."""
