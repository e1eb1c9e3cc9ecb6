"""The doors to what is remembered of a user: see it and why, change it, forget the user. For the user as well as for the application."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from starlette.requests import Request as HttpRequest

from farthing.errors import MethodNotAllowed, NotAllowed, NotFound
from farthing.facts import checked_user
from farthing.http.admin_wire import body_of, checked_name, known_parameters, limit_of, switch_of
from farthing.http.asgi import Receive, Scope, Send, id_headers, send_whole
from farthing.http.erasures import erasure, shown
from farthing.ports import FactStore, Forgetter
from farthing.settings import ServerSettings
from farthing.types import Fact, Json, NewFact, Principal, Request, utc_now

PREFIX: Final = "/v1/memory/"
_MOST_BODY: Final = 512 * 1024
_OK: Final = 200
_USUAL: Final = 100
_MOST: Final = 1000
_OF_FACTS: Final = ("id", "key", "value", "multi", "confidence", "by", "sources", "valid_from", "known_from", "confirmed_at", "expires_at")
_OF_HISTORY: Final = (*_OF_FACTS, "valid_to", "known_to", "ended_by")
_encode = msgspec.json.Encoder().encode


class SaidFact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fact that a person states. It holds from now on, or from `valid_from`."""

    key: Annotated[str, msgspec.Meta(max_length=64)]
    value: Any
    multi: bool = False
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    valid_from: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class EditMemory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PATCH /v1/memory/{user}: facts to take back, by their ids, then facts to learn."""

    retract: Annotated[tuple[UUID, ...], msgspec.Meta(max_length=200)] = ()
    learn: Annotated[tuple[SaidFact, ...], msgspec.Meta(max_length=200)] = ()


class MemoryDoors:
    """`facts` are the users', `forgetter` knows all else that is kept of them."""

    def __init__(self, facts: FactStore, forgetter: Forgetter, settings: ServerSettings) -> None:
        self._facts = facts
        self._forgetter = forgetter
        self._settings = settings

    async def below(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """GET, PATCH and DELETE /v1/memory/{user}."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        user = scope["path"].removeprefix(PREFIX)
        if not user:
            raise NotFound(f"name the user: {PREFIX}USER")
        tenant = _tenant_of(request.principal, query)
        _let_in(request.principal, checked_user(user))
        status = _OK
        match scope["method"]:
            case "GET" | "HEAD":
                found = await self._show(tenant, user, query)
            case "PATCH":
                found = await self._edit(request, tenant, user, query, HttpRequest(scope, receive))
            case "DELETE":
                known_parameters(query, "tenant")
                status, found = erasure(await self._forgetter.forget(tenant, user, by=str(request.principal.key_id)))
            case other:
                raise MethodNotAllowed(f"{scope['path'][:200]} takes {_METHODS}, not {other[:16]}.", allowed=_METHODS)
        body = b"" if scope["method"] == "HEAD" else _encode(found)
        again = [] if status == _OK else [(b"x-should-retry", b"true")]
        await send_whole(scope, send, status, [*id_headers(request.id), *again], body)

    async def _show(self, tenant: str, user: str, query: dict[str, str]) -> Json:
        known_parameters(query, "tenant", "history", "about", "limit", "receipts")
        limit = limit_of(query, usual=_USUAL, most=_MOST)
        profile = await self._facts.profile(tenant, user)
        found: Json = {
            "object": "farthing.memory",
            "tenant": tenant,
            "user": user,
            "version": profile.version if profile else 0,
            "facts": [_fact(one, _OF_FACTS) for one in profile.facts] if profile else [],
        }
        if switch_of(query, "history"):
            history = await self._facts.history(tenant, user, key=query.get("about"), limit=limit)
            found["history"] = [_fact(one, _OF_HISTORY) for one in history]
        if switch_of(query, "receipts"):
            found["receipts"] = [shown(one) for one in await self._forgetter.receipts(tenant, user, limit=limit)]
        return found

    async def _edit(self, request: Request, tenant: str, user: str, query: dict[str, str], http: HttpRequest) -> Json:
        arrived = utc_now()
        known_parameters(query, "tenant")
        wanted = await body_of(http, EditMemory, self._settings, most=_MOST_BODY)
        by = f"person:{request.principal.key_id}"
        new = [_said(one, by, arrived) for one in wanted.learn]
        unknown = [one for one in wanted.retract if not await self._facts.retract(tenant, user, one, by=by)]
        await self._facts.learn(tenant, user, new, arrived=arrived)
        shown_now = await self._show(tenant, user, {})
        return {**shown_now, "retracted": len(wanted.retract) - len(unknown), "unknown": unknown}


_METHODS = "DELETE, GET, HEAD, PATCH"


def _tenant_of(principal: Principal, query: dict[str, str]) -> str:
    """The key's own; an admin key may name another one. Raises `NotAllowed`."""
    tenant = query.get("tenant", principal.tenant)
    if tenant == principal.tenant:
        return tenant
    if not principal.admin:
        raise NotAllowed("Only an admin key may name a tenant; leave the parameter `tenant` out.")
    return checked_name(tenant, "tenant")


def _let_in(principal: Principal, user: str) -> None:
    """A key that was made for a user speaks for that user only."""
    if principal.user is not None and principal.user != user:
        raise NotAllowed("This key was made for one user, and opens the memory of that user only.")


def _said(one: SaidFact, by: str, now: datetime) -> NewFact:
    return NewFact(
        key=one.key,
        value=one.value,
        multi=one.multi,
        confidence=one.confidence,
        by=by,
        valid_from=one.valid_from or now,
        expires_at=one.expires_at,
    )


def _fact(one: Fact, names: tuple[str, ...]) -> Json:
    return {name: getattr(one, name) for name in names}
