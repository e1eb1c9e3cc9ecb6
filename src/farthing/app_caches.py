"""Both caches, put together: tiers, stages, background work, news, gauges. Part of the composition root."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

import msgspec

from farthing.app_stores import Stores
from farthing.background import Background
from farthing.caching.audits import AuditSettings
from farthing.caching.bookkeeper import Bookkeeper
from farthing.caching.control import Control
from farthing.caching.entry import Entry
from farthing.caching.errands import Errands
from farthing.caching.exact import ExactCache
from farthing.caching.finder import Finder
from farthing.caching.judgement import Judgement
from farthing.caching.looks import Looks
from farthing.caching.memory import MemoryTier
from farthing.caching.recall import Recall
from farthing.caching.sealed import SealedQuestions
from farthing.caching.semantic import SemanticCache
from farthing.caching.shared import SharedTier
from farthing.caching.verdicts import Verdicts
from farthing.caching.verifier import Verifier
from farthing.cipher import Cipher
from farthing.errors import FarthingError
from farthing.inprocess.questions import InProcessQuestions
from farthing.ports import Embedder
from farthing.settings import CacheSettings, Settings
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import CacheScope, Request

_log = logging.getLogger("farthing.cache")
_VERDICTS_AT_START = 10_000


class Caches:
    """`exact` and `semantic` are the stages, None where they are off. `cipher` seals at rest; None: there is no key that all hosts share."""

    def __init__(self, settings: Settings, stores: Stores, embedder: Embedder | None, cipher: Cipher | None) -> None:
        self._settings = settings.cache
        self.memory = MemoryTier(settings.cache.exact.max_bytes)
        self.shared = SharedTier(stores.answers, settings.cache.exact, cipher)
        self.errands = Errands()
        self._exact = ExactCache(settings.cache, self.memory, self.shared, self.errands, self._kept)
        self.exact = self._exact if settings.cache.exact.enabled else None
        self._semantics = _Semantics(settings.cache, stores, embedder, cipher, self._exact, self.errands) if embedder else None
        self.semantic = self._semantics.stage if self._semantics else None
        self.control = Control(self._exact, stores.answers, self._semantics and self._semantics.control, self.forget)
        self._refresh_s = settings.keys.refresh_s

    def _kept(self, request: Request, key: bytes, entry: Entry) -> None:
        if self.semantic is not None:
            self.semantic.learn(request, key, entry)

    def forget(self, tenant: str | None, scope: CacheScope) -> None:
        """Empty this worker of a scope. Its memory of answers does not know scopes: all of it goes."""
        self._exact.flush()
        self.shared.forget(tenant, scope)
        if self._semantics is not None:
            self._semantics.bookkeeper.forget(tenant, scope)

    def flush(self) -> None:
        """Answers of somebody were deleted: let go of everything that was made from them."""
        self._exact.flush()

    def start(self, background: Background) -> None:
        """Begin the background work."""
        background.start("known answers", partial(self.shared.keep_up, self._refresh_s))
        background.start("answers", self.shared.run)
        if self._semantics is not None:
            self._semantics.start(background)

    async def heard(self, channel: str, payload: str) -> bool:
        """News from other workers. False: it is not about caches."""
        if channel == "answers":
            if payload:
                self.shared.learn([bytes.fromhex(key) for key in payload.split(",")])
            else:
                await self.shared.reload()
            return True
        if channel in {"questions", "verdicts"}:
            if self._semantics is not None:
                await self._semantics.heard(channel, payload)
            return True
        return False

    async def drain(self) -> None:
        """Write all that waits, at once."""
        await self.errands.close()
        await self.shared.drain()
        if self._semantics is not None:
            await self._semantics.bookkeeper.drain()
