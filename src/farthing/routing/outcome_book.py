"""What routed prompts were like, until somebody says how good their answers were; and those outcomes on their way to the store.

Prompts are remembered as numbers, in memory alone. Those that checks spoke of and nobody has read yet are read in the background. What
cannot be written while the store is away waits, and is dropped beyond a bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from farthing.errors import FarthingError, InvalidRequest, NotFound
from farthing.ports import Embedder, OutcomeStore, RequestRecords
from farthing.routing.learned.features import features_of
from farthing.routing.learned.prompt import text_of_prompt
from farthing.types import Json, Outcome, OutcomeBy, Request, time_of, utc_now

_log = logging.getLogger("farthing.routing")
_BATCH: Final = 32
_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0
_PRUNE_EVERY_S: Final = 60.0
_REMEMBERED_FOR: Final = timedelta(days=1)
_PASSED: Final = "passed"
_FAILED: Final = "failed:"
_JUDGE: Final = "judge"
_DICE: Final = 2**32 - 1


class Noted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A prompt. `text` only until it is read. `explored` is the model that answers in order that something be learnt of it."""

    tenant: str
    user_id: str | None
    router: str
    features: tuple[float, ...]
    vector: bytes = b""
    text: str = ""
    explored: str | None = None


class _Said(msgspec.Struct, frozen=True, gc=False):
    """How good a model's answer to a prompt was."""

    request_id: UUID
    noted: Noted
    model: str
    score: float | None
    by: OutcomeBy
    at: datetime


