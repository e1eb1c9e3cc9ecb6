"""The admin doors to retention: whose prompts and answers are kept, and the deletion of what is kept."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import InvalidRequest
from farthing.http.admin_keys import NAME
from farthing.http.admin_wire import KEY_ID, body_of, guarded, json_response, known_parameters, span
from farthing.ports import AnswerStore, CacheRecords, OutcomeStore, QuestionIndex, ResponseStore, RetentionStore
from farthing.settings import RetentionSettings, ServerSettings
from farthing.types import CacheScope, Json, RetentionPolicy, utc_now

_SHORTEST_S = 60
_LONGEST_NAME = 256
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}
_NO_KEY = (
    "retention.encryption_key is not set, and without it no texts are kept: make a key with `openssl rand -base64 32`, give it to Farthing "
    'as retention: {encryption_key: "${FARTHING_ENCRYPTION_KEY}"}, on every host the same, and `farthing reload`'
)
_LEDGER = "Ledger rows hold no text and stay, with the user's id: they are the account of what was spent."


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
        responses: ResponseStore,
        answers: AnswerStore,
        questions: QuestionIndex,
        records: CacheRecords,
        outcomes: OutcomeStore,
        settings: RetentionSettings,
        server: ServerSettings,
    ) -> None:
        self._retention = retention
        self._responses = responses
        self._answers = answers
        self._questions = questions
        self._records = records
        self._outcomes = outcomes
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
        user = request.path_params["user"]
        if not (len(user) <= _LONGEST_NAME and user.isprintable()):
            raise InvalidRequest(f"a user's id has 1 to {_LONGEST_NAME} printable characters", param="user")
        return await self._erase(_tenant(request), user, flush=_switch(request, "flush_cache"))

    async def _erase_tenant(self, request: Request) -> Response:
        known_parameters(request.query_params)
        return await self._erase(_tenant(request), None, flush=True)

    async def _erase(self, tenant: str, user: str | None, *, flush: bool) -> Response:
        """Each store is asked in turn. When one is away the caller is told, and asks again: deleting twice does no harm."""
        at = utc_now()
        transcripts = await self._retention.forget(tenant, user)
        responses = await self._responses.forget(tenant, user)
        outcomes = await self._outcomes.forget(tenant, user)
        owner = None if flush else user
        records = await self._records.forget(tenant, owner)  # before the questions: it is they that know their users
        questions = await self._questions.forget(tenant, CacheScope(user_id=owner))
        answers = await self._answers.forget(tenant) if flush else None
        remaining = [_LEDGER]
        if answers is None:
            remaining.append(
                "Cached answers, and questions that are not personal, belong to the tenant and not to a user: they live until they expire "
                "(setting cache.exact.ttl_s), or delete all of the tenant with flush_cache=true."
            )
        deleted = {
            "transcripts": transcripts,
            "responses": responses,
            "outcomes": outcomes,
            "cached_questions": questions,
            "cache_records": records,
            "cached_answers": answers,
        }
        return json_response(
            {"object": "farthing.erasure", "tenant": tenant, "user": user, "at": at, "deleted": deleted, "remaining": remaining}
        )


def _tenant(request: Request) -> str:
    tenant: str = request.path_params["tenant"]
    if not NAME.fullmatch(tenant):
        raise InvalidRequest("tenant: 1 to 128 letters, digits and . _ @ : + -, beginning with a letter or digit", param="tenant")
    return tenant


def _switch(request: Request, name: str) -> bool:
    """A query parameter that is true or false."""
    known_parameters(request.query_params, name)
    value = _SWITCHES.get(request.query_params.get(name, "false").lower())
    if value is None:
        raise InvalidRequest(f"{name} must be true or false", param=name)
    return value
