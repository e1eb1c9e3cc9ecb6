"""Turns of conversations in a dictionary, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import accumulate, islice
from uuid import UUID

from msgspec.structs import replace

from farthing.errors import InvalidRequest
from farthing.ports import MOST_TURN_BYTES
from farthing.types import Turn, utc_now

_MOST_PAYLOAD_BYTES = 2**20
_MOST_NAME_BYTES = 1024


class InProcessTurns:
    """`ports.TurnStore`. Beyond `max_turns` the oldest of all go at once."""

    def __init__(self, *, max_turns: int = 100_000, clock: Callable[[], datetime] = utc_now) -> None:
        self._max_turns = max_turns
        self._clock = clock
        self._turns: dict[tuple[str, UUID], Turn] = {}
        self._forgotten: dict[tuple[str, str | None], datetime] = {}

    async def add(self, turns: Sequence[Turn]) -> None:
        """See `ports.TurnStore.add`."""
        for turn in turns:
            _check(turn)
        for turn in turns:
            key = (turn.tenant, turn.id)
            known = self._turns.get(key)
            if known is not None:
                if known.vector is None and turn.vector is not None and known.user == turn.user:
                    self._turns[key] = replace(known, vector=turn.vector, embedder=turn.embedder)
            elif not self._is_forgotten(turn):
                latest = await self.of(turn.tenant, turn.user, turn.conversation, limit=1)
                self._turns[key] = replace(turn, number=latest[0].number + 1 if latest else 1)
        self._drop(list(islice(self._turns.values(), max(len(self._turns) - self._max_turns, 0))))

    async def of(self, tenant: str, user: str | None, conversation: str, *, limit: int) -> list[Turn]:
        """See `ports.TurnStore.of`."""
        found = [one for one in self._turns.values() if (one.tenant, one.user, one.conversation) == (tenant, user, conversation)]
        return _latest(sorted(found, key=lambda turn: turn.number), limit)

    async def of_user(self, tenant: str, user: str, *, limit: int) -> list[Turn]:
        """See `ports.TurnStore.of_user`."""
        found = [turn for turn in self._turns.values() if (turn.tenant, turn.user) == (tenant, user)]
        return _latest(sorted(found, key=_age), limit)

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.TurnStore.forget`."""
        self._forgotten[tenant, user_id] = self._clock()
        return self._drop([turn for turn in self._turns.values() if turn.tenant == tenant and user_id in {None, turn.user}])

    async def prune(self, before: datetime, *, per_conversation: int, per_user: int, max_rows: int) -> int:
        """See `ports.TurnStore.prune`."""
        gone = self._drop([turn for turn in self._turns.values() if turn.at < before])
        kept: dict[tuple[str, ...], int] = {}
        doomed = []
        for turn in sorted(self._turns.values(), key=_age, reverse=True):
            bounds = {("",): max_rows, ("conversation", turn.tenant, turn.user or "", turn.conversation): per_conversation}
            if turn.user is not None:
                bounds["user", turn.tenant, turn.user] = per_user
            for group in bounds:
                kept[group] = kept.get(group, 0) + 1
            if any(kept[group] > most for group, most in bounds.items()):
                doomed.append(turn)
        return gone + self._drop(doomed)

    def _is_forgotten(self, turn: Turn) -> bool:
        times = [self._forgotten.get((turn.tenant, user)) for user in (None, turn.user)]
        return any(at is not None and at >= turn.at for at in times)

    def _drop(self, turns: Sequence[Turn]) -> int:
        return sum(self._turns.pop((turn.tenant, turn.id), None) is not None for turn in turns)


def _latest(turns: Sequence[Turn], limit: int) -> list[Turn]:
    held = list(accumulate(len(turn.payload) for turn in reversed(turns)))
    most = min(limit, len(turns), sum(size <= MOST_TURN_BYTES for size in held))
    return list(turns[len(turns) - most :]) if most else []


def _age(turn: Turn) -> tuple[datetime, int]:
    return turn.at, turn.number


def _check(turn: Turn) -> None:
    """What the database would say."""
    names = (turn.tenant, turn.user or "", turn.conversation, turn.role)
    if any("\0" in name for name in names) or len(turn.conversation.encode()) > _MOST_NAME_BYTES or len(turn.payload) > _MOST_PAYLOAD_BYTES:
        raise InvalidRequest("a turn has a name with a NUL character, or is too long")
