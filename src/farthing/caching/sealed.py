"""Questions at rest, sealed: what the store and its backups hold of a text is opened by the key of the settings only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from msgspec.structs import replace

from farthing.cipher import CannotOpen, Cipher
from farthing.ports import QuestionIndex, QuestionStore
from farthing.types import CacheScope, Neighbour, Question


class SealedIndex:
    """A `ports.QuestionIndex` in front of another one. Vectors, and what is needed to find and delete, stay in clear.

    A question that cannot be opened (another key, or stored before there was one) is as good as absent.
    """

    def __init__(self, index: QuestionIndex, cipher: Cipher) -> None:
        self._index = index
        self._cipher = cipher

    async def search(self, tenant: str, partition: bytes, vector: bytes, *, most: int) -> list[Neighbour]:
        """See `ports.QuestionIndex.search`."""
        found = await self._index.search(tenant, partition, vector, most=most)
        return [replace(one, question=opened) for one in found for opened in self._opened([one.question])]

    async def put(self, questions: Sequence[Question]) -> None:
        """See `ports.QuestionIndex.put`."""
        await self._index.put([replace(one, payload=self._cipher.seal(one.payload, _about(one))) for one in questions])

    async def remove(self, tenant: str, ids: Sequence[UUID]) -> int:
        """See `ports.QuestionIndex.remove`."""
        return await self._index.remove(tenant, ids)

    async def forget(self, tenant: str, scope: CacheScope) -> int:
        """See `ports.QuestionIndex.forget`."""
        return await self._index.forget(tenant, scope)

    async def prune(self, max_rows: int) -> int:
        """See `ports.QuestionIndex.prune`."""
        return await self._index.prune(max_rows)

    async def size(self, tenant: str | None = None) -> int:
        """See `ports.QuestionIndex.size`."""
        return await self._index.size(tenant)

    def _opened(self, questions: Iterable[Question]) -> Iterable[Question]:
        for one in questions:
            try:
                yield replace(one, payload=self._cipher.open(one.payload, _about(one)))
            except CannotOpen:
                continue


class SealedQuestions(SealedIndex):
    """A `ports.QuestionStore` in front of another one."""

    def __init__(self, store: QuestionStore, cipher: Cipher) -> None:
        super().__init__(store, cipher)
        self._store = store

    async def latest(self, limit: int) -> list[Question]:
        """See `ports.QuestionStore.latest`."""
        return list(self._opened(await self._store.latest(limit)))

    async def named(self, ids: Sequence[UUID]) -> list[Question]:
        """See `ports.QuestionStore.named`."""
        return list(self._opened(await self._store.named(ids)))


def _about(question: Question) -> bytes:
    return b"question\0%s\0%s" % (question.tenant.encode(), question.id.bytes)
