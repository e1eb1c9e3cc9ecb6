"""The admin doors to single requests: what the ledger has of them, and their texts where those are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.cipher import CannotOpen
from farthing.errors import InvalidRequest, NotFound
from farthing.http.admin_wire import guarded, json_response, known_parameters, limit_of, window
from farthing.ports import RequestRecords, RetentionStore
from farthing.types import Json, LedgerEntry, StoredTranscript, time_of, utc_now

_MOST = 1000
_USUAL = 50
_V7 = 7

Open = Callable[[StoredTranscript], Any]
"""A transcript as plain JSON; raises `CannotOpen`."""


class RequestDoors:
    """Find one request, or list the latest."""

    def __init__(self, records: RequestRecords, retention: RetentionStore, opened: Open) -> None:
        self._records = records
        self._retention = retention
        self._open = opened

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/admin/v1/requests", guarded(self._list), methods=["GET"]),
            Route("/admin/v1/requests/{id}", guarded(self._find), methods=["GET"]),
        ]

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        known_parameters(query, "tenant", "user", "since", "until", "limit")
        since, until = window(query, utc_now())
        tenant, user, limit = query.get("tenant"), query.get("user"), limit_of(query, usual=_USUAL, most=_MOST)
        if user is not None and tenant is None:
            raise InvalidRequest("user needs tenant: users of two tenants may have the same name", param="tenant")
        for name, value in (("tenant", tenant), ("user", user)):
            if value is not None and "\0" in value:
                raise InvalidRequest(f"{name} holds a NUL character", param=name)
        found = await self._records.latest(since=since, until=until, tenant=tenant, user=user, limit=limit + 1)
        kept = await self._retention.kept([entry.request_id for entry in found[:limit]])
        data = [{**_shown(entry), "transcript": entry.request_id in kept} for entry in found[:limit]]
        return json_response({"object": "list", "data": data, "has_more": len(found) > limit})

    async def _find(self, request: Request) -> Response:
        known_parameters(request.query_params)
        request_id = _request_id(request.path_params["id"])
        attempts = await self._records.attempts(request_id)
        stored = await self._retention.get(request_id)
        if not attempts and stored is None:
            raise NotFound(f"there is no request {request_id}: the ledger has it within a second or so of its end")
        final = next((entry for entry in reversed(attempts) if entry.final), None)
        whose: LedgerEntry | StoredTranscript | None = final or stored or attempts[-1]
        return json_response(
            {
                "object": "farthing.request",
                "id": str(request_id),
                "at": stored.at if stored else time_of(request_id),
                "tenant": whose.tenant if whose else None,
                "user": whose.user_id if whose else None,
                "attempts": [_shown(entry) for entry in attempts],
                **self._texts(stored),
            }
        )

    def _texts(self, stored: StoredTranscript | None) -> Json:
        if stored is None:
            return {"transcript": None}
        about: Json = {"transcript_expires_at": stored.expires_at}
        try:
            return {**about, "transcript": self._open(stored)}
        except CannotOpen as error:
            problem = f"the transcript cannot be read: {error}; put the key it was sealed with into retention.old_encryption_keys"
            return {**about, "transcript": None, "problem": problem}


def _request_id(text: str) -> UUID:
    try:
        found = UUID(text)
    except ValueError:
        found = UUID(int=0)
    if found.version != _V7:
        raise NotFound(f"there is no request {text[:64]!r}: ids are the UUIDs in the header x-farthing-request-id")
    return found


def _shown(entry: LedgerEntry) -> Json:
    return {**msgspec.structs.asdict(entry), "at": time_of(entry.id)}
