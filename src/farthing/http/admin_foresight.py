"""The admin doors to foresight: which actions there are, what is learnt of clicks on them, what was computed for nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import InvalidRequest
from farthing.http.admin_wire import guarded, json_response, known_parameters
from farthing.types import Json, utc_now

ActionsOf = Callable[[str | None], Awaitable[list[Json]]]
WasteOf = Callable[[str | None, date], Awaitable[Json]]


class ForesightDoors:
    """`actions` and `waste` read what is counted, of a tenant or (None) all."""

    def __init__(self, actions: ActionsOf, waste: WasteOf) -> None:
        self._actions_of = actions
        self._waste_of = waste

    def routes(self) -> list[Route]:
        """See `http.admin.Doors`."""
        return [
            Route("/admin/v1/foresight/actions", guarded(self._actions), methods=["GET"]),
            Route("/admin/v1/foresight/waste", guarded(self._waste), methods=["GET"]),
        ]

    async def _actions(self, request: Request) -> Response:
        known_parameters(request.query_params, "tenant")
        return json_response({"object": "list", "data": await self._actions_of(request.query_params.get("tenant"))})

    async def _waste(self, request: Request) -> Response:
        query = request.query_params
        known_parameters(query, "tenant", "week")
        return json_response(await self._waste_of(query.get("tenant"), _monday(query.get("week"))))


def _monday(text: str | None) -> date:
    """The Monday of the week that a day is in; of this week unless one is given. Raises `InvalidRequest`."""
    try:
        day = utc_now().date() if text is None else date.fromisoformat(text)
        return day - timedelta(days=day.weekday())
    except (ValueError, OverflowError):
        raise InvalidRequest("week must be a day in it, such as 2026-11-23", param="week") from None
