"""The caches' stores, and what people do with them. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol
from uuid import UUID

from farthing.types import (
    CacheScope,
    Json,
    Neighbour,
    Question,
    Request,
    ServedHit,
    StoredAnswer,
    Verdict,
)

EVERYTHING = CacheScope()
"""All that a tenant has."""


class AnswerStore(Protocol):
    """The shared, durable tier of the exact cache. Entries past `expires_at` count as absent."""

    async def get(self, tenant: str, key: bytes) -> StoredAnswer | None:
        """The entry of this tenant under this key; None when absent, expired, or another tenant's."""

    async def put(self, entries: Sequence[StoredAnswer]) -> None:
        """Store entries, replacing older ones of the same key, and tell other workers their keys. All or nothing."""

    async def keys(self, limit: int) -> list[bytes]:
        """At most `limit` keys of live entries of all tenants, newest first. A key says nothing about what is stored under it."""

    async def forget(self, tenant: str, scope: CacheScope = EVERYTHING) -> int:
        """Delete all entries of a tenant that are in the scope. Returns how many went.

        Entries of the scope that were created before this are not stored any more. Of a user are those that were made on his behalf.
        """

    async def prune(self, max_rows: int) -> int:
        """Delete expired entries, then the oldest beyond `max_rows`. Returns how many went."""


class QuestionIndex(Protocol):
    """Finds questions that were answered before. Questions past `expires_at` count as absent. Nothing ever crosses a partition."""

    async def search(self, tenant: str, partition: bytes, vector: bytes, *, most: int) -> list[Neighbour]:
        """The nearest questions of a tenant's partition, nearest first, at most `most`; empty when there is none.

        Raises `Unavailable` when the index is away. The caller sets the deadline.
        """

    async def put(self, questions: Sequence[Question]) -> None:
        """Add questions, and tell other workers where there are any.

        One whose id is there already is skipped, so that a batch may be repeated after any failure. A vector of the wrong length, or one
        without direction (all zero), is skipped too.
        """

    async def remove(self, tenant: str, ids: Sequence[UUID]) -> int:
        """Delete questions of a tenant, at once and everywhere. Returns how many there were."""

    async def forget(self, tenant: str, scope: CacheScope) -> int:
        """Delete all questions of a tenant that are in the scope. Returns how many there were.

        Questions of the scope that were created until now are not stored any more: another worker may still have some on their way.
        """

    async def prune(self, max_rows: int) -> int:
        """Delete what has expired, then what is worth least (`types.question_worth`) beyond `max_rows`. Returns how many went."""

    async def size(self, tenant: str | None = None) -> int:
        """How many live questions there are, of one tenant or (None) of all. May be off by what expired a moment ago."""


class QuestionStore(QuestionIndex, Protocol):
    """A durable index that workers copy into their memory."""

    async def latest(self, limit: int) -> list[Question]:
        """At most `limit` live questions of all tenants, the most valuable first."""

    async def named(self, ids: Sequence[UUID]) -> list[Question]:
        """Those of these questions that are live. For news from other workers."""


class CacheRecords(Protocol):
    """What the semantic cache did, and what came of it. Everything is idempotent."""

    async def served(self, hits: Sequence[ServedHit]) -> None:
        """Note hits, and count them as reuse of their questions. A request that was noted already is skipped."""

    async def hits(self, tenant: str, question_id: UUID, limit: int) -> list[ServedHit]:
        """At most `limit` requests that a question's answer was given to, newest first."""

    async def hit(self, tenant: str, request_id: UUID) -> ServedHit | None:
        """What a request of this tenant was answered with; None when it was not a semantic hit, or is not known (any more)."""

    async def add_verdicts(self, verdicts: Sequence[Verdict]) -> list[UUID]:
        """Store verdicts and tell other workers. Returns the ids of those that are new."""

    async def verdicts(self, limit: int, tenant: str | None = None) -> list[Verdict]:
        """At most `limit` verdicts of one tenant or (None) of all, newest first."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all hits and verdicts of (None) a tenant, or of the questions of a user, while they are there. Returns how many went.

        Those of a tenant that happened before this are not stored any more.
        """

    async def prune(self, *, max_hits: int, max_verdicts: int) -> int:
        """Delete the oldest hits and verdicts beyond these numbers. Returns how many went."""


class CacheControl(Protocol):
    """What people do with the caches: empty them, ask why, say that an answer was wrong. Results are plain JSON objects."""

    async def flush(self, tenant: str | None, scope: CacheScope) -> Json:
        """Delete cached answers and questions in a scope, of one tenant or (None) of all, in every worker. Says how many.

        Answers to requests under way are not kept. Raises the stores' errors; a second call does what the first could not.
        """

    async def explain(self, request: Request) -> Json:
        """What would be done with this request, and why, without doing it: no model is called, nothing is kept or counted."""

    async def hear(self, tenant: str, request_id: UUID, *, right: bool, by: Literal["thumb", "correction"]) -> Json:
        """What a person says of the answer that a request got from the semantic cache. Idempotent.

        Says what followed and, when the cached answer was found bad, which requests it went to. Raises `NotFound` when the request was
        not answered by the semantic cache.
        """

    async def hits(self, tenant: str, question_id: UUID, limit: int) -> Json:
        """The requests that the answer of a cached question went to, newest first."""

    async def stats(self) -> Json:
        """How much there is, and how the semantic cache does, tenant by tenant."""
