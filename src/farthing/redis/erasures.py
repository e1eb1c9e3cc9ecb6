"""Erasures: what was deleted on request, and when, so that what was created before and is still on its way is not stored afterwards.

Who stores watches the sorted set of erasures, reads it, and stores in a transaction that fails when the set has changed meanwhile. Who
erases adds to the set first and deletes then. Whoever stores has therefore either stored before the erasure, and is deleted, or sees it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from farthing.redis.engine import Command
from farthing.redis.layout import Layout, digest, microseconds
from farthing.types import CacheScope, Question

KEPT_FOR: Final = timedelta(days=7)
"""Erasures are remembered for so long: nothing may be stored that was created earlier than that."""


class Erasure(msgspec.Struct, frozen=True, array_like=True):
    """What was deleted: everything of a tenant that fits all that is named. Texts are digests: an erasure names nobody."""

    tenant: bytes
    namespace: bytes | None = None
    tag: bytes | None = None
    user_id: bytes | None = None
    answer_key: bytes | None = None
    id: UUID | None = None

    def covers(self, question: Question) -> bool:
        """Whether a question is in it, whenever it was created."""
        return (
            self.tenant == digest(question.tenant)
            and self.id in {None, question.id}
            and self.answer_key in {None, question.answer_key}
            and self.namespace in {None, digest(question.namespace)}
            and (self.tag is None or self.tag in map(digest, question.tags))
            and (self.user_id is None or (question.user_id is not None and self.user_id == digest(question.user_id)))
        )


def of_scope(tenant: bytes, scope: CacheScope) -> Erasure:
    """The erasure of all that is in a scope."""
    return Erasure(
        tenant=tenant,
        namespace=None if scope.namespace is None else digest(scope.namespace),
        tag=None if scope.tag is None else digest(scope.tag),
        user_id=None if scope.user_id is None else digest(scope.user_id),
        answer_key=scope.answer_key,
    )


def noting(layout: Layout, erasures: list[Erasure], at: datetime) -> Command:
    """The command that notes erasures. Of the same erasure the last time counts."""
    pairs = [part for erasure in erasures for part in (microseconds(at), msgspec.msgpack.encode(erasure))]
    return ("ZADD", layout.erased, "GT", *pairs)


def since(layout: Layout, at: datetime) -> Command:
    """The command that reads the erasures at or after a time."""
    return ("ZRANGEBYSCORE", layout.erased, microseconds(at), "+inf", "WITHSCORES")


def forgetting(layout: Layout, now: datetime) -> Command:
    """The command that forgets erasures of long ago."""
    return ("ZREMRANGEBYSCORE", layout.erased, "-inf", microseconds(now - KEPT_FOR))


def read(reply: list[Any]) -> list[tuple[Erasure, int]]:
    """Erasures and their times, out of the reply to `since`."""
    return [(msgspec.msgpack.decode(member, type=Erasure), int(float(at))) for member, at in zip(reply[::2], reply[1::2], strict=True)]


def is_erased(question: Question, erasures: list[tuple[Erasure, int]]) -> bool:
    """Whether a question was created before an erasure that covers it."""
    created = microseconds(question.created_at)
    return any(at >= created and erasure.covers(question) for erasure, at in erasures)
