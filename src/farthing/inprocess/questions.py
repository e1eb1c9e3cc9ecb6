"""Questions in this process: the semantic cache's memory in each worker, and its whole store in the smallest set-up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from farthing.inprocess.cells import Cells, distances
from farthing.inprocess.flushes import Facts, Flushes
from farthing.inprocess.question_slots import Kept, Leavers, Slots, micros
from farthing.inprocess.slot_table import SlotTable
from farthing.inprocess.stores import InProcessChanges
from farthing.lazily import Lazily
from farthing.types import CacheScope, Neighbour, Question, QuestionsGone, ServedHit, utc_now

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Lazily("numpy")

_SLICE = 16
"""Questions that are handled before others get their turn: half a millisecond, some where cells must be divided."""
_LOOSE = 16
"""So many questions of a partition are kept as they are; with one more it gets cells."""
_STRETCH = 4096
_END = -1
_IDS_PER_NOTE = 200


class InProcessQuestions:
    """`ports.QuestionStore`. Holds `max_entries` and about `max_bytes` at most, and lets go of what is worth least at once.

    A partition of a few questions is a chain through them and costs nothing of its own; a large one has `Cells`. Nothing takes a thread and
    nothing holds the event loop for long: what is many is done in slices. `changes`, if there are any, are told as the database tells.
    """

    def __init__(
        self,
        changes: InProcessChanges | None = None,
        *,
        dimensions: int = 384,
        max_entries: int = 100_000,
        max_bytes: int = 256_000_000,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._changes = changes
        self._dimensions = dimensions
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._slots = Slots(max_entries + 1)
        self._leavers = Leavers(self._slots)
        self._by_id = SlotTable(max_entries + 1)
        self._chains = SlotTable(max_entries + 1)
        self._homes: NDArray[np.object_] = np.empty(max_entries + 1, object)
        self._places = np.zeros(max_entries + 1, np.int32)  # the row in the cell, or the next slot of the chain
        self._large: dict[tuple[int, bytes], Cells] = {}
        self._partitions: dict[int, bytes] = {}  # by id() of the cells
        self._flushes = Flushes()

    @property
    def held_bytes(self) -> int:
        """Memory that the questions take, about."""
        return self._slots.bytes

    @property
    def count(self) -> int:
        """Questions that are held, those that expired a moment ago included."""
        return self._slots.count

    def holds(self, tenant: str, partition: bytes) -> bool:
        """Whether there may be a live question in a partition of a tenant. At once."""
        number = self._slots.number(tenant)
        return number is not None and ((number, partition) in self._large or next(self._chain(number, partition), None) is not None)

    async def search(self, tenant: str, partition: bytes, vector: bytes, *, most: int) -> list[Neighbour]:
        """See `ports.QuestionIndex.search`. Exact in partitions of up to some thousand questions."""
        number = self._slots.number(tenant)
        if number is None or most < 1 or not self._usable(vector):
            return []
        query = np.frombuffer(vector, np.int8)[None]
        now = micros(self._clock())
        cells = self._large.get((number, partition))
        if cells is not None:
            near = cells.nearest(query, most, self._slots.expires, now)
            return [self._neighbour(slot, self._slots.kept(slot), cells.row(slot), partition, far) for slot, far in near]
        chain = [(slot, kept) for slot, kept in self._chain(number, partition) if self._slots.expires[slot] > now]
        if not chain:
            return []
        rows = np.frombuffer(b"".join([kept.vector for _, kept in chain]), np.int8).reshape(len(chain), -1)
        far = distances(query, rows)[0]
        return [
            self._neighbour(chain[at][0], chain[at][1], chain[at][1].vector, partition, float(far[at]))
            for at in np.argsort(far, kind="stable")[:most].tolist()
        ]

    async def put(self, questions: Sequence[Question]) -> None:
        """See `ports.QuestionIndex.put`. What is put may be gone at once, when everything else is worth more."""
        new: list[str] = []
        try:
            for at, question in enumerate(questions):
                if at % _SLICE == _SLICE - 1:
                    await asyncio.sleep(0)
                if self._put(question, self._clock()):
                    new.append(question.id.hex)
        finally:
            if self._changes is not None:
                for start in range(0, len(new), _IDS_PER_NOTE):
                    self._changes.publish("questions", ",".join(new[start : start + _IDS_PER_NOTE]))

    async def remove(self, tenant: str, ids: Sequence[UUID]) -> int:
        """See `ports.QuestionIndex.remove`."""
        gone: list[UUID] = []
        for at, one in enumerate(ids):
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            slot = self._slot(one.bytes)
            if slot is not None and self._slots.tenants[slot] == self._slots.number(tenant):
                self._drop(slot)
                gone.append(one)
        for start in range(0, len(gone), _IDS_PER_NOTE):
            self._tell(QuestionsGone(tenant=tenant, ids=tuple(gone[start : start + _IDS_PER_NOTE]), at=self._clock()))
        return len(gone)

    async def forget(self, tenant: str, scope: CacheScope) -> int:
        """See `ports.QuestionIndex.forget`."""
        at = self._clock()
        self._flushes.add(tenant, scope, at)
        self._tell(QuestionsGone(tenant=tenant, scope=scope, at=at))
        gone = 0
        async for slot in self._those(tenant, lambda kept: scope.covers(**_facts(kept))):
            self._drop(slot)
            gone += 1
        return gone

    async def prune(self, max_rows: int) -> int:
        """See `ports.QuestionIndex.prune`."""
        before = self._slots.count
        await self._drop_all(self._slots.expired(micros(self._clock())))
        await self._drop_all(self._slots.least(max(self._slots.count - max_rows, 0)))
        self._flushes.prune(self._clock())
        return before - self._slots.count

    async def size(self, tenant: str | None = None) -> int:
        """See `ports.QuestionIndex.size`."""
        return self._slots.live(micros(self._clock()), tenant)

    async def latest(self, limit: int) -> list[Question]:
        """See `ports.QuestionStore.latest`."""
        slots = self._slots.best(limit, micros(self._clock()))
        found: list[Question] = []
        for at, slot in enumerate(slots):
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            if self._slots.tenants[slot]:
                found.append(self._question(slot))
        return found

    async def named(self, ids: Sequence[UUID]) -> list[Question]:
        """See `ports.QuestionStore.named`."""
        now = micros(self._clock())
        slots = [self._slot(one.bytes) for one in ids]
        return [self._question(slot) for slot in slots if slot is not None and self._slots.expires[slot] > now]

    async def served(self, hits: Sequence[ServedHit]) -> None:
        """Answers of these questions were given again: see `reused`."""
        for hit in hits:
            self.reused(hit.tenant, [hit.question_id])

    def reused(self, tenant: str, ids: Iterable[UUID]) -> None:
        """The answers to these questions of a tenant were given again: they are worth more. Unknown ones are ignored."""
        for one in ids:
            slot = self._slot(one.bytes)
            if slot is not None and self._slots.tenants[slot] == self._slots.number(tenant):
                self._slots.reused(slot)

    async def of_user(self, tenant: str, user_id: str) -> set[UUID]:
        """The questions of a user."""
        return {UUID(bytes=self._slots.name(slot)) async for slot in self._those(tenant, lambda kept: kept.user_id == user_id)}

    def _put(self, question: Question, now: datetime) -> bool:
        if not self._usable(question.vector) or question.expires_at <= now or self._slot(question.id.bytes) is not None:
            return False
        if self._flushes.cover(question.tenant, question.created_at, **_facts(question)):
            return False
        newcomer: int | None = self._insert(question)
        while self._slots.count > self._max_entries or self._slots.bytes > self._max_bytes:
            leaver = self._leavers.take(micros(now), newcomer)
            newcomer = None if leaver == newcomer else newcomer
            self._drop(leaver)
        return newcomer is not None

    def _usable(self, vector: bytes) -> bool:
        return len(vector) == self._dimensions and vector.count(0) < self._dimensions

    def _insert(self, question: Question) -> int:
        kept = Kept(
            question.namespace,
            question.user_id,
            question.tags,
            question.answer_key,
            question.request_id.bytes,
            question.cost_microusd,
            micros(question.created_at),
            question.payload,
            b"",
            b"",
        )
        number = self._slots.number(question.tenant)
        cells = self._large.get((number, question.partition)) if number is not None else None
        if cells is None:
            kept = msgspec.structs.replace(kept, vector=question.vector, partition=question.partition)
        slot = self._slots.put(question, kept)
        self._by_id.add(hash(question.id.bytes), slot)
        if cells is not None:
            self._slots.bytes += self._dimensions
            cells.add(np.array([slot], np.int32), np.frombuffer(question.vector, np.int8)[None])
            return slot
        number = int(self._slots.tenants[slot])
        chain = [(slot, kept), *self._chain(number, question.partition)]
        mark = hash((number, question.partition))
        if len(chain) > 1:
            self._places[slot] = chain[1][0]
            self._chains.replace(mark, chain[1][0], slot)
        else:
            self._places[slot] = _END
            self._chains.add(mark, slot)
        if len(chain) > _LOOSE:
            self._give_cells(number, question.partition, chain)
        return slot

    def _give_cells(self, number: int, partition: bytes, chain: Sequence[tuple[int, Kept]]) -> None:
        self._chains.drop(hash((number, partition)), chain[0][0])
        cells = self._large[number, partition] = Cells(self._dimensions, self._homes, self._places)
        self._partitions[id(cells)] = partition
        rows = np.frombuffer(b"".join([kept.vector for _, kept in chain]), np.int8).reshape(len(chain), -1)
        for slot, kept in chain:
            self._slots.keep(slot, msgspec.structs.replace(kept, vector=b"", partition=b""))
            self._slots.bytes += self._dimensions
        cells.add(np.array([slot for slot, _ in chain], np.int32), rows)

    def _drop(self, slot: int) -> None:
        number = int(self._slots.tenants[slot])
        self._by_id.drop(hash(self._slots.name(slot)), slot)
        cell = self._homes[slot]
        if cell is not None:
            cells: Cells = cell.of
            cells.remove(slot)
            self._slots.bytes -= self._dimensions
            if not cells.count:
                del self._large[number, self._partitions.pop(id(cells))]
        else:
            self._unchain(number, self._slots.kept(slot).partition, slot)
        self._slots.drop(slot)

    def _unchain(self, number: int, partition: bytes, slot: int) -> None:
        mark = hash((number, partition))
        chain = [one for one, _ in self._chain(number, partition)]
        at, following = chain.index(slot), int(self._places[slot])
        if at:
            self._places[chain[at - 1]] = following
        elif following == _END:
            self._chains.drop(mark, slot)
        else:
            self._chains.replace(mark, slot, following)

    def _chain(self, number: int, partition: bytes) -> Iterator[tuple[int, Kept]]:
        """The questions of a small partition."""
        for head in self._chains.find(hash((number, partition))):
            kept = self._slots.kept(head)
            if kept.partition == partition and self._slots.tenants[head] == number:
                yield head, kept
                slot = int(self._places[head])
                while slot != _END:
                    yield slot, self._slots.kept(slot)
                    slot = int(self._places[slot])
                return

    def _slot(self, name: bytes) -> int | None:
        return next((slot for slot in self._by_id.find(hash(name)) if self._slots.has(slot, name)), None)

    def _question(self, slot: int) -> Question:
        kept, cell = self._slots.kept(slot), self._homes[slot]
        if cell is None:
            return self._slots.question(slot, kept, kept.vector, kept.partition)
        return self._slots.question(slot, kept, cell.of.row(slot), self._partitions[id(cell.of)])

    def _neighbour(self, slot: int, kept: Kept, vector: bytes, partition: bytes, far: float) -> Neighbour:
        return Neighbour(question=self._slots.question(slot, kept, vector, partition), similarity=1 - far)

    async def _those(self, tenant: str, wanted: Callable[[Kept], bool]) -> AsyncIterator[int]:
        """The slots of those questions of a tenant. Others get their turns meanwhile."""
        start = 0
        while start < self._slots.top:
            for at, slot in enumerate(self._slots.of(tenant, range(start, min(start + _STRETCH, self._slots.top)))):
                if at % _SLICE == _SLICE - 1:
                    await asyncio.sleep(0)
                if self._slots.tenants[slot] == self._slots.number(tenant) and wanted(self._slots.kept(slot)):
                    yield slot
            start += _STRETCH
            await asyncio.sleep(0)

    async def _drop_all(self, slots: Sequence[int]) -> None:
        """Drop what is in these slots, unless they have been given to others meanwhile."""
        names = self._slots.names(slots)
        for at in range(len(slots)):
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            slot = self._slot(names[16 * at : 16 * at + 16])
            if slot is not None:
                self._drop(slot)

    def _tell(self, note: QuestionsGone) -> None:
        if self._changes is not None:
            self._changes.publish("questions", msgspec.json.encode(note).decode())


def _facts(one: Question | Kept) -> Facts:
    return {"namespace": one.namespace, "tags": one.tags, "user_id": one.user_id, "answer_key": one.answer_key}
