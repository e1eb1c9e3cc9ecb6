"""Facts of users in dictionaries, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from farthing.facts import Most, checked, checked_user, holds, in_order, is_open, learn, retracted
from farthing.inprocess.stores import InProcessChanges
from farthing.types import Fact, NewFact, Profile, utc_now

_ERASURES_KEPT = timedelta(days=7)
_MS = timedelta(milliseconds=1)
_encode = msgspec.json.Encoder().encode


class InProcessFacts:
    """`ports.FactStore`."""

    def __init__(self, changes: InProcessChanges, *, most: Most | None = None, clock: Callable[[], datetime] = utc_now) -> None:
        self._changes = changes
        self._most = most or Most()
        self._clock = clock
        self._rows: dict[tuple[str, str], dict[UUID, Fact]] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._erasures: dict[tuple[str, str | None], datetime] = {}

    async def profile(self, tenant: str, user: str) -> Profile | None:
        """See `ports.FactStore.profile`."""
        if (tenant, user) not in self._versions:
            return None
        return self._profile(tenant, user)

    def _profile(self, tenant: str, user: str) -> Profile:
        now = self._clock()
        rows = self._rows.get((tenant, user), {})
        facts = tuple([one for one in rows.values() if holds(one, now)])
        return Profile(tenant=tenant, user=user, facts=facts, version=self._versions.get((tenant, user), 0))

    async def learn(self, tenant: str, user: str, facts: Sequence[NewFact], *, arrived: datetime) -> Profile:
        """See `ports.FactStore.learn`."""
        now = self._clock()
        new = checked(facts, now)
        if checked_user(user) and not self._erased(tenant, user, arrived, now):
            rows = self._rows.get((tenant, user), {})
            learnt = learn(tenant, user, list(rows.values()), new, now=now, most=self._most)
            if learnt.changed:
                self._rows[tenant, user] = rows | {one.id: one for one in learnt.changed}
                self._turned(tenant, user, now)
        return self._profile(tenant, user)

    def _erased(self, tenant: str, user: str, arrived: datetime, now: datetime) -> bool:
        erased = [self._erasures[place] for place in ((tenant, None), (tenant, user)) if place in self._erasures]
        return any(when >= arrived for when in erased) or arrived <= now - _ERASURES_KEPT

    def _turned(self, tenant: str, user: str, now: datetime) -> None:
        at = int(now.timestamp() * 1000)
        self._versions[tenant, user] = max(self._versions.get((tenant, user), 0) + 1, at)
        self._changes.publish("facts", _encode({"tenant": tenant, "user": user}).decode())

    async def retract(self, tenant: str, user: str, fact: UUID, *, by: str) -> bool:
        """See `ports.FactStore.retract`."""
        now = self._clock()
        rows = self._rows.get((tenant, user), {})
        found = rows.get(fact)
        if found is None or found.known_to is not None:
            return False
        rows[fact] = retracted(found, by=by, now=now)
        self._turned(tenant, user, now)
        return True

    async def history(self, tenant: str, user: str, *, key: str | None, limit: int) -> list[Fact]:
        """See `ports.FactStore.history`."""
        rows = self._rows.get((tenant, user), {})
        return in_order([one for one in rows.values() if key in {None, one.key}])[:limit]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.FactStore.forget`."""
        if user_id == "":
            return 0
        self._erasures[tenant, user_id] = self._clock()
        gone = [place for place in self._versions if place[0] == tenant and user_id in {None, place[1]}]
        count = 0
        for place in gone:
            count += len(self._rows.pop(place, {}))
            del self._versions[place]
            self._changes.publish("facts", _encode({"tenant": tenant, "user": place[1]}).decode())
        return count

    async def prune(self, *, max_history: int) -> int:
        """See `ports.FactStore.prune`."""
        now = self._clock()
        self._erasures = {place: at for place, at in self._erasures.items() if at >= now - _ERASURES_KEPT}
        everything = [one for rows in self._rows.values() for one in rows.values()]
        expired = [one for one in everything if one.expires_at is not None and one.expires_at <= now]
        ended = in_order([one for one in everything if not is_open(one) and one not in expired])
        for one in (*expired, *ended[max_history:]):
            del self._rows[one.tenant, one.user][one.id]
        return len(expired) + len(ended[max_history:])
