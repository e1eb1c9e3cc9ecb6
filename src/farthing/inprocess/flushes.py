"""What was flushed, and when, so that what was created before and is still on its way is not stored afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypedDict, Unpack

from farthing.types import CacheScope

_KEPT = timedelta(days=7)
_EVERYTHING = CacheScope()


class Facts(TypedDict):
    """What decides whether a scope covers an answer or a question."""

    namespace: str
    tags: Sequence[str]
    user_id: str | None
    answer_key: bytes


class Flushes:
    """Flushes of the last 7 days. Of each tenant `most` are told apart; with one more the oldest counts for all that the tenant has.

    What is not stored because of that is only asked again.
    """

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self._at: dict[str, dict[CacheScope, datetime]] = {}

    def add(self, tenant: str, scope: CacheScope, at: datetime) -> None:
        """Note a flush."""
        ours = self._at.setdefault(tenant, {})
        ours.pop(scope, None)
        ours[scope] = at
        if len(ours) > self._most:
            oldest = next(one for one in ours if one != _EVERYTHING)
            ours[_EVERYTHING] = max(ours.pop(oldest), ours.get(_EVERYTHING, at.min.replace(tzinfo=at.tzinfo)))

    def cover(self, tenant: str, created_at: datetime, **facts: Unpack[Facts]) -> bool:
        """Whether something with these facts, created at this time, was flushed."""
        return any(at >= created_at and scope.covers(**facts) for scope, at in self._at.get(tenant, {}).items())

    def prune(self, now: datetime) -> None:
        """Forget those that are too old to matter."""
        for tenant, ours in list(self._at.items()):
            kept = {scope: at for scope, at in ours.items() if at >= now - _KEPT}
            if kept:
                self._at[tenant] = kept
            else:
                del self._at[tenant]
