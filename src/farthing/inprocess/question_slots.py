"""Questions in numbered slots: columns of numbers, and one string of bytes for the rest. A million of them fit where objects would not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from farthing.lazily import Lazily
from farthing.types import Question, question_worth

if TYPE_CHECKING:
    import numpy as np
else:
    np = Lazily("numpy")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NEVER = 2**63 - 1
OVERHEAD = 150
"""Bytes that a question takes beside its record and vector, about: columns, tables, Python's own."""


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is in no column. `vector` and `partition` are empty where cells have them."""

    namespace: str
    user_id: str | None
    tags: tuple[str, ...]
    answer_key: bytes
    request_id: bytes
    cost_microusd: int
    created_us: int
    payload: bytes
    vector: bytes
    partition: bytes


_pack_into = msgspec.msgpack.Encoder().encode_into
_unpack = msgspec.msgpack.Decoder(Kept).decode


def micros(at: datetime) -> int:
    """Since 1970."""
    return (at - _EPOCH) // _MICROSECOND


class Slots:
    """At most `most` questions. Columns are indexed by slot; memory that was never used is not touched."""

    def __init__(self, most: int) -> None:
        self.worths = np.zeros(most)
        self.expires = np.zeros(most, np.int64)
        self.tenants = np.zeros(most, np.int32)  # 0 where a slot is free, else the tenant's number
        self.records = np.empty(most, object)
        self.top = 0
        self.count = 0
        self.bytes = 0
        self._buffer = bytearray()
        self._ids = bytearray(16 * most)
        self._reuse = memoryview(bytearray(4 * most)).cast("I")
        self._free = np.zeros(most, np.int32)
        self._freed = 0
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._sizes: dict[int, int] = {}
        self._spare: list[int] = []  # numbers of tenants that have nothing any more

    def number(self, tenant: str) -> int | None:
        """The number of a tenant that has questions."""
        return self._numbers.get(tenant)

    def size(self, tenant: str) -> int:
        """How many questions a tenant has, expired ones included."""
        return self._sizes.get(self._numbers.get(tenant, 0), 0)

    def put(self, question: Question, kept: Kept) -> int:
        """Fill a free slot. There must be one."""
        if self._freed:
            self._freed -= 1
            slot = int(self._free[self._freed])
        else:
            slot = self.top
            self.top += 1
        number = self._numbers.get(question.tenant)
        if number is None:
            number = self._spare.pop() if self._spare else len(self._numbers) + 1
            self._numbers[question.tenant], self._names[number] = number, question.tenant
        self._sizes[number] = self._sizes.get(number, 0) + 1
        self._ids[16 * slot : 16 * slot + 16] = question.id.bytes
        self._reuse[slot] = 0
        self.worths[slot] = question_worth(question.cost_microusd, 0, question.created_at)
        self.expires[slot] = micros(question.expires_at)
        self.tenants[slot] = number
        self.count += 1
        self.keep(slot, kept)
        return slot

    def keep(self, slot: int, kept: Kept) -> None:
        """Write a slot's record."""
        old = self.records[slot]
        _pack_into(kept, self._buffer)
        self.records[slot] = record = bytes(self._buffer)  # a copy takes what it needs; what `encode` returns was cut from something larger
        self.bytes += len(record) - (len(old) if old is not None else -OVERHEAD)

    def drop(self, slot: int) -> None:
        """Free a slot."""
        number = int(self.tenants[slot])
        self._sizes[number] -= 1
        if not self._sizes[number]:
            del self._sizes[number], self._numbers[self._names.pop(number)]
            self._spare.append(number)
        self.bytes -= len(self.records[slot]) + OVERHEAD
        self.records[slot] = None
        self.tenants[slot] = 0
        self._free[self._freed] = slot
        self._freed += 1
        self.count -= 1

    def kept(self, slot: int) -> Kept:
        """A slot's record."""
        return _unpack(self.records[slot])

    def has(self, slot: int, name: bytes) -> bool:
        """Whether a slot holds the question with this id."""
        return self._ids[16 * slot : 16 * slot + 16] == name

    def names(self, slots: Sequence[int]) -> bytes:
        """The ids of the questions in many slots, one after the other."""
        return np.frombuffer(self._ids, np.uint8).reshape(-1, 16)[slots].tobytes() if slots else b""

    def name(self, slot: int) -> bytes:
        """The id of the question in a slot."""
        return bytes(self._ids[16 * slot : 16 * slot + 16])

    def reused(self, slot: int) -> None:
        """Count a reuse."""
        reuse = min(self._reuse[slot] + 1, 2**32 - 2)
        self._reuse[slot] = reuse
        self.worths[slot] += (1 + reuse).bit_length() - reuse.bit_length()

    def question(self, slot: int, kept: Kept, vector: bytes, partition: bytes) -> Question:
        """The question as it was put."""
        return Question(
            id=UUID(bytes=self.name(slot)),
            tenant=self._names[int(self.tenants[slot])],
            partition=partition,
            namespace=kept.namespace,
            user_id=kept.user_id,
            tags=kept.tags,
            vector=vector,
            payload=kept.payload,
            answer_key=kept.answer_key,
            request_id=UUID(bytes=kept.request_id),
            cost_microusd=kept.cost_microusd,
            created_at=_EPOCH + timedelta(microseconds=kept.created_us),
            expires_at=_EPOCH + timedelta(microseconds=int(self.expires[slot])),
        )

    def of(self, tenant: str, slots: range) -> list[int]:
        """Those of these slots that are a tenant's."""
        number = self._numbers.get(tenant)
        if number is None:
            return []
        return [slots.start + at for at in np.flatnonzero(self.tenants[slots.start : slots.stop] == number).tolist()]

    def live(self, now: int, tenant: str | None = None) -> int:
        """How many are not expired."""
        tenants = self.tenants[: self.top]
        ours = tenants == self._numbers.get(tenant, -1) if tenant is not None else tenants > 0
        return int(np.count_nonzero(ours & (self.expires[: self.top] > now)))

    def expired(self, now: int) -> list[int]:
        """Slots whose questions are."""
        found: list[int] = np.flatnonzero((self.tenants[: self.top] > 0) & (self.expires[: self.top] <= now)).tolist()
        return found

    def least(self, number: int) -> list[int]:
        """So many slots whose questions are worth least, least first."""
        used = np.flatnonzero(self.tenants[: self.top])
        worths = self.worths[used]
        number = min(number, len(used))
        if number < len(used):
            few = np.argpartition(worths, number)[:number] if number else np.empty(0, np.int64)
            used, worths = used[few], worths[few]
        ordered: list[int] = used[np.argsort(worths, kind="stable")].tolist()
        return ordered

    def best(self, number: int, now: int) -> list[int]:
        """So many slots of live questions that are worth most, most first."""
        used = np.flatnonzero((self.tenants[: self.top] > 0) & (self.expires[: self.top] > now))
        worths = -self.worths[used]
        if number < len(used):
            few = np.argpartition(worths, number)[:number] if number else np.empty(0, np.int64)
            used, worths = used[few], worths[few]
        ordered: list[int] = used[np.argsort(worths, kind="stable")].tolist()
        return ordered


class Leavers:
    """Who goes first when there is no room: what has expired, then what is worth least.

    Looked up for some at a time: with a million questions a look takes 15 ms, and serves for the next 16,000 that must go. What has become
    worth more since then stays, and a newcomer that is worth less than the next one to go goes itself.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._next: list[tuple[int, float]] = []  # the next one last

    def take(self, now: int, newcomer: int | None) -> int:
        """The next slot to be freed. There must be one in use."""
        while True:
            while self._next:
                slot, worth = self._next[-1]
                if self._slots.tenants[slot] and self._slots.worths[slot] <= worth:
                    if newcomer is not None and self._slots.worths[newcomer] < worth and self._slots.expires[slot] > now:
                        return newcomer
                    self._next.pop()
                    return slot
                self._next.pop()
            some = max(self._slots.count // 64, 1)
            leaving = self._slots.expired(now)[:some] or self._slots.least(some)
            self._next = [(slot, float(self._slots.worths[slot])) for slot in reversed(leaving)]
