"""Both caches, put together: tiers, stages, background work, news, gauges. Part of the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from farthing.app_stores import Stores
from farthing.background import Background
from farthing.caching.audits import AuditSettings
from farthing.caching.bookkeeper import Bookkeeper, Reused
from farthing.caching.control import Control
from farthing.caching.entry import Entry
from farthing.caching.evidence import NAMES
from farthing.caching.exact import ExactCache
from farthing.caching.finder import Finder
from farthing.caching.judgement import Judgement
from farthing.caching.looks import Looks
from farthing.caching.memory import MemoryTier
from farthing.caching.pace import Pace
from farthing.caching.recall import Recall
from farthing.caching.sealed import SealedIndex, SealedQuestions
from farthing.caching.semantic import SemanticCache
from farthing.caching.shared import SharedTier
from farthing.caching.verdicts import Verdicts
from farthing.caching.verifier import Recalibration, Verifier
from farthing.cipher import Cipher
from farthing.errors import SettingsError
from farthing.inprocess.questions import InProcessQuestions
from farthing.pipeline.errands import Errands
from farthing.ports import Embedder, QuestionIndex
from farthing.settings import RecalibrationSettings, Settings
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import Request

if TYPE_CHECKING:
    from farthing.redis.questions import RedisQuestions


class Caches:
    """`exact` and `semantic` are the stages, None where they are off. `errands` go through the stages, once they are there.

    `cipher` seals what questions say at rest, and answers too if it is `shared` by all hosts: under the key of one host's data folder the
    others could not read them. `embedder` is None where there is no semantic cache.
    """

    def __init__(self, settings: Settings, stores: Stores, embedder: Embedder | None, cipher: Cipher, *, shared: bool) -> None:
        self._refresh_s = settings.keys.refresh_s
        self.errands = Errands()
        stretch = settings.modes.stretch
        self.memory = MemoryTier(settings.cache.exact.max_bytes, stretch=stretch)
        self.shared = SharedTier(stores.answers, settings.cache.exact, cipher if shared else None, stretch=stretch)
        exact = self._exact = ExactCache(settings.cache, self.memory, self.shared, self.errands, self._kept)
        self.flush = exact.flush
        self.exact = exact if settings.cache.exact.enabled else None
        self._semantics = _Semantics(settings, stores, embedder, cipher, exact, self.errands) if embedder and self.exact else None
        self.semantic = self._semantics.stage if self._semantics else None
        verdicts = self._semantics.verdicts if self._semantics else None
        self.questions = self._semantics.index if self._semantics else stores.questions
        self.control = Control(exact, self.semantic, verdicts, stores.answers, self.questions, stores.records, _tenants(stores))

    def _kept(self, request: Request, key: bytes, entry: Entry) -> None:
        if self.semantic is not None:
            self.semantic.learn(request, key, entry)

    @property
    def asked(self) -> bool:
        """Whether the stores have said what they have, or have had their time to."""
        return (self.exact is None or self.shared.asked) and (self._semantics is None or self._semantics.asked)

    def start(self, background: Background) -> None:
        """Begin the background work."""
        if self.exact is not None:
            background.start("known answers", partial(self.shared.keep_up, self._refresh_s))
        background.start("answers", self.shared.run)
        if self._semantics is not None:
            self._semantics.start(background)

    async def heard(self, channel: str, payload: str) -> None:
        """News from other workers. Raises the stores' errors."""
        if channel == "answers" and payload:
            self.shared.learn([bytes.fromhex(key) for key in payload.split(",")])
        elif channel == "answers":
            await self.shared.reload()
        elif self._semantics is not None:
            await self._semantics.heard(channel, payload)

    async def drain(self) -> None:
        """Write all that waits, at once. Raises the stores' errors."""
        await self.shared.drain()
        if self._semantics is not None:
            await self._semantics.bookkeeper.drain()

    async def aclose(self) -> None:
        """End what nobody waits for."""
        await self.errands.close()
        if self._semantics is not None:
            await self._semantics.looks.close()
            if self._semantics.redis is not None:
                await self._semantics.redis.close()

    def register(self, metrics: Metrics) -> None:
        """Show how the caches are."""
        gauge, counter = metrics.gauge, metrics.counter
        gauge(names.CACHE_ENTRIES, "Answers in the memory tier.", lambda: len(self.memory))
        gauge(names.CACHE_BYTES, "Size of the answers in the memory tier.", lambda: self.memory.bytes, unit="By")
        counter(names.CACHE_DROPPED, "Answers that found the write queue full.", lambda: self.shared.dropped)
        gauge(names.FLIGHTS, "Cache misses under way that others may join.", lambda: self._exact.flights)
        counter(names.ERRANDS_SKIPPED, "Model calls on our own account that were left out: too many.", lambda: self.errands.skipped)
        if self._semantics is not None:
            self._semantics.register(metrics)


