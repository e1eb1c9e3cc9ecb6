"""Trained routers and outcomes in dictionaries, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from farthing.errors import InvalidRequest, NotFound
from farthing.inprocess.stores import InProcessChanges
from farthing.ports import MOST_ARTEFACT_BYTES
from farthing.types import Json, Outcome, Promotion, RouterVersion, supersedes, time_of, utc_now

_PROTECTED = 5
_ERASURES_KEPT = timedelta(days=7)
_MOST_VECTOR = 65_536


class InProcessRouters:
    """`ports.RouterStore`."""

    def __init__(
        self, changes: InProcessChanges, *, max_versions: int = 20, max_promotions: int = 100, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._changes = changes
        self._max_versions = max_versions
        self._max_promotions = max_promotions
        self._clock = clock
        self._versions: dict[str, dict[int, RouterVersion]] = {}
        self._promotions: dict[str, list[Promotion]] = {}

    async def add(self, router: str, artefact: bytes, metrics: Json, by: str) -> RouterVersion:
        """See `ports.RouterStore.add`."""
        if len(artefact) > MOST_ARTEFACT_BYTES:
            raise InvalidRequest(f"a trained router may have {MOST_ARTEFACT_BYTES} bytes, this one has {len(artefact)}", param="artefact")
        ours = self._versions.setdefault(router, {})
        number = max(ours, default=0) + 1
        made = RouterVersion(router=router, version=number, artefact=artefact, metrics=metrics, created_at=self._clock(), created_by=by)
        ours[number] = made
        promoted = [one.version for one in self._promotions.get(router, []) if one.version is not None]
        for old in sorted(ours)[: -self._max_versions]:
            if old not in promoted[-_PROTECTED:]:
                del ours[old]
        return self._shown(made)

    def _shown(self, version: RouterVersion) -> RouterVersion:
        """Without its artefact, and with what is known of it now."""
        last = self._last(version.router)
        at = last.at if last is not None and last.version == version.version else None
        return msgspec.structs.replace(version, artefact=b"", promoted_at=at)

    def _last(self, router: str) -> Promotion | None:
        return next(reversed(self._promotions.get(router, [])), None)

    async def versions(self, router: str | None = None) -> list[RouterVersion]:
        """See `ports.RouterStore.versions`."""
        names = sorted(self._versions) if router is None else [router]
        return [self._shown(ours[number]) for ours in (self._versions.get(name, {}) for name in names) for number in sorted(ours)[::-1]]

    async def promoted(self, router: str) -> RouterVersion | None:
        """See `ports.RouterStore.promoted`."""
        last = self._last(router)
        if last is None or last.version is None:
            return None
        return msgspec.structs.replace(self._versions[router][last.version], promoted_at=last.at)

    async def promote(self, router: str, version: int | None, by: str) -> RouterVersion | None:
        """See `ports.RouterStore.promote`."""
        ours = self._versions.get(router)
        if not ours:
            raise NotFound(f"there is no trained router {router[:128]!r}", param="router")
        if version is not None and version not in ours:
            raise NotFound(f"the router {router[:128]!r} has no version {version}", param="version")
        promotions = self._promotions.setdefault(router, [])
        promotions.append(Promotion(router=router, version=version, at=self._clock(), by=by))
        del promotions[: -self._max_promotions]
        self._changes.publish("routers", router)
        return None if version is None else self._shown(ours[version])

    async def promotions(self, router: str, limit: int) -> list[Promotion]:
        """See `ports.RouterStore.promotions`."""
        return self._promotions.get(router, [])[::-1][:limit]


class InProcessOutcomes:
    """`ports.OutcomeStore`. Beyond `max_rows` with a score, and as many without, the oldest go at once."""

    def __init__(self, *, max_rows: int = 100_000, clock: Callable[[], datetime] = utc_now) -> None:
        self._max_rows = max_rows
        self._clock = clock
        self._outcomes: dict[tuple[UUID, str, str], Outcome] = {}
        self._erasures: dict[tuple[str, str | None], datetime] = {}

    async def add(self, outcomes: Sequence[Outcome]) -> None:
        """See `ports.OutcomeStore.add`."""
        for one in outcomes:
            if (one.score is not None and not 0 <= one.score <= 1) or len(one.vector) > _MOST_VECTOR:
                raise InvalidRequest("an outcome has a score from 0 to 1, and a vector of at most 64 KiB")
        for one in outcomes:
            place = (one.request_id, one.model, one.tenant)
            old = self._outcomes.get(place)
            if not self._erased(one) and (old is None or supersedes(one, old)):
                self._outcomes[place] = one
        await self.prune(self._max_rows)

    def _erased(self, one: Outcome) -> bool:
        erased = [self._erasures[place] for place in ((one.tenant, None), (one.tenant, one.user_id)) if place in self._erasures]
        return any(when >= time_of(one.request_id) for when in erased)

    async def of(self, tenant: str, request_id: UUID) -> list[Outcome]:
        """See `ports.OutcomeStore.of`."""
        ours = [one for one in self._outcomes.values() if one.tenant == tenant and one.request_id == request_id]
        return sorted(ours, key=lambda one: one.model)

    async def latest(self, *, router: str | None, tenant: str | None, limit: int, before: tuple[UUID, str] | None = None) -> list[Outcome]:
        """See `ports.OutcomeStore.latest`."""
        wanted = [
            one
            for place, one in sorted(self._outcomes.items(), reverse=True)
            if one.score is not None
            and router in {None, one.router}
            and tenant in {None, one.tenant}
            and (before is None or place[:2] < before)
        ]
        return wanted[:limit]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.OutcomeStore.forget`."""
        if user_id == "":
            return 0
        self._erasures[tenant, user_id] = self._clock()
        return self._drop([place for place, one in self._outcomes.items() if one.tenant == tenant and user_id in {None, one.user_id}])

    async def prune(self, max_rows: int) -> int:
        """See `ports.OutcomeStore.prune`."""
        now = self._clock()
        self._erasures = {place: at for place, at in self._erasures.items() if at >= now - _ERASURES_KEPT}
        if len(self._outcomes) <= max_rows:
            return 0
        newest_first = sorted(self._outcomes, reverse=True)
        unsaid = [place for place in newest_first if self._outcomes[place].score is None]
        said = [place for place in newest_first if self._outcomes[place].score is not None]
        return self._drop([*said[max_rows:], *unsaid[max_rows:]])

    def _drop(self, gone: Sequence[tuple[UUID, str, str]]) -> int:
        for place in gone:
            del self._outcomes[place]
        return len(gone)
