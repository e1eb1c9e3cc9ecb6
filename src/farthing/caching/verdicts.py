"""What is heard about answers from the semantic cache, and what follows from it: at once here, a moment later in every worker.

Whoever has something to say comes here: the feedback door (a thumb, a correction), the second looks of `looks` (a shadow call, a judge).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid5

import msgspec

from farthing.caching.consequence import Consequence, consequence
from farthing.caching.judgement import Judgement
from farthing.errors import FarthingError, NotFound
from farthing.ports import AnswerStore, CacheRecords, QuestionIndex
from farthing.types import CacheScope, ServedHit, Verdict, VerdictBy, utc_now

_log = logging.getLogger("farthing.cache")
_MOST_LISTED = 1000
_PAGE = 50
_FOLDED = 5_000
"""The newest verdicts, which a worker learns from when it starts."""


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What followed from a verdict. `answered`: the requests that got the answer of a question that is dead now, newest first."""

    verdict: Verdict
    new: bool
    consequence: Consequence
    answered: tuple[UUID, ...] = ()


def verdict_id(by: VerdictBy, request_id: UUID, question_id: UUID) -> UUID:
    """One verdict by one kind of judge on one pair, however often it is said."""
    return uuid5(question_id, f"{by}:{request_id}")


class Verdicts:
    """`removed` lets go of a dead question, and `flushed` of its answer, in this worker at once; others hear of it."""

    def __init__(
        self,
        records: CacheRecords,
        questions: QuestionIndex,
        answers: AnswerStore,
        judgement: Judgement,
        removed: Callable[[str, UUID], Awaitable[None]],
        flushed: Callable[[], None],
    ) -> None:
        self._records = records
        self._questions = questions
        self._answers = answers
        self._judgement = judgement
        self._removed = removed
        self._flushed = flushed

    async def on_request(self, tenant: str, request_id: UUID, *, same: bool, by: VerdictBy) -> Followed:
        """What a person says about the answer to a request. Raises `NotFound` when it was no semantic hit of this tenant."""
        hit = await self._records.hit(tenant, request_id)
        if hit is None:
            raise NotFound(
                f"{request_id}: no answer from the semantic cache to a request of this tenant has that id (any more)", param="request_id"
            )
        return await self.add(of_hit(hit, same=same, by=by), hit.answer_key)

    async def add(self, verdict: Verdict, answer_key: bytes) -> Followed:
        """Store a verdict, learn from it, and do what follows from it. A second time it changes nothing. Raises the store's errors."""
        new = bool(await self._records.add_verdicts([verdict]))
        follows = consequence(verdict, self._judgement.history(verdict.tenant, verdict.question_id)) if new else "none"
        if new:
            self._judgement.learn([verdict])
        answered: tuple[UUID, ...] = ()
        if follows == "dead":
            await self._kill(verdict.tenant, verdict.question_id, answer_key)
            answered = tuple(hit.request_id for hit in await self._records.hits(verdict.tenant, verdict.question_id, _MOST_LISTED))
            _log.warning("an answer in the semantic cache is poisoned and gone; %d requests got it", len(answered))
        return Followed(verdict=verdict, new=new, consequence=follows, answered=answered)

    async def _kill(self, tenant: str, question_id: UUID, answer_key: bytes) -> None:
        await self._removed(tenant, question_id)
        self._flushed()
        await self._questions.remove(tenant, [question_id])
        await self._answers.forget(tenant, CacheScope(answer_key=answer_key))

    async def heard(self, payload: str) -> None:
        """News of verdicts; nothing: some may have been missed. Raises the store's errors then."""
        if payload:
            self._judgement.learn(msgspec.json.decode(payload, type=list[Verdict]))
        else:
            verdicts = (await self._records.verdicts(_FOLDED))[::-1]
            for start in range(0, len(verdicts), _PAGE):
                self._judgement.learn(verdicts[start : start + _PAGE])
                await asyncio.sleep(0)  # a page takes some milliseconds

    async def try_add(self, verdict: Verdict, answer_key: bytes) -> None:
        """As `add`, for whoever cannot do anything about a store that is away."""
        try:
            await self.add(verdict, answer_key)
        except FarthingError as error:
            _log.debug("a verdict is lost: %s", error)


def of_hit(hit: ServedHit, *, same: bool, by: VerdictBy, audit: float = 0.0, served: bool = True) -> Verdict:
    """The verdict on a hit, or (not `served`) on what would have been one."""
    return Verdict(
        id=verdict_id(by, hit.request_id, hit.question_id),
        tenant=hit.tenant,
        question_id=hit.question_id,
        request_id=hit.request_id,
        same=same,
        by=by,
        score=hit.score,
        served=served,
        audit=audit,
        at=utc_now(),
    )
