"""Retention in dictionaries, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from farthing.inprocess.stores import InProcessChanges
from farthing.types import NewTranscript, RetentionPolicy, StoredTranscript, utc_now

_ERASURES_KEPT = timedelta(days=7)


class InProcessRetention:
    """`ports.RetentionStore`. Holds what is put until it is pruned; beyond `max_bytes` of payload the oldest go at once."""

    def __init__(self, changes: InProcessChanges, *, max_bytes: int = 256_000_000, clock: Callable[[], datetime] = utc_now) -> None:
        self._changes = changes
        self._max_bytes = max_bytes
        self._clock = clock
        self._policies: dict[str, RetentionPolicy] = {}
        self._transcripts: dict[UUID, StoredTranscript] = {}
        self._erasures: dict[tuple[str, str | None], datetime] = {}

    async def policy(self, tenant: str) -> RetentionPolicy | None:
        """See `ports.RetentionStore.policy`."""
        return self._policies.get(tenant)

    async def enabled(self, limit: int) -> tuple[frozenset[str], datetime | None]:
        """See `ports.RetentionStore.enabled`. Answers of a cache in this process are nobody else's to flush."""
        return frozenset([policy.tenant for policy in self._policies.values() if policy.enabled][:limit]), None

    async def set_policy(self, policy: RetentionPolicy) -> None:
        """See `ports.RetentionStore.set_policy`."""
        self._policies[policy.tenant] = policy
        for one in list(self._transcripts.values()):
            until = min(one.expires_at, one.at + timedelta(seconds=policy.ttl_s))
            if one.tenant == policy.tenant:
                self._transcripts[one.request_id] = msgspec.structs.replace(one, expires_at=until)
        self._changes.publish("retention")

    async def put(self, transcripts: Sequence[NewTranscript]) -> int:
        """See `ports.RetentionStore.put`."""
        now = self._clock()
        before = len(self._transcripts)
        for one in transcripts:
            at = now - timedelta(microseconds=(time.perf_counter_ns() - one.arrived_ns) // 1000)
            policy = self._policies.get(one.tenant)
            if policy is None or not policy.enabled or self._erased(one, at) or at <= now - _ERASURES_KEPT:
                continue
            facts = {name: getattr(one, name) for name in one.__struct_fields__ if name != "arrived_ns"}
            stored = StoredTranscript(**facts, at=at, expires_at=at + timedelta(seconds=policy.ttl_s))
            self._transcripts.setdefault(one.request_id, stored)
        stored_now = len(self._transcripts) - before
        self._fit()
        return stored_now

    def _erased(self, one: NewTranscript, at: datetime) -> bool:
        erased = [self._erasures[place] for place in ((one.tenant, None), (one.tenant, one.user_id)) if place in self._erasures]
        return any(when >= at for when in erased)

    def _fit(self) -> None:
        held = sum(len(one.payload) for one in self._transcripts.values())
        for one in sorted(self._transcripts.values(), key=lambda one: one.request_id):
            if held <= self._max_bytes:
                return
            held -= len(one.payload)
            del self._transcripts[one.request_id]

    async def get(self, request_id: UUID) -> StoredTranscript | None:
        """See `ports.RetentionStore.get`."""
        found = self._transcripts.get(request_id)
        return found if found is not None and found.expires_at > self._clock() else None

    async def kept(self, request_ids: Sequence[UUID]) -> frozenset[UUID]:
        """See `ports.RetentionStore.kept`."""
        return frozenset([request_id for request_id in request_ids if await self.get(request_id) is not None])

    async def forget(self, tenant: str, user: str | None) -> int:
        """See `ports.RetentionStore.forget`."""
        self._erasures[tenant, user] = self._clock()
        gone = [one for one in self._transcripts.values() if one.tenant == tenant and user in {None, one.user_id}]
        return self._drop(gone)

    async def prune(self, max_rows: int) -> int:
        """See `ports.RetentionStore.prune`."""
        now = self._clock()
        self._erasures = {place: at for place, at in self._erasures.items() if at >= now - _ERASURES_KEPT}
        pruned = self._drop([one for one in self._transcripts.values() if one.expires_at <= now])
        newest_first = sorted(self._transcripts.values(), key=lambda one: one.request_id, reverse=True)
        return pruned + self._drop(newest_first[max_rows:])

    def _drop(self, gone: Sequence[StoredTranscript]) -> int:
        for one in gone:
            del self._transcripts[one.request_id]
        return len(gone)
