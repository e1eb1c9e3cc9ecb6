"""The semantic stage: a question that was asked before in other words is answered from what was said then.

It stands behind the exact stage, which keeps the answers; this one knows which questions they answer. A hit is never kept under the new
question's own key: were the cached answer found wrong, its copies would have to be found, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from farthing.caching.bookkeeper import Bookkeeper, NewQuestion
from farthing.caching.entry import Entry
from farthing.caching.estimate import ErrorShare
from farthing.caching.explanation import Explanation
from farthing.caching.finder import Finder
from farthing.caching.judgement import NOTHING_NEAR, Considered, Decision, Judgement
from farthing.caching.keys import keys_of
from farthing.caching.looks import Looks, hit_of
from farthing.caching.pace import Kind, Pace, kind_of
from farthing.caching.question import Asked, Unfit, question_of
from farthing.pipeline.errands import Errands, renewal
from farthing.pipeline.stage import Next
from farthing.settings import CacheSettings
from farthing.types import Answer, Request, Source, time_of

_log = logging.getLogger("farthing.cache")

Stored = Callable[[str, bytes, float], Awaitable[Entry | None]]
"""The kept answer of a tenant under a key, for so many times its lifetime."""


class SemanticCache:
    """See `pipeline.stage.Stage`. `saved_us` is how long the models took for the answers that were given again.

    Questions are kept for `stretch` times the lifetime of their answers.
    """

    def __init__(
        self,
        settings: CacheSettings,
        embedder: str,
        finder: Finder,
        judgement: Judgement,
        bookkeeper: Bookkeeper,
        looks: Looks,
        errands: Errands,
        stored: Stored,
        pace: Pace,
        *,
        stretch: float = 1.0,
    ) -> None:
        self._pace = pace
        self._stretch = stretch
        self._settings = settings
        self._embedder = embedder
        self._finder = finder
        self._judgement = judgement
        self._bookkeeper = bookkeeper
        self._looks = looks
        self._errands = errands
        self._stored = stored
        self.saved_us = 0

    async def __call__(self, request: Request, following: Next) -> Answer:
        """Answer with what a question like this was answered with before, or let others answer and learn from it."""
        kind = kind_of(request)
        if request.extras.cache == "off" or not self._pace.due(kind):
            return await following(request)
        asked = question_of(request, self._settings, self._embedder)
        if isinstance(asked, Unfit):
            return await following(request)
        request.asked = asked
        if request.extras.cache == "refresh":
            return await following(request)
        tenant = request.principal.tenant
        decision = await self._decide(kind, asked)
        if asked.encoded is not None:
            self._pace.looked(kind, hit=decision.accepted)
        if decision.accepted and decision.best is not None:
            entry = await self._stored(tenant, decision.best.question.answer_key, request.mode.cache_ttl_stretch)
            if entry is not None and entry.text() is not None:
                return self._hit(request, asked, decision.best, entry)
            await self._finder.lost(tenant, decision.best.question.id)
        answer = await following(request)
        if decision.best is not None and not decision.accepted:
            if decision.withheld:
                entry = await self._stored(tenant, decision.best.question.answer_key, request.mode.cache_ttl_stretch)
                self._looks.at_withheld(request, asked.text, decision.best, entry, answer)
            else:
                self._looks.at_near_miss(request, asked.text, decision.best)
        return answer

    async def consider(self, request: Request) -> tuple[Asked | None, Decision | Unfit]:
        """What would be decided, and why; nothing is done about it."""
        asked = question_of(request, self._settings, self._embedder)
        if isinstance(asked, Unfit):
            return None, asked
        kind = kind_of(request)
        return asked, await self._decide(kind, asked, every=True)

    async def _decide(self, kind: Kind, asked: Asked, *, every: bool = False) -> Decision:
        most = self._settings.semantic.neighbours
        near = await self._finder.near(kind, asked, most=most + 1)
        try:
            return self._judgement.decide(kind[0], asked, near, most=most, every=every)
        except Exception:  # noqa: BLE001 - a question that we stumble over still gets its answer, and the log must say
            _log.exception("a question cannot be compared")
            return NOTHING_NEAR

    def explanation(self, tenant: str, asked: Asked, best: Considered) -> Explanation:
        """Every number that goes into the decision on a candidate."""
        return self._judgement.explain(tenant, asked.delta, best)

    def estimates(self) -> list[tuple[str, ErrorShare]]:
        """The measured share of wrong answers among those served, of each tenant where there is any."""
        return self._judgement.estimates()

    def _hit(self, request: Request, asked: Asked, best: Considered, entry: Entry) -> Answer:
        if best.question.answer_key in keys_of(request):  # the exact stage has not heard of it yet
            return entry.answer(Source.EXACT, request.id, stream=request.stream)
        share = self._judgement.served(request.principal.tenant, asked, best, request.id)
        self.saved_us += entry.took_us
        self._bookkeeper.note(hit_of(request, best))
        if share > 0:
            self._looks.at_hit(request, asked.text, best, entry, share)
        if entry.fresh_until < time.time() and request.mode.rank == 0:
            self._errands.send(renewal(request), lambda _: None)
        return entry.answer(Source.SEMANTIC, request.id, stream=request.stream)

    def learn(self, request: Request, key: bytes, entry: Entry) -> None:
        """An answer was kept under a key: remember which question it answers, if it may be compared and its words may be kept."""
        asked = request.asked
        if not isinstance(asked, Asked) or not request.extras.store or entry.text() is None:
            return
        kind = kind_of(request)
        if asked.encoded is None:
            if not self._pace.due(kind):
                return
            self._pace.took(kind, asked.text)
        self._bookkeeper.learn(
            NewQuestion(
                kind=kind,
                tags=request.extras.tags,
                asked=asked,
                answer_key=key,
                request_id=request.id,
                cost_microusd=entry.cost_microusd,
                expires=entry.good_until(self._stretch),
                at=time_of(request.id),
            )
        )
