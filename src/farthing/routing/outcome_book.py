"""What routed prompts were like, until somebody says how good their answers were; and those outcomes on their way to the store.

Prompts are remembered as numbers, in memory alone. What is not written while the store is away waits, and is dropped beyond a bound.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from farthing.errors import FarthingError, InvalidRequest, NotFound
from farthing.ports import OutcomeStore, RequestRecords
from farthing.types import Json, Outcome, OutcomeBy, Request, time_of, utc_now

_log = logging.getLogger("farthing.routing")
_BATCH: Final = 100
_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0
_PRUNE_EVERY_S: Final = 60.0
_REMEMBERED_FOR: Final = timedelta(days=1)
_PASSED: Final = "passed"
_JUDGE: Final = "judge"


class Noted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A prompt that was read. `sampled`: its outcomes are kept. `explored` is the model that answers so that something be learnt of it."""

    tenant: str
    user_id: str | None
    router: str
    vector: bytes
    embedder: str
    features: tuple[float, ...]
    sampled: bool
    explored: str | None = None


class OutcomeBook:
    """`dropped` counts outcomes for which there was no room. `max_rows` bounds the store, the other numbers this worker's memory."""

    def __init__(
        self,
        store: OutcomeStore,
        records: RequestRecords,
        rng: random.Random,
        *,
        max_remembered: int,
        max_pending: int,
        max_rows: int,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._records = records
        self._rng = rng
        self._max_remembered = max_remembered
        self._max_pending = max_pending
        self._max_rows = max_rows
        self._clock = clock
        self._noted: OrderedDict[UUID, Noted] = OrderedDict()
        self._queue: deque[Outcome] = deque()
        self._news = asyncio.Event()
        self.dropped = 0

    @property
    def pending(self) -> int:
        """Outcomes that wait to be written."""
        return len(self._queue)

    def note(
        self,
        request: Request,
        router: str,
        vector: bytes,
        embedder: str,
        features: tuple[float, ...],
        *,
        sample: float,
        explored: str | None = None,
    ) -> None:
        """Remember a prompt that was read. Not where the caller wants nothing kept (`store: false`)."""
        if not request.extras.store or request.body.get("store") is False:
            return
        self._noted[request.id] = Noted(
            tenant=request.principal.tenant,
            user_id=request.user,
            router=router,
            vector=vector,
            embedder=embedder,
            features=features,
            sampled=self._rng.random() < sample,
            explored=explored,
        )
        while len(self._noted) > self._max_remembered:
            self._noted.popitem(last=False)

    def checked(self, request: Request, model: str, checks: str) -> None:
        """What the checks said of a model's answer: `passed`, or `failed:` and the name of the check. See `types.Answer`."""
        by: OutcomeBy = "judge" if _judged(request, checks) else "check"
        self.saw(request, model, 1.0 if checks == _PASSED else 0.0, by)

    def saw(self, request: Request, model: str, score: float, by: OutcomeBy) -> None:
        """How good a model's answer to a request was. Nothing is kept of requests whose prompt was not read."""
        noted = self._noted.get(request.id)
        if noted is not None and noted.sampled:
            self._add(self._outcome(request.id, noted, model, score, by))

    async def hear(self, tenant: str, request_id: UUID, score: float, by: OutcomeBy) -> Json:
        """What a person says of the answer to a request. Says for which router and model it counts.

        Raises `NotFound` when the prompt is not known (any more) to this worker or the store, or nobody has answered it (yet).
        """
        noted = self._remembered(tenant, request_id) or await self._stored(tenant, request_id)
        if noted is None:
            raise NotFound(f"there is no prompt of a request {request_id} to learn from: no learned router has read it lately")
        final = next((entry for entry in reversed(await self._records.attempts(request_id)) if entry.final), None)
        if final is None or final.tenant != tenant or final.model_used is None:
            raise NotFound(f"no model has answered the request {request_id} (yet); the ledger has it within a second or so of its end")
        await self._store.add([self._outcome(request_id, noted, final.model_used, score, by)])
        return {"object": "farthing.outcome", "router": noted.router, "model": final.model_used, "score": score, "by": by}

    def _remembered(self, tenant: str, request_id: UUID) -> Noted | None:
        noted = self._noted.get(request_id)
        return noted if noted is not None and noted.tenant == tenant else None

    async def _stored(self, tenant: str, request_id: UUID) -> Noted | None:
        """The prompt of another outcome of the same request."""
        for one in await self._store.of(tenant, request_id):
            return Noted(
                tenant=one.tenant,
                user_id=one.user_id,
                router=one.router,
                vector=one.vector,
                embedder=one.embedder,
                features=one.features,
                sampled=True,
                explored=one.model if one.explored else None,
            )
        return None

    def _outcome(self, request_id: UUID, noted: Noted, model: str, score: float, by: OutcomeBy) -> Outcome:
        return Outcome(
            request_id=request_id,
            tenant=noted.tenant,
            user_id=noted.user_id,
            router=noted.router,
            model=model,
            score=score,
            by=by,
            vector=noted.vector,
            embedder=noted.embedder,
            features=noted.features,
            explored=noted.explored == model,
            at=self._clock(),
        )

    def _add(self, outcome: Outcome) -> None:
        if len(self._queue) >= self._max_pending:
            self.dropped += 1
            return
        self._queue.append(outcome)
        self._news.set()

    async def run(self) -> None:
        """Write what comes, until cancelled; more slowly while the store is away."""
        pause = _PAUSE_S
        while True:
            await self._news.wait()
            try:
                await self.drain()
                pause = _PAUSE_S
            except FarthingError as error:
                _log.debug("outcomes wait until the database is back: %s", error)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)

    async def drain(self) -> None:
        """Write all that waits, at once. Raises the store's errors; what it did not take then stays."""
        while self._queue:
            batch = [self._queue[at] for at in range(min(_BATCH, len(self._queue)))]
            await self._write(batch)
            for _ in batch:
                self._queue.popleft()
        self._news.clear()

    async def _write(self, batch: Sequence[Outcome]) -> None:
        try:
            await self._store.add(batch)
        except InvalidRequest:
            for one in batch:
                try:
                    await self._store.add([one])
                except InvalidRequest as error:
                    _log.error("an outcome that cannot be stored is dropped: %s", error)
                    self.dropped += 1

    async def prune(self) -> None:
        """Delete the oldest beyond the bound, and forget prompts of yesterday, now and then, until cancelled."""
        while True:
            self._forget_old()
            with suppress(FarthingError):
                await self._store.prune(self._max_rows)
            await asyncio.sleep(_PRUNE_EVERY_S)

    def _forget_old(self) -> None:
        oldest = self._clock() - _REMEMBERED_FOR
        while self._noted and time_of(next(iter(self._noted))) < oldest:
            self._noted.popitem(last=False)


def _judged(request: Request, checks: str) -> bool:
    """Whether a model had a say: the one that rejected it, or one of those that all had to pass it."""
    if checks != _PASSED:
        return checks.removeprefix("failed:") == _JUDGE
    return any(check.name == _JUDGE for check in getattr(request.choice, "checks", ()))
