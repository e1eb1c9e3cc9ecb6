"""What the caches keep. See `types`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An exact-cache entry as the shared tier keeps it.

    `key` is a 32-byte digest that already covers tenant, namespace and the normalised request. `payload` is opaque to the store.
    `cost_microusd` is what the model call cost: the saving of each hit. `user_id` is on whose behalf it was made: it is forgotten with him,
    though whoever asks the same is given it.
    """

    key: bytes
    tenant: str
    user_id: str | None = None
    namespace: str
    tags: tuple[str, ...] = ()
    model: str
    payload: bytes
    cost_microusd: int
    created_at: datetime
    expires_at: datetime


class Question(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A question that was answered, as the semantic cache keeps it, and where its answer is.

    `partition` is a 32-byte digest of all that must be equal before two questions may be compared: tenant, namespace, user where the
    question is personal, the context around it, the version of the embedder. `user_id` is on whose behalf it was asked: it is forgotten
    with him, personal or not. `vector` is its embedding, one signed byte for each
    dimension (see `ports.Encoded`). `payload` is opaque to stores and may be sealed: the text and what is known of its words.
    `answer_key` is the `StoredAnswer.key` of its answer, `request_id` the request that brought it. `id` is a UUIDv7.
    """

    id: UUID
    tenant: str
    partition: bytes
    namespace: str
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    vector: bytes
    payload: bytes
    answer_key: bytes
    request_id: UUID
    cost_microusd: int
    created_at: datetime
    expires_at: datetime


_WORTH_HALVES_IN_S = 7 * 86_400


def question_worth(cost_microusd: int, reuse: int, created_at: datetime) -> float:
    """How much a cached question is worth keeping: the cost that it saves times (1 + reuse), halved with each week of its age.

    On a scale of logarithms to base 2, where fading is the same for all: who is worth more now is worth more at any time, so that stores
    may keep the figure and sort by it. Reuse counts in whole doublings, so that they need not sort again at each hit.
    """
    return math.log2(max(cost_microusd, 1)) + (1 + reuse).bit_length() - 1 + created_at.timestamp() / _WORTH_HALVES_IN_S


class Neighbour(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A question that is near another one. `similarity` is the cosine of their vectors, -1 to 1."""

    question: Question
    similarity: float


class CacheScope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which cached answers and questions of a tenant are meant: those that fit everything that is named. Nothing named: all of them."""

    namespace: str | None = None
    tag: str | None = None
    user_id: str | None = None
    answer_key: bytes | None = None

    def covers(self, *, namespace: str, tags: Sequence[str], user_id: str | None, answer_key: bytes) -> bool:
        """Whether something with these facts is meant."""
        return (
            self.namespace in {None, namespace}
            and (self.tag is None or self.tag in tags)
            and (self.user_id is None or self.user_id == user_id)
            and self.answer_key in {None, answer_key}
        )


class QuestionsGone(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A note to other workers: these questions of a tenant were deleted. `ids`, or (None) all in the scope that were created until `at`."""

    tenant: str
    ids: tuple[UUID, ...] | None = None
    scope: CacheScope = CacheScope()
    at: datetime


class ServedHit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request that was answered with the answer to another question.

    `score` is the verifier's log-odds, before calibration, that both ask for the same. `request_id` identifies the hit; `answer_key` is
    that of the question.
    """

    request_id: UUID
    question_id: UUID
    answer_key: bytes
    tenant: str
    score: float
    saved_microusd: int
    at: datetime


VerdictBy = Literal["thumb", "correction", "shadow", "judge"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whether the answer to one question is right for another one that was asked.

    `question_id` is the cached one, `request_id` the request that asked, `score` as in `ServedHit`. `served`: the cached answer was
    given; else it was only compared afterwards. `audit`: how likely the hit was to be chosen at random to be looked at, relative to an
    average hit of its time; the estimate of the error weighs by it. 0: it was not chosen at random. A second verdict with the same `id` is
    the same one.
    """

    id: UUID
    tenant: str
    question_id: UUID
    request_id: UUID
    same: bool
    by: VerdictBy
    score: float
    served: bool
    audit: float = 0.0
    at: datetime
