"""The admin doors, under /admin/v1: keys, budgets, caches, modes, retention, requests, the report. The gateway lets only admin keys in."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, get_args

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import InvalidRequest, MethodNotAllowed, NotFound
from farthing.http.admin_wire import KEY_ID, guarded, json_response, known_parameters, window
from farthing.http.asgi import Message, Receive, Scope, Send
from farthing.ports import LedgerStore, ReportBy
from farthing.types import Json, Report, utc_now
from farthing.types import Request as FarthingRequest

_ALL_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_DOORS = (
    "/admin/v1/keys, /admin/v1/budgets, /admin/v1/cache/{flush,explain,verdicts,stats,hits}, /admin/v1/report, /admin/v1/requests, "
    "/admin/v1/mode, /admin/v1/mode/{pins,history}, /admin/v1/route/explain, "
    "/admin/v1/events, /admin/v1/events/{dead,backlog,replay}, /admin/v1/feedback, /admin/v1/feedback/export, "
    "/admin/v1/mode, /admin/v1/mode/{pins,history}, /admin/v1/route/explain, /admin/v1/foresight/{actions,waste}, "
    "/admin/v1/routers, /admin/v1/routers/{name}/{versions,promote,promoted,outcomes}, /admin/v1/routers/verdicts, "
    "/admin/v1/jobs, /admin/v1/jobs/{run}/{results,cancel}, /admin/v1/tenants/{tenant}/retention"
)
_METHODS = {
    "/admin/v1/(keys|budgets)": "GET, HEAD, POST",
    "/admin/v1/(keys|budgets)/[^/]+": "DELETE",
    "/admin/v1/cache/(flush|explain|verdicts)": "POST",
    "/admin/v1/cache/(stats|hits)": "GET, HEAD",
    "/admin/v1/jobs(/[^/]+(/results)?)?": "GET, HEAD",
    "/admin/v1/jobs/[^/]+/cancel": "POST",
    "/admin/v1/events(/(dead|backlog))?": "GET, HEAD",
    "/admin/v1/events/replay": "POST",
    "/admin/v1/feedback(/export)?": "GET, HEAD",
    "/admin/v1/foresight/(actions|waste)": "GET, HEAD",
    "/admin/v1/mode": "GET, HEAD, PUT",
    "/admin/v1/mode/history": "GET, HEAD",
    "/admin/v1/mode/pins": "POST",
    "/admin/v1/mode/pins/[^/]+": "DELETE",
    "/admin/v1/report": "GET, HEAD",
    "/admin/v1/route/explain": "POST",
    "/admin/v1/requests(/[^/]+)?": "GET, HEAD",
    "/admin/v1/routers": "GET, HEAD",
    "/admin/v1/routers/verdicts": "POST",
    "/admin/v1/routers/.+/(versions|promote)": "POST",
    "/admin/v1/routers/.+/(promoted|outcomes)": "GET, HEAD",
    "/admin/v1/tenants/[^/]+/retention": "DELETE, GET, HEAD, PUT",
    "/admin/v1/tenants/[^/]+(/users/.+)?/data": "DELETE",
}


class Doors(Protocol):
    """The doors of one noun."""

    def routes(self) -> list[Route]:
        """Under which paths they are."""


class AdminDoors:
    """All of them, as a Starlette application."""

    def __init__(self, ledger: LedgerStore, doors: Sequence[Doors]) -> None:
        self._ledger = ledger
        self._doors = doors

    def application(self) -> Starlette:
        """The routes."""
        routes = [
            *(route for doors in self._doors for route in doors.routes()),
            Route("/admin/v1/report", guarded(self._report), methods=["GET"]),
            Route("/admin/v1/{rest:path}", guarded(_nothing_here), methods=list(_ALL_METHODS)),
        ]
        return Starlette(routes=routes)

    async def _report(self, request: Request) -> Response:
        query = request.query_params
        known_parameters(query, "since", "until", "by", "tenant")
        by = query.get("by", "model")
        if by not in get_args(ReportBy):
            raise InvalidRequest(f"by must be one of {', '.join(get_args(ReportBy))}", param="by")
        now = utc_now()
        since, until = window(query, now)
        tenant = query.get("tenant")
        report = await self._ledger.report(since=since, until=until, by=by, tenant=tenant)  # type: ignore[arg-type]  # checked above
        return json_response(report_json(report))


def report_json(report: Report) -> Json:
    """The report as scripts read it: the totals at the top level."""
    return {
        "object": "farthing.report",
        "since": report.since,
        "until": report.until,
        "by": report.by,
        **msgspec.structs.asdict(report.total),
        "by_source": report.by_source,
        "rows": report.rows,
        "notional_models": report.notional_models,
    }


async def _nothing_here(request: Request) -> Response:
    path = request.url.path
    for pattern, allowed in _METHODS.items():
        if re.fullmatch(pattern, path):
            raise MethodNotAllowed(f"{path[:200]} takes {allowed}, not {request.method}", allowed=allowed)
    raise NotFound(f"there is no {path[:200]!r}; admin doors: {_DOORS}")


def door(application: Starlette) -> Callable[[FarthingRequest, Scope, Receive, Send], Awaitable[None]]:
    """The application as one of the gateway's doors: its answers carry the request id too."""

    async def admin(request: FarthingRequest, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", str(request.id).encode())]
            await send(message)

        scope[KEY_ID] = request.principal.key_id
        await application(scope, receive, sending)

    return admin
