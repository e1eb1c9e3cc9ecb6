"""Turns of conversations in a dictionary, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from farthing.types import StoredResponse, time_of, utc_now


class InProcessResponses:
    """`ports.ResponseStore`. Holds what is put until it is pruned; beyond `max_bytes` of payload the oldest go at once."""

    def __init__(self, *, max_bytes: int = 256_000_000, clock: Callable[[], datetime] = utc_now) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._turns: dict[tuple[str, UUID], StoredResponse] = {}
        self._forgotten: dict[tuple[str, str | None], datetime] = {}

    async def put(self, turns: Sequence[StoredResponse]) -> None:
        """See `ports.ResponseStore.put`."""
        for turn in turns:
            forgotten = [self._forgotten.get((turn.tenant, user)) for user in (None, turn.user_id)]
            if not any(at is not None and at >= time_of(turn.id) for at in forgotten):
                self._turns.setdefault((turn.tenant, turn.id), turn)
        self._drop(self._beyond(self._newest_first(), len(self._turns), self._max_bytes))

    async def chain(self, tenant: str, turn_id: UUID, *, most: int, most_bytes: int) -> list[StoredResponse]:
        """See `ports.ResponseStore.chain`."""
        found: list[StoredResponse] = []
        held = 0
        wanted: UUID | None = turn_id
        while wanted is not None and len(found) < most and held <= most_bytes:
            turn = self._live(tenant, wanted)
            if turn is None:
                break
            found.append(turn)
            held += len(turn.payload)
            wanted = turn.previous
        return found

    async def renew(self, tenant: str, turn_ids: Sequence[UUID], expires_at: datetime) -> None:
        """See `ports.ResponseStore.renew`."""
        for turn_id in turn_ids:
            turn = self._live(tenant, turn_id)
            if turn is not None and turn.expires_at < expires_at:
                self._turns[tenant, turn_id] = msgspec.structs.replace(turn, expires_at=expires_at)

    async def delete(self, tenant: str, turn_id: UUID) -> bool:
        """See `ports.ResponseStore.delete`."""
        if self._live(tenant, turn_id) is None:
            return False
        del self._turns[tenant, turn_id]
        return True

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.ResponseStore.forget`."""
        self._forgotten[tenant, user_id] = self._clock()
        return self._drop([turn for turn in self._turns.values() if turn.tenant == tenant and user_id in {None, turn.user_id}])

    async def prune(self, *, rows_per_tenant: int, bytes_per_tenant: int, total_bytes: int) -> int:
        """See `ports.ResponseStore.prune`."""
        now = self._clock()
        gone = self._drop([turn for turn in self._turns.values() if turn.expires_at <= now])
        doomed = self._beyond(self._newest_first(), len(self._turns), total_bytes)
        for tenant in {tenant for tenant, _ in self._turns}:
            own = [turn for turn in self._newest_first() if turn.tenant == tenant]
            doomed += self._beyond(own, rows_per_tenant, bytes_per_tenant)
        return gone + self._drop(doomed)

    def _live(self, tenant: str, turn_id: UUID) -> StoredResponse | None:
        turn = self._turns.get((tenant, turn_id))
        return turn if turn is not None and turn.expires_at > self._clock() else None

    def _newest_first(self) -> list[StoredResponse]:
        return sorted(self._turns.values(), key=lambda turn: turn.id, reverse=True)

    @staticmethod
    def _beyond(turns: list[StoredResponse], rows: int, size: int) -> list[StoredResponse]:
        """Those that lie beyond a number of turns or of bytes."""
        doomed, held = [], 0
        for number, turn in enumerate(turns):
            held += len(turn.payload)
            if number >= rows or held > size:
                doomed.append(turn)
        return doomed

    def _drop(self, turns: Sequence[StoredResponse]) -> int:
        return sum(self._turns.pop((turn.tenant, turn.id), None) is not None for turn in turns)
