"""What routers learn from, and what they have learnt. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from farthing.types import Json, Outcome, Promotion, Request, RouterVersion

MOST_ARTEFACT_BYTES: Final = 16 * 2**20
"""Of a trained router."""


class RouterStore(Protocol):
    """Trained routers, by name and version. Versions count up from 1 and are never changed.

    Of each router the newest versions are kept (at least 20), and those of its latest promotions; older ones go when one is added.
    """

    async def add(self, router: str, artefact: bytes, metrics: Json, by: str) -> RouterVersion:
        """Keep a new version, which decides nothing yet. Raises `InvalidRequest` for more than `MOST_ARTEFACT_BYTES`.

        The result has no artefact.
        """

    async def versions(self, router: str | None = None) -> list[RouterVersion]:
        """What there is of one router or (None) all, by name, newest first, without artefacts."""

    async def promoted(self, router: str) -> RouterVersion | None:
        """The version that decides, with its artefact; None when there is none."""

    async def promote(self, router: str, version: int | None, by: str) -> RouterVersion | None:
        """Let a version decide from now on, or (None) none at all, and tell other workers (`Changes`, channel `routers`).

        Raises `NotFound`. What decided before can be promoted again: that is a roll-back. The result has no artefact.
        """

    async def promotions(self, router: str, limit: int) -> list[Promotion]:
        """At most `limit` promotions of a router, newest first. Old ones may be gone: the last hundred are kept."""


class OutcomeStore(Protocol):
    """How good the answers of models were, for training. In order of their requests' ids, which is that of their arrival."""

    async def add(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes. One of the same tenant, request and model is replaced, unless `types.supersedes` says no.

        Those of requests that arrived before the user or tenant was forgotten are left out. All or nothing. Raises `InvalidRequest`
        when the store cannot hold one.
        """

    async def of(self, tenant: str, request_id: UUID) -> list[Outcome]:
        """All outcomes of a tenant's request, by model, those without a score too."""

    async def latest(self, *, router: str | None, tenant: str | None, limit: int, before: tuple[UUID, str] | None = None) -> list[Outcome]:
        """At most `limit` that have a score, newest first, of one router or (None) all, of one tenant or (None) all.

        `before`: request id and model of the last one of the page before, to go on from.
        """

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all outcomes of a user, or (None) of the whole tenant. Returns how many went."""

    async def prune(self, max_rows: int) -> int:
        """Delete the oldest beyond `max_rows` of those with a score, and of those without. Returns how many went."""


class RouteExplainer(Protocol):
    """Why a request would be routed as it would."""

    async def __call__(self, request: Request, *, at: datetime | None, mode: str | None, ask: bool) -> Json:
        """An object for people and scripts. Nothing is done but what `ask` says: the router's judge is asked, and billed to the key.

        `at`: as if it were that time. `mode`: as if the caller were in that mode; None: the one that it is in. Raises what the request
        itself would be refused with, and `InvalidRequest` for a mode that there is not.
        """
