"""`ports.CacheControl` over both caches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal
from uuid import UUID

import msgspec

from farthing.caching.exact import ExactCache
from farthing.caching.judgement import Considered, Decision
from farthing.caching.keys import exact_key
from farthing.caching.semantic import SemanticCache
from farthing.caching.verdicts import Verdicts
from farthing.errors import NotFound
from farthing.ports import AnswerStore, CacheRecords, QuestionIndex
from farthing.types import CacheScope, Json, Request, Source, time_of


class Control:
    """`semantic` and `verdicts` are None where there is no semantic cache. `tenants` are all that there ever were."""

    def __init__(
        self,
        exact: ExactCache,
        semantic: SemanticCache | None,
        verdicts: Verdicts | None,
        answers: AnswerStore,
        questions: QuestionIndex,
        records: CacheRecords,
        tenants: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        self._exact = exact
        self._semantic = semantic
        self._verdicts = verdicts
        self._answers = answers
        self._questions = questions
        self._records = records
        self._tenants = tenants

    async def flush(self, tenant: str | None, scope: CacheScope) -> Json:
        """See `ports.CacheControl.flush`."""
        self._exact.flush()
        answers = questions = 0
        for one in await self._tenants() if tenant is None else (tenant,):
            answers += await self._answers.forget(one, scope)
            questions += await self._questions.forget(one, scope)
        return {"object": "farthing.cache_flush", "tenant": tenant, "answers": answers, "questions": questions}

    async def explain(self, request: Request) -> Json:
        """See `ports.CacheControl.explain`."""
        shown: Json = {"object": "farthing.cache_explanation", "model": request.model, "namespace": request.extras.namespace}
        if request.extras.cache == "off":
            return {**shown, "source": Source.MODEL, "why": "the request says cache: off"}
        if await self._exact.stored(request.principal.tenant, exact_key(request)) is not None:
            return {**shown, "source": Source.EXACT, "why": "the same request was answered before"}
        if self._semantic is None:
            return {**shown, "source": Source.MODEL, "why": "there is no semantic cache (settings cache.semantic, cache.exact)"}
        asked, decision = await self._semantic.consider(request)
        source = Source.SEMANTIC if isinstance(decision, Decision) and decision.accepted else Source.MODEL
        if not isinstance(decision, Decision):
            return {**shown, "source": source, "why": decision.why}
        return {
            **shown,
            "source": source,
            "why": decision.why,
            "personal": asked is not None and asked.user_id is not None,
            "delta": asked.delta if asked else None,
            "candidates": [_shown(one) for one in decision.considered],
            "decision": msgspec.to_builtins(self._semantic.explanation(request.principal.tenant, asked, decision.best))
            if asked is not None and decision.best is not None
            else None,
        }

    async def hear(self, tenant: str, request_id: UUID, *, right: bool, by: Literal["thumb", "correction"]) -> Json:
        """See `ports.CacheControl.hear`."""
        if self._verdicts is None:
            raise NotFound("there is no semantic cache (settings cache.semantic, cache.exact)")
        followed = await self._verdicts.on_request(tenant, request_id, same=right, by=by)
        return {
            "object": "farthing.cache_verdict",
            "id": followed.verdict.id,
            "question": followed.verdict.question_id,
            "new": followed.new,
            "consequence": followed.consequence,
            "answered": list(followed.answered),
        }

    async def hits(self, tenant: str, question_id: UUID, limit: int) -> Json:
        """See `ports.CacheControl.hits`."""
        found = await self._records.hits(tenant, question_id, limit)
        rows = [{"request_id": one.request_id, "at": one.at, "saved_microusd": one.saved_microusd} for one in found]
        return {"object": "list", "question": question_id, "data": rows}

    async def stats(self) -> Json:
        """See `ports.CacheControl.stats`."""
        return {
            "object": "farthing.cache_stats",
            "questions": await self._questions.size(),
            "tenants": {
                tenant: {"error_rate": share.rate, "error_low": share.low, "error_high": share.high, "audits": round(share.n, 1)}
                for tenant, share in (self._semantic.estimates() if self._semantic else ())
            },
        }


def _shown(one: Considered) -> Json:
    return {
        "question": one.question.id,
        "asked": one.text,
        "asked_at": time_of(one.question.id),
        "similarity": round(one.similarity, 4),
        "guard": one.veto,
        "score": round(one.score, 3),
        "p_wrong": round(one.assessment.mean_wrong, 5),
        "p_wrong_at_most": round(one.assessment.upper_wrong, 5),
        "evidence": {name: round(value, 4) for name, value in one.evidence.named.items()},
    }
