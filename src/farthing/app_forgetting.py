"""What is remembered of users, and forgetting it: the list of all places that hold something of a user. Part of the composition root."""

from __future__ import annotations

from farthing.app_caches import Caches
from farthing.app_stores import Stores
from farthing.http.memory import MemoryDoors
from farthing.memory.forgetting import Forgetting
from farthing.ports import EVERYTHING, JobStore, Personal
from farthing.settings import Settings
from farthing.types import CacheScope


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
        self.forgetting = Forgetting(personal_places(stores, caches), stores.receipts, timeout_s=settings.memory.forget_timeout_s)
        self.doors = MemoryDoors(stores.facts, self.forgetting, settings.server)
