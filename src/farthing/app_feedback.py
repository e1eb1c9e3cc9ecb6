"""What people say of answers, put together. Part of the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from msgspec.structs import replace

from farthing.app_stores import Stores
from farthing.cipher import Cipher
from farthing.events.telling import TellingConfig, TellingFeedback
from farthing.feedback.book import FeedbackBook, Hear, Said
from farthing.feedback.sealing import FeedbackSealing
from farthing.http.admin_feedback import FeedbackDoors
from farthing.http.admin_requests import Open
from farthing.http.feedback import FeedbackDoor
from farthing.memory.scrubbing import Scrubber
from farthing.pipeline.stage import Next
from farthing.ports import CacheControl
from farthing.settings import Settings
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import Answer, Event, Json, Principal, Request


def telling(settings: Settings, stores: Stores, tell: Callable[[Event], None]) -> Stores:
    """Stores that tell the bus what changes in them, also where it is not stored in the transaction of the change."""
    if settings.config.store == "postgres" and settings.events.bus == "postgres":
        return stores
    feedback = stores.feedback if settings.events.bus == "postgres" else TellingFeedback(stores.feedback, tell)
    return replace(stores, config=TellingConfig(stores.config, tell), feedback=feedback)


class Opinions:
    """`hear` is who learns of the answers to routed prompts."""

    def __init__(self, settings: Settings, stores: Stores, caches: CacheControl, hear: Hear, cipher: Cipher) -> None:
        self._settings = settings
        self._stores = stores
        self._sealing = FeedbackSealing(cipher)
        scrubber = Scrubber(personal=settings.feedback.scrub_personal)
        self.book = FeedbackBook(
            stores.feedback,
            stores.requests,
            caches,
            stores.edge,
            hear,
            self._sealing,
            lambda text: scrubber(text).text,
            settings.feedback,
        )

    async def _hear(self, who: Principal, request_id: UUID, score: float, correction: str | None, reason: str | None) -> Json:
        return await self.book.hear(who, Said(request_id=request_id, score=score, correction=correction, reason=reason))

    def door(self, limit: Callable[[Request, Next], Awaitable[Answer]]) -> FeedbackDoor:
        """Where people say it."""
        return FeedbackDoor(self._hear, limit, self._settings.feedback, self._settings.server)

    def admin(self, opened: Open) -> FeedbackDoors:
        """Where admins read it."""
        return FeedbackDoors(self._stores.feedback, self._sealing.open, self._stores.retention, opened)

    def register(self, metrics: Metrics) -> None:
        """Show what is said."""
        book, said = self.book, "Times that somebody said something new of an answer."
        for verdict, count in (("good", lambda: book.good), ("bad", lambda: book.bad), ("corrected", lambda: book.corrected)):
            metrics.counter(names.FEEDBACK, said, count, attributes={names.VERDICT: verdict})
