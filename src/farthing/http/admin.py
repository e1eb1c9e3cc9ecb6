"""The admin doors, under /admin/v1: keys and the report. The gateway lets only admin keys in."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import FarthingError, InvalidRequest, MethodNotAllowed, NotFound
from farthing.http.asgi import ClientLeft, Message, Receive, Scope, Send, error_body, error_headers, read_body
from farthing.http.auth import KeyRing, digest_of, new_key
from farthing.ports import KeyStore, LedgerStore, ReportBy
from farthing.settings import ServerSettings
from farthing.types import Json, KeyRecord, Report, new_id, utc_now
from farthing.types import Request as FarthingRequest

_log = logging.getLogger("farthing.http")
_encode = msgspec.json.Encoder().encode
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}")
_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MOST_LISTED = 10_000
_MOST_BODY = 64 * 1024
_ALL_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_METHODS = {"/admin/v1/keys": "GET, HEAD, POST", "/admin/v1/keys/[^/]+": "DELETE", "/admin/v1/report": "GET, HEAD"}
_RESERVED = frozenset({"unauthenticated"})


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/keys."""

    tenant: str
    user: str | None = None
    tier: str = "free"
    name: str | None = None
    models: list[str] | None = None
    admin: bool = False
    expires_at: datetime | None = None


class AdminDoors:
    """Keys and report, as a Starlette application."""

    def __init__(self, keys: KeyStore, ring: KeyRing, ledger: LedgerStore, models: frozenset[str], settings: ServerSettings) -> None:
        self._keys = keys
        self._ring = ring
        self._ledger = ledger
        self._models = models
        self._settings = settings

    def application(self) -> Starlette:
        """The routes."""
        routes = [
            Route("/admin/v1/keys", _guarded(self._key_list), methods=["GET"]),
            Route("/admin/v1/keys", _guarded(self._key_create), methods=["POST"]),
            Route("/admin/v1/keys/{id}", _guarded(self._key_revoke), methods=["DELETE"]),
            Route("/admin/v1/report", _guarded(self._report), methods=["GET"]),
            Route("/admin/v1/{rest:path}", _guarded(_nothing_here), methods=list(_ALL_METHODS)),
        ]
        return Starlette(routes=routes)

    async def _key_list(self, request: Request) -> Response:
        tenant = request.query_params.get("tenant")
        records = await self._keys.all(_MOST_LISTED)
        return _json({"object": "list", "data": [_shown(r) for r in records if tenant in {None, r.tenant}]})

    async def _key_create(self, request: Request) -> Response:
        data = await read_body(request.scope, request.receive, most=_MOST_BODY, timeout_s=self._settings.body_timeout_s)
        try:
            wanted = msgspec.json.decode(data, type=NewKey)
        except msgspec.ValidationError as error:
            raise InvalidRequest(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from None
        self._check(wanted)
        key = new_key()
        record = KeyRecord(
            id=new_id(),
            tenant=wanted.tenant,
            user=wanted.user,
            tier=wanted.tier,
            name=wanted.name,
            digest=digest_of(key),
            hint=key[-4:],
            admin=wanted.admin,
            models=None if wanted.models is None else tuple(wanted.models),
            created_at=utc_now(),
            expires_at=wanted.expires_at,
        )
        await self._keys.add(record)
        await self._ring.reload()
        return _json({**_shown(record), "key": key}, 201)

    def _check(self, wanted: NewKey) -> None:
        for field in ("tenant", "user", "tier"):
            value = getattr(wanted, field)
            if value is not None and not _NAME.fullmatch(value):
                raise InvalidRequest(f"{field}: 1 to 128 letters, digits and . _ @ : + -, beginning with a letter or digit", param=field)
        if wanted.tenant in _RESERVED:
            raise InvalidRequest(f"the tenant name {wanted.tenant!r} is reserved", param="tenant")
        if wanted.name is not None and not (wanted.name.isprintable() and len(wanted.name) <= 128):  # noqa: PLR2004 - as the others
            raise InvalidRequest("name: at most 128 printable characters", param="name")
        if wanted.expires_at is not None and wanted.expires_at.tzinfo is None:
            raise InvalidRequest("expires_at needs a time zone, such as 2027-01-01T00:00:00Z", param="expires_at")
        unknown = sorted(set(wanted.models or ()) - self._models)
        if unknown:
            known = ", ".join(sorted(self._models)) or "none"
            raise InvalidRequest(f"models: there is no {unknown[0][:128]!r}; known: {known}", param="models")

    async def _key_revoke(self, request: Request) -> Response:
        text = request.path_params["id"]
        try:
            key_id = UUID(text)
        except ValueError:
            raise NotFound(f"there is no key {text[:64]!r}: ids are UUIDs, see GET /admin/v1/keys") from None
        if not await self._keys.revoke(key_id, utc_now()):
            raise NotFound(f"there is no key {key_id}")
        await self._ring.reload()
        return _json({"object": "farthing.key", "id": str(key_id), "revoked": True})

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
        return _json(report_json(report))


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


def _shown(record: KeyRecord) -> Json:
    return {
        "object": "farthing.key",
        "id": str(record.id),
        "tenant": record.tenant,
        "user": record.user,
        "tier": record.tier,
        "name": record.name,
        "hint": record.hint,
        "admin": record.admin,
        "models": record.models,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
    }


async def _nothing_here(request: Request) -> Response:
    path = request.url.path
    for pattern, allowed in _METHODS.items():
        if re.fullmatch(pattern, path):
            raise MethodNotAllowed(f"{path[:200]} takes {allowed}, not {request.method}", allowed=allowed)
    raise NotFound(f"there is no {path[:200]!r}; admin doors: /admin/v1/keys, /admin/v1/report")


def _json(body: object, status: int = 200) -> Response:
    return Response(_encode(body), status, media_type="application/json")


def _guarded(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors of ours as OpenAI's error object."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except FarthingError as error:
            status, body = error_body(error)
            headers = {name.decode(): value.decode() for name, value in error_headers(error)}
            return Response(body, status, headers=headers, media_type="application/json")
        except ClientLeft:
            return Response(status_code=400)
        except Exception:  # noqa: BLE001 - an error object for the caller, the cause in the log
            _log.exception("an admin request failed inside Farthing")
            status, body = error_body(FarthingError("internal error; see Farthing's log"))
            return Response(body, status, media_type="application/json")

    return guarded


def door(application: Starlette) -> Callable[[FarthingRequest, Scope, Receive, Send], Awaitable[None]]:
    """The application as one of the gateway's doors: its answers carry the request id too."""

    async def admin(request: FarthingRequest, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", str(request.id).encode())]
            await send(message)

        await application(scope, receive, sending)

    return admin
