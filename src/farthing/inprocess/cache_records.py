"""What the semantic cache did, in dictionaries, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from farthing.inprocess.questions import InProcessQuestions
from farthing.inprocess.stores import InProcessChanges
from farthing.types import ServedHit, Verdict, utc_now

_ERASURES_KEPT = timedelta(days=7)


class InProcessCacheRecords:
    """`ports.CacheRecords`. Keeps the newest `max_hits` hits and `max_verdicts` verdicts."""

    def __init__(
        self,
        questions: InProcessQuestions,
        changes: InProcessChanges,
        *,
        max_hits: int = 100_000,
        max_verdicts: int = 100_000,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._questions = questions
        self._changes = changes
        self._max_hits = max_hits
        self._max_verdicts = max_verdicts
        self._clock = clock
        self._forgotten: dict[str, datetime] = {}
        self._hits: dict[UUID, ServedHit] = {}
        self._verdicts: dict[UUID, Verdict] = {}

    async def served(self, hits: Sequence[ServedHit]) -> None:
        """See `ports.CacheRecords.served`."""
        for hit in hits:
            if hit.request_id not in self._hits and not self._is_forgotten(hit):
                self._hits[hit.request_id] = hit
                self._questions.reused(hit.tenant, [hit.question_id])
        while len(self._hits) > self._max_hits:
            del self._hits[next(iter(self._hits))]

    async def hits(self, tenant: str, question_id: UUID, limit: int) -> list[ServedHit]:
        """See `ports.CacheRecords.hits`."""
        ours = [hit for hit in self._hits.values() if hit.tenant == tenant and hit.question_id == question_id]
        return sorted(ours, key=_when_served, reverse=True)[:limit]

    async def hit(self, tenant: str, request_id: UUID) -> ServedHit | None:
        """See `ports.CacheRecords.hit`."""
        found = self._hits.get(request_id)
        return found if found is not None and found.tenant == tenant else None

    async def add_verdicts(self, verdicts: Sequence[Verdict]) -> list[UUID]:
        """See `ports.CacheRecords.add_verdicts`."""
        known = self._verdicts
        ordered = sorted(verdicts, key=lambda one: one.id)
        new = {one.id: one for one in ordered if one.id not in known and not self._is_forgotten(one)}
        self._verdicts |= new
        if new:
            self._changes.publish("verdicts", msgspec.json.encode(list(new.values())).decode())
        while len(self._verdicts) > self._max_verdicts:
            del self._verdicts[next(iter(self._verdicts))]
        return list(new)

    def _is_forgotten(self, one: ServedHit | Verdict) -> bool:
        forgotten = self._forgotten.get(one.tenant)
        return forgotten is not None and forgotten >= one.at

    async def verdicts(self, limit: int, tenant: str | None = None) -> list[Verdict]:
        """See `ports.CacheRecords.verdicts`."""
        ours = [one for one in self._verdicts.values() if tenant in {None, one.tenant}]
        return sorted(ours, key=_when_judged, reverse=True)[:limit]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.CacheRecords.forget`."""
        if user_id is None:
            self._forgotten[tenant] = self._clock()
        of_user = await self._questions.of_user(tenant, user_id) if user_id is not None else None
        hits = [one.request_id for one in self._hits.values() if one.tenant == tenant and (of_user is None or one.question_id in of_user)]
        verdicts = [one.id for one in self._verdicts.values() if one.tenant == tenant and (of_user is None or one.question_id in of_user)]
        for request_id in hits:
            del self._hits[request_id]
        for verdict_id in verdicts:
            del self._verdicts[verdict_id]
        return len(hits) + len(verdicts)

    async def prune(self, *, max_hits: int, max_verdicts: int) -> int:
        """See `ports.CacheRecords.prune`."""
        self._forgotten = {tenant: at for tenant, at in self._forgotten.items() if at >= self._clock() - _ERASURES_KEPT}
        old_hits = sorted(self._hits.values(), key=_when_served, reverse=True)[max_hits:]
        old_verdicts = sorted(self._verdicts.values(), key=_when_judged, reverse=True)[max_verdicts:]
        for hit in old_hits:
            del self._hits[hit.request_id]
        for verdict in old_verdicts:
            del self._verdicts[verdict.id]
        return len(old_hits) + len(old_verdicts)


def _when_served(hit: ServedHit) -> tuple[datetime, UUID]:
    return hit.at, hit.request_id


def _when_judged(verdict: Verdict) -> tuple[datetime, UUID]:
    return verdict.at, verdict.id
