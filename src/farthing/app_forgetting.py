"""What is remembered of users, and forgetting it: the list of all places that hold something of a user. Part of the composition root."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from farthing.app_caches import Caches
from farthing.app_stores import Stores
from farthing.background import Background
from farthing.errors import FarthingError
from farthing.http.memory import MemoryDoors
from farthing.memory.forgetting import Forgetting
from farthing.ports import EVERYTHING, JobStore, Personal
from farthing.settings import Settings
from farthing.types import CacheScope

_PRUNE_EVERY_S = 60.0


def personal_places(stores: Stores, caches: Caches) -> dict[str, Personal]:
    """All places that hold something of users, by the names that receipts give them, in the order in which they forget.

    Whoever adds a place where something of a user is kept adds it here.
    """
    return {
        "events": stores.events,
        "facts": stores.facts,
        "feedback": stores.feedback,
        "sightings": stores.sightings,
        "readings": stores.readings,
        "turns": stores.turns,
        "edge_answers": stores.edge,
        "foreseen": stores.foresight,
        "transcripts": stores.retention,
        "responses": stores.responses,
        "outcomes": stores.outcomes,
        "cache_records": stores.records,  # before the questions: it is they that know their users
        "cached_questions": CachedQuestions(caches),
        "cached_answers": CachedAnswers(stores, caches),
        "runs": Runs(stores.jobs),
    }


class Runs:
    """`ports.Personal` over runs of jobs: they are a tenant's, and go with the tenant."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.Personal.forget`."""
        return await self._jobs.forget(tenant) if user_id is None else 0


class CachedQuestions:
    """`ports.Personal` over the questions of the semantic cache. Other workers are told by the index."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.Personal.forget`."""
        return await self._caches.questions.forget(tenant, CacheScope(user_id=user_id))


class CachedAnswers:
    """`ports.Personal` over the answers of the exact cache: in this worker, in the store, and by its news in the other workers."""

    def __init__(self, stores: Stores, caches: Caches) -> None:
        self._stores = stores
        self._caches = caches

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.Personal.forget`."""
        self._caches.flush()
        return await self._stores.answers.forget(tenant, EVERYTHING if user_id is None else CacheScope(user_id=user_id))


class Memories:
    """`forgetting` is for all doors by which somebody may be forgotten; `doors` are the users' own."""

    def __init__(self, settings: Settings, stores: Stores, caches: Caches) -> None:
        self._settings = settings.memory
        self._stores = stores
        self.forgetting = Forgetting(personal_places(stores, caches), stores.receipts, timeout_s=self._settings.forget_timeout_s)
        self.doors = MemoryDoors(stores.facts, self.forgetting, settings.server)

    def start(self, background: Background) -> None:
        """Begin the background work."""
        background.start("old facts", self._prune)

    async def _prune(self) -> None:
        """Delete what has expired and what is too old, now and then, until cancelled."""
        while True:
            with suppress(FarthingError):
                await self._stores.facts.prune(max_history=self._settings.facts.max_history)
                await self._stores.receipts.prune(self._settings.max_receipts)
            await asyncio.sleep(_PRUNE_EVERY_S)