class _Semantics:
    """The semantic cache's parts."""

    @property
    def asked(self) -> bool:
        return self.bookkeeper.warm and (self.recall is None or self.recall.asked)

    def __init__(self, settings: Settings, stores: Stores, embedder: Embedder, cipher: Cipher, exact: ExactCache, errands: Errands) -> None:
        semantic = settings.cache.semantic
        pace = self.pace = Pace(rate=semantic.rate, idle_rate=semantic.idle_rate, min_hit_rate=semantic.min_hit_rate)
        self.redis = _redis(settings, embedder) if semantic.backend == "redis" else None
        self.memory: InProcessQuestions | None = None
        self.recall: Recall | None = None
        if self.redis is not None:
            self.index: QuestionIndex = SealedIndex(self.redis, cipher)
            self.finder = Finder(embedder, None, self.index, semantic, pace)
            reused: Reused = self.redis.served
        else:
            store = SealedQuestions(stores.questions, cipher)
            most = semantic.max_entries
            self.index = store
            self.memory = InProcessQuestions(dimensions=embedder.dimensions, max_entries=most, max_bytes=semantic.max_bytes)
            self.finder = Finder(embedder, self.memory, store, semantic, pace)
            self.recall = Recall(self.memory, store, self.finder, most=most, refresh_s=settings.keys.refresh_s)
            reused = self.memory.served
        self.judgement = Judgement(_verifier(semantic.recalibration), audits=_audits(semantic.shadow.share))
        self.bookkeeper = Bookkeeper(embedder, self.memory, self.index, stores.records, reused, semantic)
        self.verdicts = Verdicts(stores.records, self.index, stores.answers, self.judgement, self.finder.lost, exact.flush)
        self.looks = Looks(errands, self.verdicts, embedder, semantic)
        self.stage = SemanticCache(
            settings.cache,
            embedder.version,
            self.finder,
            self.judgement,
            self.bookkeeper,
            self.looks,
            errands,
            exact.stored,
            pace,
            stretch=settings.modes.stretch,
        )

    def start(self, background: Background) -> None:
        background.start("questions", self.bookkeeper.run)
        if self.recall is not None:
            background.start("known questions", self.recall.run)

    async def heard(self, channel: str, payload: str) -> None:
        if channel == "questions" and self.recall is not None:
            await self.recall.heard(payload)
        elif channel == "verdicts":
            await self.verdicts.heard(payload)

    def register(self, metrics: Metrics) -> None:
        gauge, counter = metrics.gauge, metrics.counter
        if (memory := self.memory) is not None:
            gauge(names.QUESTIONS, "Questions in the worker's memory.", lambda: memory.count)
            gauge(names.QUESTIONS_BYTES, "Size of the questions in the worker's memory.", lambda: memory.held_bytes, unit="By")
        gauge(names.QUESTIONS_PENDING, "Questions and hits that wait to be stored.", lambda: self.bookkeeper.pending)
        counter(names.QUESTIONS_DROPPED, "Questions and hits for which there was no room.", lambda: self.bookkeeper.dropped)
        skipped = "Requests that did not wait for the semantic cache: too many others did, or it took too long."
        counter(names.SEMANTIC_SKIPPED, skipped, lambda: self.pace.skipped + self.finder.skipped + self.finder.late)
        counter(names.SEMANTIC_SAVED, "How long models took for the answers given again.", lambda: self.stage.saved_us / 1e6, unit="s")
        counter(names.SEMANTIC_AUDITED, "Hits that were also sent to the model.", lambda: self.looks.shadowed)
        counter(names.SEMANTIC_JUDGED, "Near misses that a judge has read.", lambda: self.looks.judged)
        measured = "Measured share of wrong answers among those of the semantic cache, of the tenant that has the highest."
        for at, bound in enumerate(("estimate", "low", "high")):
            gauge(names.SEMANTIC_ERROR, measured, partial(self._error, at), attributes={names.BOUND: bound}, merge="max")

    def _error(self, at: int) -> float:
        return max((share[at] for _, share in self.judgement.estimates()), default=0.0)


def _redis(settings: Settings, embedder: Embedder) -> RedisQuestions:
    # Imported here: its package is an extra.
    from farthing.redis.questions import open_questions  # noqa: PLC0415

    return open_questions(settings.redis, dimensions=embedder.dimensions)


def _verifier(by: RecalibrationSettings | None) -> Verifier:
    shipped = Verifier.load()
    if by is None:
        return shipped
    if unknown := by.adds.keys() - NAMES:
        raise SettingsError(
            f"cache.semantic.recalibration.adds: there is no {min(unknown)!r}; `farthing cache tune` of this version prints what fits"
        )
    thresholds = tuple(sorted(by.thresholds.items()))
    return shipped.recalibrated(Recalibration(base=by.base, slope=by.slope, adds=tuple(by.adds.items()), thresholds=thresholds))


def _audits(share: float) -> AuditSettings:
    return AuditSettings(budget=share) if share else AuditSettings(budget=0, opening=0)


def _tenants(stores: Stores) -> Callable[[], Awaitable[Sequence[str]]]:
    async def tenants() -> Sequence[str]:
        return sorted({record.tenant for record in await stores.keys.all(_MOST_KEYS)})

    return tenants


_MOST_KEYS = 1_000_000
