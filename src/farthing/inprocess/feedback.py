"""Feedback in a dictionary, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from farthing.errors import InvalidRequest
from farthing.types import Event, Feedback, feedback_event, time_of, utc_now

_ERASURES_KEPT = timedelta(days=7)


class InProcessFeedback:
    """`ports.FeedbackStore`. `tell` is told of what is stored, as an event. Beyond `max_rows` the oldest go at once."""

    def __init__(
        self, tell: Callable[[Event], None] | None = None, *, max_rows: int = 100_000, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._tell = tell
        self._max_rows = max_rows
        self._clock = clock
        self._said: dict[UUID, Feedback] = {}
        self._names: set[tuple[str, UUID, UUID, bytes]] = set()
        self._erasures: dict[tuple[str, str | None], datetime] = {}

    async def add(self, feedback: Feedback) -> bool:
        """See `ports.FeedbackStore.add`."""
        if not 0 <= feedback.score <= 1:
            raise InvalidRequest("a score is from 0 to 1", param="score")
        if _name(feedback) in self._names or self._erased(feedback):
            return False
        self._said[feedback.id] = feedback
        self._names.add(_name(feedback))
        if self._tell is not None:
            self._tell(feedback_event(feedback))
        await self.prune(self._max_rows)
        return True

    def _erased(self, one: Feedback) -> bool:
        erased = [self._erasures[place] for place in ((one.tenant, None), (one.tenant, one.user)) if place in self._erasures]
        return any(when >= time_of(one.request_id) for when in erased)

    async def of(self, tenant: str, request_id: UUID) -> list[Feedback]:
        """See `ports.FeedbackStore.of`."""
        return [one for one in self._newest_first() if one.tenant == tenant and one.request_id == request_id]

    async def latest(self, *, tenant: str | None, limit: int, before: UUID | None = None, corrected: bool = False) -> list[Feedback]:
        """See `ports.FeedbackStore.latest`."""
        wanted = [
            one
            for one in self._newest_first()
            if tenant in {None, one.tenant} and (before is None or one.id < before) and (one.correction is not None or not corrected)
        ]
        return wanted[:limit]

    def _newest_first(self) -> list[Feedback]:
        return [self._said[one] for one in sorted(self._said, reverse=True)]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.FeedbackStore.forget`."""
        if user_id == "":
            return 0
        self._erasures[tenant, user_id] = self._clock()
        return self._drop([one for one in self._said.values() if one.tenant == tenant and user_id in {None, one.user}])

    async def prune(self, max_rows: int) -> int:
        """See `ports.FeedbackStore.prune`."""
        now = self._clock()
        self._erasures = {place: at for place, at in self._erasures.items() if at >= now - _ERASURES_KEPT}
        return self._drop(self._newest_first()[max_rows:]) if len(self._said) > max_rows else 0

    def _drop(self, gone: list[Feedback]) -> int:
        for one in gone:
            del self._said[one.id]
            self._names.discard(_name(one))
        return len(gone)


def _name(one: Feedback) -> tuple[str, UUID, UUID, bytes]:
    return one.tenant, one.request_id, one.by, one.digest
