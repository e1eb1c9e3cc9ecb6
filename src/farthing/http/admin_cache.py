"""The admin doors to the caches: flush them, ask why, say that an answer was wrong, see how they do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import InvalidRequest
from farthing.http import parse
from farthing.http.admin_wire import NAME, body_of, checked_name, guarded, json_response, known_parameters
from farthing.http.passage import Admit
from farthing.ports import CacheControl
from farthing.settings import ServerSettings
from farthing.types import CacheScope, Event, Json, Lifeline, Operation, Principal, Request, flush_event, new_id, utc_now

_MOST_LISTED = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Flush(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/cache/flush. What is flushed fits everything that is named; `all` is needed when nothing is.

    `key` is 64 hex digits, as `farthing cache explain` shows them.
    """

    tenant: Text | None = None
    namespace: Text | None = None
    tag: Text | None = None
    user: Text | None = None
    key: Text | None = None
    all: bool = False


class Explain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/cache/explain. `request` is the body of a chat completion; `model` may be left out of it."""

    tenant: Text
    user: Text | None = None
    request: Json


class Opinion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/cache/verdicts: what a person says of an answer from the semantic cache."""

    tenant: Text
    request_id: UUID
    right: bool
    by: Literal["thumb", "correction"] = "thumb"


class CacheDoors:
    """`chat_models` are those that a principal may use, the first one for who names none. `tell` tells the bus of a flush."""

    def __init__(
        self,
        control: CacheControl,
        admit: Admit,
        chat_models: Callable[[Principal], list[str]],
        put_prompt: Callable[[Request], None],
        settings: ServerSettings,
        tell: Callable[[Event], None],
    ) -> None:
        self._control = control
        self._admit = admit
        self._chat_models = chat_models
        self._put_prompt = put_prompt
        self._settings = settings
        self._tell = tell

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/admin/v1/cache/flush", guarded(self._flush), methods=["POST"]),
            Route("/admin/v1/cache/explain", guarded(self._explain), methods=["POST"]),
            Route("/admin/v1/cache/verdicts", guarded(self._hear), methods=["POST"]),
            Route("/admin/v1/cache/stats", guarded(self._stats), methods=["GET"]),
            Route("/admin/v1/cache/hits", guarded(self._hits), methods=["GET"]),
        ]

    async def _flush(self, request: HttpRequest) -> Response:
        wanted = await body_of(request, Flush, self._settings)
        named = [wanted.tenant, wanted.namespace, wanted.tag, wanted.user, wanted.key]
        if wanted.all is any(one is not None for one in named):
            raise InvalidRequest("name what to flush (tenant, namespace, tag, user, key), or say all: true", param="all")
        if wanted.user is not None and wanted.tenant is None:
            raise InvalidRequest("user needs tenant: users of two tenants may have the same name", param="tenant")
        for name, value in (("tenant", wanted.tenant), ("namespace", wanted.namespace), ("tag", wanted.tag), ("user", wanted.user)):
            if value is not None and not value.isprintable():
                raise InvalidRequest(f"{name} must be printable", param=name)
        if wanted.key is not None and not _DIGEST.fullmatch(wanted.key):
            raise InvalidRequest("key: 64 hex digits, as `farthing cache explain` shows them", param="key")
        scope = CacheScope(
            namespace=wanted.namespace,
            tag=wanted.tag,
            user_id=wanted.user,
            answer_key=bytes.fromhex(wanted.key) if wanted.key is not None else None,
        )
        done = await self._control.flush(wanted.tenant, scope)
        self._tell(flush_event(wanted.tenant, scope, utc_now()))
        return json_response(done)

    async def _explain(self, request: HttpRequest) -> Response:
        wanted = await body_of(request, Explain, self._settings)
        checked_name(wanted.tenant, "tenant")
        who = Principal(key_id=UUID(int=0), tenant=wanted.tenant, user=wanted.user)
        models = self._chat_models(who)
        body = {**wanted.request, "model": wanted.request.get("model") or (models[0] if models else "")}
        typed, body = parse.chat(msgspec.json.encode(body))
        extras = parse.extras(body.pop("farthing", None), ())
        asking = Request(
            id=new_id(),
            principal=who,
            operation=Operation.CHAT,
            body=body,
            model=typed.model,
            extras=extras,
            started_ns=time.perf_counter_ns(),
            lifeline=Lifeline(None),
        )
        self._put_prompt(asking)
        asking.fingerprint = self._admit(asking)
        return json_response(await self._control.explain(asking))

    async def _hear(self, request: HttpRequest) -> Response:
        said = await body_of(request, Opinion, self._settings)
        return json_response(await self._control.hear(said.tenant, said.request_id, right=said.right, by=said.by))

    async def _stats(self, request: HttpRequest) -> Response:
        known_parameters(request.query_params)
        return json_response(await self._control.stats())

    async def _hits(self, request: HttpRequest) -> Response:
        query = request.query_params
        known_parameters(query, "tenant", "question")
        try:
            question = UUID(query.get("question", ""))
        except ValueError:
            raise InvalidRequest("question: the id of a cached question, as `farthing cache explain` shows it", param="question") from None
        tenant = query.get("tenant", "")
        if not NAME.fullmatch(tenant):
            raise InvalidRequest("tenant: whose question it is", param="tenant")
        return json_response(await self._control.hits(tenant, question, _MOST_LISTED))
