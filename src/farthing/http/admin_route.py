"""The admin door to the routers: which model a request would go to, and why."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from farthing.http import parse
from farthing.http.admin_wire import KEY_ID, body_of, checked_name, guarded, json_response
from farthing.ports import RouteExplainer
from farthing.settings import ServerSettings
from farthing.types import Json, Lifeline, Operation, Principal, Request, new_id

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class ExplainRoute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/route/explain. `request` is the body of a chat completion.

    `at`: as if it were then. `mode`: as if the caller were in that mode. `ask`: the router's judge is asked, which costs what it costs.
    """

    tenant: Text
    user: Text | None = None
    tier: Text = "free"
    request: Json
    at: datetime | None = None
    mode: Text | None = None
    ask: bool = False


class RouteDoors:
    """What the routers would do."""

    def __init__(self, explain: RouteExplainer, settings: ServerSettings) -> None:
        self._explain = explain
        self._settings = settings

    def routes(self) -> list[Route]:
        """For the application."""
        return [Route("/admin/v1/route/explain", guarded(self._explained), methods=["POST"])]

    async def _explained(self, request: HttpRequest) -> Response:
        wanted = await body_of(request, ExplainRoute, self._settings)
        checked_name(wanted.tenant, "tenant")
        typed, body = parse.chat(msgspec.json.encode(wanted.request))
        asking = Request(
            id=new_id(),
            principal=Principal(key_id=request.scope[KEY_ID], tenant=wanted.tenant, user=wanted.user, tier=wanted.tier),
            operation=Operation.CHAT,
            model=typed.model,
            extras=msgspec.structs.replace(parse.extras(body.pop("farthing", None), ()), dry_run=True),  # nothing is learnt of it
            body=body,
            stream=bool(typed.stream),
            started_ns=time.perf_counter_ns(),
            lifeline=Lifeline(None),
        )
        at = wanted.at
        if at is not None and at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return json_response(await self._explain(asking, at=at, mode=wanted.mode, ask=wanted.ask))
