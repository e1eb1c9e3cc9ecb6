"""The admin doors to the event bus: what came, what could not be handled, how far behind handlers are."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import InvalidRequest
from farthing.http.admin_wire import body_of, guarded, json_response, known_parameters, limit_of
from farthing.ports import EventBus
from farthing.settings import ServerSettings
from farthing.types import DeadLetter, Event, Json

_USUAL: Final = 50
_MOST: Final = 1000
_LATEST: Final = -1
_LARGEST: Final = 2**63 - 1


class Replay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/events/replay: dead letters, by the ids that `farthing events dead` shows."""

    ids: Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=_MOST)]


class BusDoors:
    """Look at the bus, and let dead letters live again."""

    def __init__(self, bus: EventBus, settings: ServerSettings) -> None:
        self._bus = bus
        self._settings = settings

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/admin/v1/events", guarded(self._tail), methods=["GET"]),
            Route("/admin/v1/events/dead", guarded(self._dead), methods=["GET"]),
            Route("/admin/v1/events/backlog", guarded(self._backlog), methods=["GET"]),
            Route("/admin/v1/events/replay", guarded(self._replay), methods=["POST"]),
        ]

    async def _tail(self, request: Request) -> Response:
        query = request.query_params
        known_parameters(query, "tenant", "after", "limit")
        after = _position(query.get("after"))
        found = await self._bus.tail(
            tenant=_named(query.get("tenant"), "tenant"), after=after, limit=limit_of(query, usual=_USUAL, most=_MOST)
        )
        last = found[-1].position if found else max(after, 0)
        return json_response({"object": "list", "data": [_event(one) for one in found], "next": last})

    async def _dead(self, request: Request) -> Response:
        query = request.query_params
        known_parameters(query, "tenant", "handler", "limit")
        tenant, handler = (_named(query.get(name), name) for name in ("tenant", "handler"))
        limit = limit_of(query, usual=_USUAL, most=_MOST)
        found = await self._bus.dead(tenant=tenant, handler=handler, limit=limit + 1)
        return json_response({"object": "list", "data": [_letter(one) for one in found[:limit]], "has_more": len(found) > limit})

    async def _backlog(self, request: Request) -> Response:
        known_parameters(request.query_params)
        return json_response({"object": "list", "data": await self._bus.backlog()})

    async def _replay(self, request: Request) -> Response:
        wanted = await body_of(request, Replay, self._settings)
        found = await self._bus.replay(wanted.ids)
        return json_response({"object": "farthing.event_replay", "asked": len(wanted.ids), "replayed": found})


def _position(text: str | None) -> int:
    """Behind which position; without one, the latest."""
    if text is None:
        return _LATEST
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_LARGEST)) and int(text) <= _LARGEST):
        raise InvalidRequest("after: the position of an event, as `next` says it", param="after")
    return int(text)


def _named(text: str | None, name: str) -> str | None:
    if text is not None and "\0" in text:
        raise InvalidRequest(f"{name} holds a NUL character", param=name)
    return text


def _event(one: Event) -> Json:
    return {**msgspec.structs.asdict(one), "specversion": "1.0"}


def _letter(one: DeadLetter) -> Json:
    return {**msgspec.structs.asdict(one), "event": _event(one.event)}
