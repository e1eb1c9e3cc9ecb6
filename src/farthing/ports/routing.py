"""What routers learn from, and what they have learnt. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from farthing.types import Json, Outcome, RouterVersion


class RouterStore(Protocol):
    """Trained routers, by name and version. Versions count up from 1 and are never changed; the oldest beyond the bound go."""

    async def add(self, router: str, artefact: bytes, metrics: Json, by: str) -> RouterVersion:
        """Keep a new version, which decides nothing yet. At most 16 MiB."""

    async def versions(self, router: str | None = None) -> list[RouterVersion]:
        """What there is, newest first, without artefacts."""

    async def promoted(self, router: str) -> RouterVersion | None:
        """The version that decides, with its artefact; None when there is none."""

    async def promote(self, router: str, version: int | None, by: str) -> RouterVersion | None:
        """Let a version decide from now on, or (None) none at all, and tell other workers (`Changes`, channel `routers`).

        Raises `NotFound`. What decided before can be promoted again: that is a roll-back.
        """


class OutcomeStore(Protocol):
    """How good the answers of models were, for training."""

    async def add(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes. One of the same request and model is replaced, unless it came from a person and the new one does not."""

    async def latest(self, *, router: str | None, tenant: str | None, limit: int) -> list[Outcome]:
        """At most `limit`, newest first, of one router or (None) all, of one tenant or (None) all."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all outcomes of a user, or (None) of the whole tenant. Returns how many went."""

    async def prune(self, max_rows: int) -> int:
        """Delete the oldest beyond `max_rows`. Returns how many went."""
