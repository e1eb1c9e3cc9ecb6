"""The door for what happened: POST /v1/events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from farthing.errors import FarthingError, Overloaded, Unavailable
from farthing.events.cloudevents import Arrived, Terms, read
from farthing.http.asgi import Headers, Receive, Scope, Send, id_headers, read_body, send_whole
from farthing.http.quota import quota_headers
from farthing.pipeline.stage import Next
from farthing.ports import Publisher
from farthing.settings import EventDoorSettings, ServerSettings
from farthing.types import Answer, Event, Json, Request, Source, utc_now

_CHUNK: Final = 1000
"""Events stored in one transaction, so that none holds others up for long."""
_LARGE: Final = 64 * 1024
"""Bytes of a body beyond which it is read beside the loop: ten thousand events take 50 ms."""
_SHOWN: Final = 1000
"""Refusals that an answer lists."""
_encode = msgspec.json.Encoder().encode

Limit = Callable[[Request, Next], Awaitable[Answer]]
"""The stage that holds keys to their limits (`spend.admission`). Raises `RateLimited`."""


class EventDoor:
    """Takes CloudEvents in, for the tenant of the key, and answers when they are durable."""

    def __init__(
        self,
        publisher: Publisher,
        limit: Limit,
        settings: EventDoorSettings,
        server: ServerSettings,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._publisher = publisher
        self._limit = limit
        self._settings = settings
        self._body_timeout_s = server.body_timeout_s
        self._clock = clock
        self.under_way = 0
        self.taken = 0
        self.known = 0
        self.refused = 0

    async def post(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/events. Raises what `_publish` raises."""
        if self.under_way >= self._settings.max_posts:
            raise Overloaded(f"this worker takes in {self.under_way} batches of events (setting events.door.max_posts)", retry_after_s=1.0)
        self.under_way += 1
        try:
            most = self._settings.max_batch_bytes
            body = await read_body(scope, receive, most=most, timeout_s=self._body_timeout_s, setting="events.door.max_batch_bytes")

            status = 202

            async def taking(request: Request) -> Answer:
                nonlocal status
                status, said = await self._take(request, body, scope["headers"])
                return Answer(source=Source.NONE, model=None, body=_encode(said))

            answer = await self._limit(request, taking)
        finally:
            self.under_way -= 1
        headers: Headers = [*id_headers(request.id), *quota_headers(request)]
        await send_whole(scope, send, status, headers, answer.body or b"")

    async def _take(self, request: Request, body: bytes, headers: Headers) -> tuple[int, Json]:
        terms = self._terms(request)
        arrived = await asyncio.to_thread(read, body, headers, terms) if len(body) > _LARGE else read(body, headers, terms)
        new = await self._publish(arrived.events)
        self.taken += new
        self.known += len(arrived.events) - new
        self.refused += len(arrived.refused)
        return _said(arrived, new)

    def _terms(self, request: Request) -> Terms:
        who, settings = request.principal, self._settings
        return Terms(
            tenant=who.tenant,
            user=who.user,
            now=self._clock(),
            max_events=settings.max_events,
            max_event_bytes=settings.max_event_bytes,
            max_ahead_s=settings.max_ahead_s,
            max_age_s=settings.max_age_s,
        )

    async def _publish(self, events: Sequence[Event]) -> int:
        """Store events, a chunk at a time. Returns how many were new.

        Raises the bus's errors. What was stored before stays: sent again, it counts as a duplicate.
        """
        new = 0
        for start in range(0, len(events), _CHUNK):
            try:
                new += sum(await self._publisher.publish(events[start : start + _CHUNK]))
            except FarthingError as error:
                if not start:
                    raise
                stored = f"The first {start} events are stored; send all again, those count as duplicates."
                raise Unavailable(f"{error.message} {stored}", retry_after_s=error.retry_after_s or 1.0) from error
        return new


def _said(arrived: Arrived, new: int) -> tuple[int, Json]:
    """The answer. Where no event was taken it is an error, with the reason of the first."""
    refused = [{"index": one.index, "id": one.id, "error": one.error.wire()[1]} for one in arrived.refused[:_SHOWN]]
    said: Json = {
        "object": "farthing.events",
        "accepted": new,
        "duplicates": len(arrived.events) - new,
        "rejected": refused,
        "rejected_total": len(arrived.refused),
    }
    if arrived.events:
        return 202, said
    status, error = arrived.refused[0].error.wire()
    return (status if arrived.single else 400), {**said, "error": error}
