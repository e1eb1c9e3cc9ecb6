"""Jobs: durable runs of items that may be done more than once. See `types`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from farthing.types.basic import Json

RunState = Literal["filling", "running", "done", "cancelled"]
"""`filling`: items may still be added, and are done already. `done`: all items have ended, some of them badly perhaps."""
ItemState = Literal["waiting", "running", "done", "failed", "cancelled"]
EndState = Literal["done", "failed", "retry", "cancelled", "released"]

MOST_WIDE: Final = 1000
MOST_KEY_BYTES: Final = 512
GIVEN_UP_AFTER: Final = timedelta(days=1)
"""A run that is being filled for so long has nobody any more who does it."""
MOST_PAGE_BYTES: Final = 8 * 2**20
"""Of results that are read at once."""
INSTALLATION: Final = ""
"""The tenant of runs, and of events, that are the installation's own. No key has it."""


class NewItem(msgspec.Struct, frozen=True, kw_only=True):
    """Something to do. `key` names it within its run: a second one of the same key is the first."""

    key: str
    payload: Json = {}


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """Items of one kind. `name` names it within its tenant and kind: a second one of the same name is the first.

    At most `wide` items are under way at the same time, over all processes. An item is tried at most `attempts` times, each time for at
    most `deadline_s` seconds, the second time `backoff_s` seconds after the first, then twice as long after each.
    """

    kind: str
    tenant: str
    name: str
    wide: int = 8
    attempts: int = 3
    deadline_s: float = 600.0
    backoff_s: float = 1.0


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How many items are in which state. `waiting`: for their turn, the first time or again."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.waiting + self.running + self.done + self.failed + self.cancelled


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is now. `ended_at` is None while an item waits or is under way, even if it is cancelled."""

    id: UUID
    kind: str
    tenant: str
    name: str
    wide: int
    attempts: int
    deadline_s: float
    backoff_s: float
    state: RunState
    created_at: datetime
    ended_at: datetime | None = None
    progress: Progress = Progress()


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind is asked to do. `attempt` counts from 1. Who has others do it names `run` and `key` to them, which tell a retry."""

    run: UUID
    kind: str
    tenant: str
    key: str
    payload: Json
    attempt: int


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """An item that is under way here. It is lost when it is not extended in time: `number`, which goes up with each lease, tells it.

    `id` is the item's, `token` the store's. The rest is as in the run.
    """

    id: int
    number: int
    item: Item
    attempts: int
    deadline_s: float
    backoff_s: float
    token: Any = None


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a lease ends. `result` is the JSON of what came of it. `retry`: again in `delay_s` seconds.

    `released`: nothing came of it, nobody is to blame, and the attempt does not count.
    """

    lease: Lease
    state: EndState
    result: bytes | None = None
    error: str | None = None
    delay_s: float = 0.0


class ItemResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an item so far. `position` is its place among the run's. `error` is also that of the last attempt that is retried."""

    position: int
    key: str
    state: ItemState
    attempts: int
    result: Any = None
    error: str | None = None
    at: datetime


class Cron(msgspec.Struct, frozen=True, kw_only=True):
    """A run of `kind` with items of these keys whenever `expression` (five fields, or six with seconds as the last; UTC) says so."""

    name: str
    expression: str
    kind: str
    keys: tuple[str, ...] = ("all",)
    attempts: int = 3
    deadline_s: float = 600.0
