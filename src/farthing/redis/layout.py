"""How questions lie in Redis: the names of the keys, and what is in the hash of each question.

Below the base name, which is also the name of the index: `{farthing:q1:384:f32}`, for prefix, version of this layout, dimensions, and type
of the numbers. The braces put all keys into one slot, so that a cluster of one shard, as MemoryDB is, takes transactions over them.

    …:e:<tenant>:<id>   a hash for each question, which the engine lets expire: `p` where it belongs, `v` its vector, `b` all else
    …:t:<tenant>        the ids of a tenant's questions, by when they expire
    …:tenants           the tenants, by when the last of their questions expires
    …:worth             all questions, by what they are worth
    …:erased            what was deleted on request, by when
    …:pruning           set while a worker prunes

Tenants and partitions appear as digests only: no text of a caller is ever part of a key or a query.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Literal
from uuid import UUID

import msgspec

from farthing.types import Question

LAYOUT_VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DIGEST_BYTES = 16
_FORMATS = {"float32": "f", "float16": "e"}

VectorType = Literal["float32", "float16"]


class _Body(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A question without its vector."""

    id: UUID
    tenant: str
    partition: bytes
    namespace: str
    user_id: str | None
    tags: tuple[str, ...]
    payload: bytes
    answer_key: bytes
    request_id: UUID
    cost_microusd: int
    created_at: datetime
    expires_at: datetime


_ENCODER = msgspec.msgpack.Encoder(uuid_format="bytes")
_DECODER = msgspec.msgpack.Decoder(_Body)


def digest(text: str) -> bytes:
    """What stands for a text of a caller in keys and queries."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def microseconds(at: datetime) -> int:
    """Since 1970. Fits a sorted set's score exactly until 2255."""
    return (at - _EPOCH) // _MICROSECOND


class Layout:
    """The names of one index, and the way of questions into hashes and back."""

    def __init__(self, prefix: str, dimensions: int, vector_type: VectorType) -> None:
        letter = _FORMATS[vector_type]
        self.dimensions = dimensions
        self.vector_type = vector_type
        self.base = f"{{{prefix}:q{LAYOUT_VERSION}:{dimensions}:f{'32' if letter == 'f' else '16'}}}"
        self.entries = f"{self.base}:e:"
        self.tenants = f"{self.base}:tenants"
        self.worth = f"{self.base}:worth"
        self.erased = f"{self.base}:erased"
        self.pruning = f"{self.base}:pruning"
        self._signed = struct.Struct(f"<{dimensions}b")
        self._floats = struct.Struct(f"<{dimensions}{letter}")

    def entry(self, tenant: bytes, question_id: bytes) -> str:
        """The key of a question's hash."""
        return f"{self.entries}{tenant.hex()}:{question_id.hex()}"

    def tenant(self, tenant: bytes) -> str:
        """The key of a tenant's ids."""
        return f"{self.base}:t:{tenant.hex()}"

    def place(self, tenant: bytes, partition: bytes) -> str:
        """The tag that only the questions of this tenant's partition have."""
        return blake2b(tenant + partition, digest_size=_DIGEST_BYTES).hexdigest()

    def vector(self, packed: bytes) -> bytes | None:
        """A vector as the engine takes it; None for one of the wrong length or without direction. No component is rounded."""
        if len(packed) != self.dimensions or not any(packed):
            return None
        return self._floats.pack(*self._signed.unpack(packed))

    def body(self, question: Question) -> bytes:
        """All of a question but its vector."""
        return _ENCODER.encode(_Body(**{name: getattr(question, name) for name in _Body.__struct_fields__}))

    def question(self, body: bytes | None, vector: bytes | None) -> Question | None:
        """A question out of its hash; None when somebody else wrote something else there."""
        try:
            found = _DECODER.decode(body or b"")
            packed = self._signed.pack(*map(int, self._floats.unpack(vector or b"")))
        except (msgspec.MsgspecError, struct.error, ValueError, OverflowError):
            return None
        return Question(vector=packed, **msgspec.structs.asdict(found))
