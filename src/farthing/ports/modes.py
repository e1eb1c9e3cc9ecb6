"""What workers agree on, and what they tell each other of what they spend. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from farthing.types import Document, Json, SpendRow


class ConfigStore(Protocol):
    """Small documents (at most 64 KiB) that all workers agree on, with their history.

    `poll_s` is how often a worker looks for a new version (seconds). Where the store can tell of changes (`Changes`, channel `config`),
    that is only what catches lost news.
    """

    poll_s: float

    async def read(self, name: str) -> Document | None:
        """The latest version; None when the name was never written. Raises `Unavailable` when the store is away."""

    async def write(self, name: str, body: Json, *, expect: int | None, by: str, reason: str) -> Document:
        """Write a new version, in history and for everybody, atomically.

        `expect` is the version that it follows, 0 for none; when another is the latest, nothing is written and `Conflict` is raised, which
        names that version. None: whatever the latest is. Raises `InvalidRequest` when the store cannot hold it.
        """

    async def history(self, name: str, limit: int) -> list[Document]:
        """At most `limit` versions, newest first. Old ones may be gone: at least the last hundred are kept where the store is ours."""


class SpendLog(Protocol):
    """What was spent lately, by all workers."""

    async def since(self, at: datetime, *, span_s: float, but: str) -> list[SpendRow]:
        """What the ledger holds since then of all workers but one, in spans of `span_s` seconds, requests on our own account included.

        Only what somebody bills, and no requests without a key. Where there would be too many rows, the cheapest are summed without
        tenant (empty) and key (None). Raises `Unavailable`.
        """

    async def tell(self, rows: Sequence[SpendRow], worker: str) -> None:
        """Tell other workers what this one has just spent (`Changes`, channel `spend`; see `spend_news`). Nothing is stored.

        Lost when nobody listens. Raises `Unavailable`.
        """
