"""What people say of answers, and what follows from it at once: for the caches, for the routers, for training.

It is stored first. Whatever follows is done anew when the same is said again, so that nothing is lost when a store goes away in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

import msgspec

from farthing.errors import NotFound
from farthing.feedback.sealing import FeedbackSealing
from farthing.ports import CacheControl, FeedbackStore, Personal, RequestRecords
from farthing.settings import FeedbackSettings
from farthing.types import CacheScope, Feedback, Json, LedgerEntry, Principal, Source, new_id, time_of, utc_now

_log = logging.getLogger("farthing.feedback")
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.4
_RECENT: Final = timedelta(hours=1)
"""A request that arrived so lately may be under way, or on its way into the ledger."""
_MIDDLE: Final = 0.5
QUESTION: Final = "What should it have said instead?"

By = Literal["thumb", "correction"]
Hear = Callable[[str, UUID, float, By], Awaitable[Json]]
"""Tells the routers how good the answer to a tenant's request was; raises `NotFound` when they know nothing of it."""
Scrub = Callable[[str], str]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says of the answer to a request. `score` is 0 (bad) to 1 (good)."""

    request_id: UUID
    score: float
    correction: str | None = None
    reason: str | None = None

    @property
    def by(self) -> By:
        """How it is said."""
        return "thumb" if self.correction is None else "correction"


class FeedbackBook:
    """`scrub` takes out of a text what must not be kept. `good`, `bad` and `corrected` count what was new.

    `edge` holds what was computed ahead for users. The ledger does not say to which action an answer from there was: all of its user's
    go, and are computed anew.
    """

    def __init__(
        self,
        store: FeedbackStore,
        records: RequestRecords,
        caches: CacheControl,
        edge: Personal,
        hear: Hear,
        sealing: FeedbackSealing,
        scrub: Scrub,
        settings: FeedbackSettings,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._records = records
        self._caches = caches
        self._edge = edge
        self._hear = hear
        self._sealing = sealing
        self._scrub = scrub
        self._settings = settings
        self._clock = clock
        self.good = 0
        self.bad = 0
        self.corrected = 0

    async def hear(self, who: Principal, said: Said) -> Json:
        """Take it in and say what followed.

        Raises `NotFound` when there is no such request of the caller's (in the ledger, yet), and the stores' errors.
        """
        until = time.monotonic() + self._settings.settle_s
        entry = await self._request(who, said.request_id, until)
        kept = self._sealing.seal(
            Feedback(
                id=new_id(),
                tenant=entry.tenant,
                request_id=said.request_id,
                user=entry.user_id,
                score=said.score,
                correction=self._scrubbed(said.correction),
                reason=self._scrubbed(said.reason),
                by=who.key_id,
                digest=b"",
                at=self._clock(),
            )
        )
        new = await self._store.add(kept)
        everything = await self._store.of(entry.tenant, said.request_id)
        same = next((one for one in everything if one.by == kept.by and one.digest == kept.digest), None)
        if same is None:
            raise _unknown(said.request_id, recent=False)  # its user was forgotten meanwhile
        self._count(said, new=new)
        answer: Json = {
            "object": "farthing.feedback",
            "id": same.id,
            "request_id": said.request_id,
            "score": said.score,
            "corrected": said.correction is not None,
            "new": new,
            "cache": await self._heal(entry, said, until),
            "router": await self._teach(entry, said),
        }
        if said.score < _MIDDLE and all(one.correction is None for one in everything):
            answer["ask"] = QUESTION
        return answer

    def _scrubbed(self, text: str | None) -> str | None:
        return None if text is None else self._scrub(text)

    def _count(self, said: Said, *, new: bool) -> None:
        if new:
            self.good += said.score > _MIDDLE
            self.bad += said.score < _MIDDLE
            self.corrected += said.correction is not None

    async def _request(self, who: Principal, request_id: UUID, until: float) -> LedgerEntry:
        """The request as the ledger has it. Of another's there is as little to see as of one that never was."""
        pause = _FIRST_PAUSE_S
        recent = time_of(request_id) > self._clock() - _RECENT
        while True:
            found = next((one for one in reversed(await self._records.attempts(request_id)) if one.final), None)
            if found is not None and found.tenant == who.tenant and who.user in {None, found.user_id}:
                return found
            if not recent or time.monotonic() + pause > until:
                raise _unknown(request_id, recent=recent)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _heal(self, entry: LedgerEntry, said: Said, until: float) -> Json:
        """Kill or confirm the cached answer."""
        about: Json = {"source": entry.source, "consequence": "none"}
        if entry.source == Source.SEMANTIC and said.score != _MIDDLE:
            return {**about, **await self._judge(entry, said, until)}
        if entry.source in {Source.EXACT, Source.MODEL} and said.score < _MIDDLE and entry.answer_key is not None:
            await self._caches.flush(entry.tenant, CacheScope(answer_key=bytes.fromhex(entry.answer_key)))
            return {**about, "consequence": "dead"}
        if entry.source == Source.EDGE and said.score < _MIDDLE and entry.user_id:
            await self._edge.forget(entry.tenant, entry.user_id)
            return {**about, "consequence": "dead"}
        return about

    async def _judge(self, entry: LedgerEntry, said: Said, until: float) -> Json:
        """The semantic cache's verdict; it may take a moment until the hit is noted in the store."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                found = await self._caches.hear(entry.tenant, entry.request_id, right=said.score > _MIDDLE, by=said.by)
            except NotFound as error:
                if time.monotonic() + pause > until or time_of(entry.request_id) < self._clock() - _RECENT:
                    return {"why": error.message}
            else:
                given = len(found.get("answered", ()))
                return {"consequence": found["consequence"], "question": found["question"], **({"given_to": given} if given else {})}
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _teach(self, entry: LedgerEntry, said: Said) -> Json:
        """Tell the routers, where one has chosen the model."""
        try:
            found = await self._hear(entry.tenant, entry.request_id, said.score, said.by)
        except NotFound as error:
            return {"learnt": False, "why": error.message}
        return {"learnt": True, "router": found["router"], "model": found["model"]}


def _unknown(request_id: UUID, *, recent: bool) -> NotFound:
    """Where a later try may find it, the client is told to try again."""
    error = NotFound(
        f"there is no request {request_id} of yours; its id is in the header x-farthing-request-id of the answer, and it can be spoken of "
        "a second or so after its end",
        param="request_id",
        retry_after_s=1.0 if recent else None,
    )
    error.retry = recent
    return error
