"""Answers ready before the click, in the memory of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from farthing.inprocess.states import InProcessStates
from farthing.types import EdgeAnswer, time_of, utc_now

_ERASURES_KEPT = timedelta(days=7)
Place = tuple[str, str, str]


class InProcessEdge:
    """`ports.EdgeStore`. `states` are those that the event bus of this process makes go up. Holds `max_rows` answers, the newest."""

    def __init__(self, states: InProcessStates, *, max_rows: int = 100_000, clock: Callable[[], datetime] = utc_now) -> None:
        self._states = states
        self._max_rows = max_rows
        self._clock = clock
        self._answers: dict[Place, EdgeAnswer] = {}
        self._erasures: dict[tuple[str, str | None], datetime] = {}

    async def get(self, tenant: str, user: str, action: str) -> EdgeAnswer | None:
        """See `ports.EdgeStore.get`."""
        found = self._answers.get((tenant, user, action))
        return found if found is not None and self._fresh(found) else None

    async def put(self, answer: EdgeAnswer) -> bool:
        """See `ports.EdgeStore.put`."""
        place = (answer.tenant, answer.user, answer.action)
        if not self._fresh(answer) or self._erased(answer):
            return False
        held = self._answers.get(place)
        if held is None or not self._fresh(held) or held.made_at <= answer.made_at:
            self._answers.pop(place, None)
            self._answers[place] = answer
            self._drop(list(self._answers)[: max(len(self._answers) - self._max_rows, 0)])
        return True

    async def versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """See `ports.EdgeStore.versions`."""
        return self._states.versions(tenant, states)

    async def bump(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """See `ports.EdgeStore.bump`."""
        return self._states.bump(tenant, states)

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.EdgeStore.forget`."""
        if user_id == "":
            return 0
        self._erasures[tenant, user_id] = self._clock()
        return self._drop([place for place in self._answers if place[0] == tenant and user_id in {None, place[1]}])

    async def prune(self, max_rows: int) -> int:
        """See `ports.EdgeStore.prune`."""
        now = self._clock()
        self._erasures = {place: at for place, at in self._erasures.items() if at >= now - _ERASURES_KEPT}
        gone = self._drop([place for place, one in self._answers.items() if not self._fresh(one)])
        oldest_first = sorted(self._answers, key=lambda place: self._answers[place].made_at)
        return gone + self._drop(oldest_first[: max(len(oldest_first) - max_rows, 0)])

    async def close(self) -> None:
        """See `ports.EdgeStore.close`."""

    def _fresh(self, answer: EdgeAnswer) -> bool:
        return answer.expires_at > self._clock() and self._states.versions(answer.tenant, list(answer.versions)) == answer.versions

    def _erased(self, answer: EdgeAnswer) -> bool:
        begun = time_of(answer.request_id)
        ends = (self._erasures.get((answer.tenant, who)) for who in (None, answer.user))
        return any(end is not None and end >= begun for end in ends)

    def _drop(self, places: Iterable[Place]) -> int:
        gone = list(places)
        for place in gone:
            del self._answers[place]
        return len(gone)