class OutcomeBook:
    """`samples`: of each router that can learn, the share of its requests whose outcomes are kept. `embedder` None: nothing can be read.

    `max_rows` bounds the store, the other numbers this worker's memory. `dropped` counts outcomes for which there was no room.
    """

    def __init__(
        self,
        store: OutcomeStore,
        records: RequestRecords,
        embedder: Embedder | None,
        samples: Mapping[str, float],
        *,
        max_remembered: int,
        max_pending: int,
        max_rows: int,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._records = records
        self._embedder = embedder
        self._samples = samples
        self._max_remembered = max_remembered
        self._max_pending = max_pending
        self._max_rows = max_rows
        self._clock = clock
        self._noted: OrderedDict[UUID, Noted] = OrderedDict()
        self._queue: deque[_Said] = deque()
        self._news = asyncio.Event()
        self.dropped = 0

    @property
    def pending(self) -> int:
        """Outcomes that wait to be written."""
        return len(self._queue)

    def note(
        self, request: Request, router: str, vector: bytes, features: tuple[float, ...], model: str | None, *, explored: bool = False
    ) -> None:
        """Remember a prompt that was read, and the model that was chosen, if any. Not where the caller wants nothing kept (`store: false`).

        In the store too, if it is in the sample: somebody may tell another worker, or this one tomorrow, how good the answer was.
        """
        if _may_keep(request):
            noted = Noted(
                tenant=request.principal.tenant,
                user_id=request.user,
                router=router,
                features=features,
                vector=vector,
                explored=model if explored else None,
            )
            self._remember(request.id, noted)
            if self._sampled(request.id, router) and len(self._queue) < self._max_pending // 2:  # the other half is for what is said
                self._queue.append(_Said(request.id, noted, model or "", None, "nobody", self._clock()))
                self._news.set()

    def _remember(self, request_id: UUID, noted: Noted) -> None:
        self._noted[request_id] = noted
        while len(self._noted) > self._max_remembered:
            self._noted.popitem(last=False)

    def checked(self, request: Request, model: str, checks: str) -> None:
        """What the checks said of a model's answer: `passed`, or `failed:` and the name of the check. See `types.Answer`.

        Nothing is kept of requests of other routers, and of those that are not in the sample.
        """
        router = getattr(request.choice, "router", None)
        told = checks == _PASSED or checks.startswith(_FAILED)
        if not told or router is None or self._embedder is None or not self._sampled(request.id, router) or not _may_keep(request):
            return
        if len(self._queue) >= self._max_pending:
            self.dropped += 1
            return
        noted = self._noted.get(request.id) or self._unread(request, router)
        if noted.vector or noted.text:
            by: OutcomeBy = "judge" if _judged(request, checks) else "check"
            self._queue.append(_Said(request.id, noted, model, 1.0 if checks == _PASSED else 0.0, by, self._clock()))
            self._news.set()

    def _sampled(self, request_id: UUID, router: str) -> bool:
        """By the id's random bits: of a request all outcomes are kept or none, in every worker."""
        return (request_id.int & _DICE) < self._samples.get(router, 0.0) * (_DICE + 1)

    @staticmethod
    def _unread(request: Request, router: str) -> Noted:
        return Noted(
            tenant=request.principal.tenant,
            user_id=request.user,
            router=router,
            features=features_of(request.body),
            text=text_of_prompt(request.body).strip(),
        )

    async def hear(self, tenant: str, request_id: UUID, score: float, by: OutcomeBy) -> Json:
        """What a person says of the answer to a request. Says for which router and model it counts.

        Raises `NotFound` when the prompt is not known (any more) to this worker or the store, or nobody has answered it (yet).
        """
        noted, embedder = self._remembered(tenant, request_id), self._embedder.version if self._embedder is not None else ""
        if noted is None:
            noted, embedder = await self._stored(tenant, request_id)
        final = next((entry for entry in reversed(await self._records.attempts(request_id)) if entry.final), None)
        if final is None or final.tenant != tenant or final.model_used is None:
            raise NotFound(f"no model has answered the request {request_id} (yet); the ledger has it within a second or so of its end")
        await self._store.add([self._outcome(_Said(request_id, noted, final.model_used, score, by, self._clock()), embedder)])
        if not any(one.model == final.model_used for one in await self._store.of(tenant, request_id)):
            self._noted.pop(request_id, None)
            raise NotFound(f"what was known of the request {request_id} has been deleted, and nothing is kept of it")
        return {"object": "farthing.outcome", "router": noted.router, "model": final.model_used, "score": score, "by": by}

    def _remembered(self, tenant: str, request_id: UUID) -> Noted | None:
        noted = self._noted.get(request_id)
        return noted if noted is not None and noted.tenant == tenant else None

    async def _stored(self, tenant: str, request_id: UUID) -> tuple[Noted, str]:
        """The prompt of another outcome of the same request, and what has read it. Raises `NotFound`."""
        found = await self._store.of(tenant, request_id)
        if not found:
            raise NotFound(f"there is no prompt of a request {request_id} to learn from: no router that can learn has read it lately")
        explored = next((one.model for one in found if one.explored), None)
        one = found[0]
        noted = Noted(tenant=tenant, user_id=one.user_id, router=one.router, features=one.features, vector=one.vector, explored=explored)
        return noted, one.embedder

    @staticmethod
    def _outcome(said: _Said, embedder: str) -> Outcome:
        noted = said.noted
        return Outcome(
            request_id=said.request_id,
            tenant=noted.tenant,
            user_id=noted.user_id,
            router=noted.router,
            model=said.model,
            score=said.score,
            by=said.by,
            vector=noted.vector,
            embedder=embedder,
            features=noted.features,
            explored=noted.explored == said.model,
            at=said.at,
        )

    async def run(self) -> None:
        """Read and write what comes, until cancelled; more slowly while the store is away or the embedder has no time."""
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
            await self._write(await self._read(batch))
            for _ in batch:
                self._queue.popleft()
        self._news.clear()

    async def _read(self, batch: Sequence[_Said]) -> list[Outcome]:
        """Outcomes with their prompts' embeddings. Raises the embedder's errors."""
        assert self._embedder is not None
        texts = list({said.noted.text for said in batch if not said.noted.vector})
        vectors = {text: one.vector for text, one in zip(texts, await self._embedder.encode(texts) if texts else (), strict=True)}
        found = []
        for said in batch:
            if not said.noted.vector:
                read = msgspec.structs.replace(said.noted, vector=vectors[said.noted.text], text="")
                self._remember(said.request_id, read)
                said = msgspec.structs.replace(said, noted=read)  # noqa: PLW2901 - the same, read
            if any(said.noted.vector):
                found.append(self._outcome(said, self._embedder.version))
        return found

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


def _may_keep(request: Request) -> bool:
    return request.extras.store and request.body.get("store") is not False


def _judged(request: Request, checks: str) -> bool:
    """Whether a model had a say: the one that rejected it, or one of those that all had to pass it."""
    if checks != _PASSED:
        return checks.removeprefix(_FAILED) == _JUDGE
    return any(check.name == _JUDGE for check in getattr(request.choice, "checks", ()))
