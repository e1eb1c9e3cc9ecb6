"""Answers ready before the click, and what they depend on. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from farthing.types import EdgeAnswer


class EdgeStore(Protocol):
    """Answers by tenant, user and action. An answer computed from older state than there is now is never given and never stored."""

    async def get(self, tenant: str, user: str, action: str) -> EdgeAnswer | None:
        """The answer, if it is fresh."""

    async def put(self, answer: EdgeAnswer) -> bool:
        """Store an answer. False, and nothing is stored, when a state that it was computed from has changed since."""

    async def versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """The versions of states now; 0 for one that never changed. Read them before the state itself."""

    async def bump(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """States have changed: their versions go up, before anybody reads again. Returns the new ones."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete the answers of a user, or (None) the tenant. Those on their way are not stored any more."""

    async def prune(self, max_rows: int) -> int:
        """Delete what has expired or is stale, and the oldest beyond so many. Returns how many went."""
