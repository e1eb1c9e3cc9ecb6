"""The admin doors, under /admin/v1: keys, budgets and the report. The gateway lets only admin keys in."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import InvalidRequest, MethodNotAllowed, NotFound
from farthing.http.admin_budgets import BudgetDoors
from farthing.http.admin_keys import KeyDoors
from farthing.http.admin_wire import guarded, json_response
from farthing.http.asgi import Message, Receive, Scope, Send
from farthing.ports import LedgerStore, ReportBy
from farthing.types import Json, Report, utc_now
from farthing.types import Request as FarthingRequest

_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ALL_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_METHODS = {
    "/admin/v1/(keys|budgets)": "GET, HEAD, POST",
    "/admin/v1/(keys|budgets)/[^/]+": "DELETE",
    "/admin/v1/report": "GET, HEAD",
}


class AdminDoors:
    """Keys, budgets and report, as a Starlette application."""

    def __init__(self, keys: KeyDoors, budgets: BudgetDoors, ledger: LedgerStore) -> None:
        self._keys = keys
        self._budgets = budgets
        self._ledger = ledger

    def application(self) -> Starlette:
        """The routes."""
        routes = [
            *self._keys.routes(),
            *self._budgets.routes(),
            Route("/admin/v1/report", guarded(self._report), methods=["GET"]),
            Route("/admin/v1/{rest:path}", guarded(_nothing_here), methods=list(_ALL_METHODS)),
        ]
        return Starlette(routes=routes)

    async def _report(self, request: Request) -> Response:
        query = request.query_params
        unknown = set(query) - {"since", "until", "by", "tenant"}
        if unknown:
            raise InvalidRequest(f"there is no parameter {min(unknown)[:64]!r}; known: since, until, by, tenant")
        by = query.get("by", "model")
        if by not in get_args(ReportBy):
            raise InvalidRequest(f"by must be one of {', '.join(get_args(ReportBy))}", param="by")
        now = utc_now()
        since = _instant(query.get("since", "24h"), now, "since")
        until = _instant(query["until"], now, "until") if "until" in query else now + timedelta(seconds=1)
        if since >= until:
            raise InvalidRequest("since must be before until", param="since")
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


def _instant(text: str, now: datetime, param: str) -> datetime:
    """An age (`24h`, `7d`) or an ISO 8601 instant; without a time zone it is UTC."""
    span = _SPAN.fullmatch(text)
    try:
        if span:
            return now - timedelta(seconds=int(span[1]) * _UNITS[span[2]])
        instant = datetime.fromisoformat(text)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{param} must be an age such as 24h or 7d, or a time such as 2026-11-23T10:00:00Z", param=param) from None


async def _nothing_here(request: Request) -> Response:
    path = request.url.path
    for pattern, allowed in _METHODS.items():
        if re.fullmatch(pattern, path):
            raise MethodNotAllowed(f"{path[:200]} takes {allowed}, not {request.method}", allowed=allowed)
    raise NotFound(f"there is no {path[:200]!r}; admin doors: /admin/v1/keys, /admin/v1/budgets, /admin/v1/report")


def door(application: Starlette) -> Callable[[FarthingRequest, Scope, Receive, Send], Awaitable[None]]:
    """The application as one of the gateway's doors: its answers carry the request id too."""

    async def admin(request: FarthingRequest, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", str(request.id).encode())]
            await send(message)

        await application(scope, receive, sending)

    return admin
