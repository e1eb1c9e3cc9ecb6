"""The admin doors to retention: whose prompts and answers are kept, and the deletion of what is kept."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import InvalidRequest
from farthing.facts import checked_user
from farthing.http.admin_wire import KEY_ID, body_of, checked_name, guarded, json_response, known_parameters, span, switch_of
from farthing.http.erasures import CACHES, erasure
from farthing.ports import Forgetter, RetentionStore
from farthing.settings import RetentionSettings, ServerSettings
from farthing.types import Json, RetentionPolicy, utc_now

_SHORTEST_S = 60
_NO_KEY = (
    "retention.encryption_key is not set, and without it no texts are kept: make a key with `openssl rand -base64 32`, give it to Farthing "
    'as retention: {encryption_key: "${FARTHING_ENCRYPTION_KEY}"}, on every host the same, and `farthing reload`'
)


class NewRetention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PUT /admin/v1/tenants/{tenant}/retention. `ttl` is such as `30d`. `purge`, when disabling: delete what is there."""

    enabled: bool
    ttl: Annotated[str, msgspec.Meta(max_length=16)] | None = None
    purge: bool = False


class RetentionDoors:
    """Show and set policies; delete texts."""

    def __init__(
        self,
        retention: RetentionStore,
        forgetter: Forgetter,
        settings: RetentionSettings,
        server: ServerSettings,
    ) -> None:
        self._retention = retention
        self._forgetter = forgetter
        self._settings = settings
        self._server = server

    def routes(self) -> list[Route]:
        """For the application."""
        tenant = "/admin/v1/tenants/{tenant}"
        return [
            Route(f"{tenant}/retention", guarded(self._show), methods=["GET"]),
            Route(f"{tenant}/retention", guarded(self._set), methods=["PUT"]),
            Route(f"{tenant}/retention", guarded(self._disable), methods=["DELETE"]),
            Route(f"{tenant}/users/{{user:path}}/data", guarded(self._erase_user), methods=["DELETE"]),
            Route(f"{tenant}/data", guarded(self._erase_tenant), methods=["DELETE"]),
        ]

    async def _show(self, request: Request) -> Response:
        tenant = _tenant(request)
        return json_response(self._shown(tenant, await self._retention.policy(tenant)))

    async def _set(self, request: Request) -> Response:
        tenant = _tenant(request)
        wanted = await body_of(request, NewRetention, self._server)
        if wanted.enabled and wanted.purge:
            raise InvalidRequest("purge deletes what is kept: only together with enabled: false", param="purge")
        if wanted.enabled and self._settings.encryption_key is None:
            raise InvalidRequest(_NO_KEY, param="enabled")
        return await self._put(request, tenant, enabled=wanted.enabled, ttl=wanted.ttl, purge=wanted.purge)

    async def _disable(self, request: Request) -> Response:
        return await self._put(request, _tenant(request), enabled=False, ttl=None, purge=_switch(request, "purge"))

    async def _put(self, request: Request, tenant: str, *, enabled: bool, ttl: str | None, purge: bool) -> Response:
        policy = RetentionPolicy(
            tenant=tenant,
            enabled=enabled,
            ttl_s=await self._ttl_s(tenant, ttl),
            set_by=request.scope.get(KEY_ID),
            set_at=utc_now(),
        )
        await self._retention.set_policy(policy)
        purged = await self._retention.forget(tenant, None) if purge else None
        return json_response({**self._shown(tenant, policy), **({} if purged is None else {"purged": purged})})

    async def _ttl_s(self, tenant: str, ttl: str | None) -> int:
        """As given, else as it was, else the default. Raises `InvalidRequest`."""
        if ttl is None:
            before = await self._retention.policy(tenant)
            return before.ttl_s if before else min(self._settings.default_ttl_s, self._settings.max_ttl_s)
        seconds = span(ttl)
        if seconds is None or not _SHORTEST_S <= seconds <= self._settings.max_ttl_s:
            most = f"{self._settings.max_ttl_s} s (setting retention.max_ttl_s)"
            raise InvalidRequest(f"ttl: a length of time such as 12h, 30d or 8w, from {_SHORTEST_S} s to {most}", param="ttl")
        return seconds

    def _shown(self, tenant: str, policy: RetentionPolicy | None) -> Json:
        enabled = policy is not None and policy.enabled
        keyed = self._settings.encryption_key is not None
        return {
            "object": "farthing.retention",
            "tenant": tenant,
            "enabled": enabled,
            "ttl_s": policy.ttl_s if policy else None,
            "set_by": str(policy.set_by) if policy and policy.set_by else None,
            "set_at": policy.set_at if policy else None,
            "storing": enabled and keyed,
            **({"problem": _NO_KEY} if enabled and not keyed else {}),
        }

    async def _erase_user(self, request: Request) -> Response:
        return await self._erase(request, checked_user(request.path_params["user"]), flush=_switch(request, "flush_cache"))

    async def _erase_tenant(self, request: Request) -> Response:
        known_parameters(request.query_params)
        return await self._erase(request, None, flush=True)

    async def _erase(self, request: Request, user: str | None, *, flush: bool) -> Response:
        """Each place is asked in turn. When one is away the caller is told, and asks again: deleting twice does no harm."""
        by = str(request.scope.get(KEY_ID) or "")
        status, said = erasure(await self._forgetter.forget(_tenant(request), user, by=by, whole=CACHES if flush else ()))
        return json_response(said, status)


def _tenant(request: Request) -> str:
    return checked_name(request.path_params["tenant"], "tenant")


def _switch(request: Request, name: str) -> bool:
    """The one query parameter of a door, which is true or false."""
    known_parameters(request.query_params, name)
    return switch_of(request.query_params, name)
