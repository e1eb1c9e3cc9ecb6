"""The admin doors to trained routers: their versions, which of them decides, and what they can be trained on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import InvalidRequest, NotFound
from farthing.http.admin_wire import KEY_ID, body_of, guarded, json_response, known_parameters, limit_of
from farthing.ports import MOST_ARTEFACT_BYTES, OutcomeStore, RouterStore
from farthing.settings import ServerSettings
from farthing.types import Json, Outcome, OutcomeBy, Promotion, RouterVersion, promotion_trail

_MOST_METRICS: Final = 64 * 1024
_MOST_BODY: Final = MOST_ARTEFACT_BYTES * 4 // 3 + 2 * _MOST_METRICS
_MOST_OUTCOMES: Final = 1000
_USUAL_OUTCOMES: Final = 100
_MOST_PROMOTIONS: Final = 100
_SHOWN_PROMOTIONS: Final = 10

Check = Callable[[str, bytes], Json]
"""What is to be said of an artefact for a router: its models, its embedder. Raises `InvalidRequest` when it does not fit."""
Hear = Callable[[str, UUID, float, OutcomeBy], Awaitable[Json]]
"""What a person says of the answer to a tenant's request. Raises `NotFound` when nothing is known of the request."""


class NewVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/routers/{name}/versions: what `farthing route train --out` wrote, in base64, and how good it is."""

    artefact: bytes
    metrics: Json = {}


class Promote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/routers/{name}/promote: a version, null for none, or `previous` for what decided before."""

    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | Literal["previous"] | None


class RouterOpinion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/routers/verdicts: how good a person finds the answer to a request, 0 (useless) to 1."""

    tenant: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    request_id: UUID
    score: Annotated[float, msgspec.Meta(ge=0, le=1)]
    by: Literal["thumb", "correction"] = "thumb"


class RouterDoors:
    """`learners`: the routers of the settings that can learn, and the names of their candidates, the weakest first."""

    def __init__(
        self,
        routers: RouterStore,
        outcomes: OutcomeStore,
        learners: Mapping[str, Sequence[str]],
        check: Check,
        hear: Hear,
        settings: ServerSettings,
    ) -> None:
        self._routers = routers
        self._outcomes = outcomes
        self._learners = learners
        self._check = check
        self._hear_of = hear
        self._settings = settings

    def routes(self) -> list[Route]:
        """For the application. Names may have slashes in them."""
        router = "/admin/v1/routers/{name:path}"
        return [
            Route("/admin/v1/routers", guarded(self._list), methods=["GET"]),
            Route("/admin/v1/routers/verdicts", guarded(self._hear), methods=["POST"]),
            Route(f"{router}/versions", guarded(self._add), methods=["POST"]),
            Route(f"{router}/promote", guarded(self._promote), methods=["POST"]),
            Route(f"{router}/promoted", guarded(self._promoted), methods=["GET"]),
            Route(f"{router}/outcomes", guarded(self._list_outcomes), methods=["GET"]),
        ]

    async def _list(self, request: Request) -> Response:
        known_parameters(request.query_params)
        versions: dict[str, list[RouterVersion]] = {name: [] for name in self._learners}
        for one in await self._routers.versions():
            versions.setdefault(one.router, []).append(one)
        data = [self._shown(name, some, await self._routers.promotions(name, _MOST_PROMOTIONS)) for name, some in versions.items()]
        return json_response({"object": "list", "data": data})

    def _shown(self, name: str, versions: Sequence[RouterVersion], promotions: Sequence[Promotion]) -> Json:
        trail = promotion_trail(promotions)
        return {
            "object": "farthing.router",
            "router": name,
            "models": self._learners.get(name),
            "promoted": trail[-1],
            "previous": trail[-2:-1],
            "versions": [_version(one) for one in versions],
            "promotions": [{"version": one.version, "at": one.at, "by": one.by} for one in promotions[:_SHOWN_PROMOTIONS]],
        }

    async def _add(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._learners:
            known = ", ".join(self._learners) or "none"
            raise NotFound(f"no router {name[:128]!r} in the settings has a section `learned`; those that have: {known}", param="name")
        given = await body_of(request, NewVersion, self._settings, most=_MOST_BODY)
        if len(msgspec.json.encode(given.metrics)) > _MOST_METRICS:
            raise InvalidRequest(f"metrics may have {_MOST_METRICS} bytes of JSON", param="metrics")
        facts = await asyncio.to_thread(self._check, name, given.artefact)
        added = await self._routers.add(name, given.artefact, {**given.metrics, **facts}, str(request.scope.get(KEY_ID) or ""))
        return json_response({**_version(added), "router": name}, 201)

    async def _promote(self, request: Request) -> Response:
        name = request.path_params["name"]
        wanted = (await body_of(request, Promote, self._settings)).version
        if wanted == "previous":
            trail = promotion_trail(await self._routers.promotions(name, _MOST_PROMOTIONS))
            if len(trail) == 1:
                raise NotFound(f"nothing decided for the router {name[:128]!r} before, so there is nothing to go back to", param="version")
            wanted = trail[-2]
        await self._routers.promote(name, wanted, str(request.scope.get(KEY_ID) or ""))
        versions = await self._routers.versions(name)
        return json_response(self._shown(name, versions, await self._routers.promotions(name, _MOST_PROMOTIONS)))

    async def _promoted(self, request: Request) -> Response:
        name = request.path_params["name"]
        known_parameters(request.query_params)
        found = await self._routers.promoted(name)
        if found is None:
            raise NotFound(f"no version of the router {name[:128]!r} decides", param="name")
        return json_response({**_version(found), "router": name, "artefact": found.artefact})

    async def _list_outcomes(self, request: Request) -> Response:
        query = request.query_params
        known_parameters(query, "tenant", "limit", "before")
        tenant, limit = query.get("tenant"), limit_of(query, usual=_USUAL_OUTCOMES, most=_MOST_OUTCOMES)
        if tenant is not None and "\0" in tenant:
            raise InvalidRequest("tenant holds a NUL character", param="tenant")
        name, before = request.path_params["name"], _place(query["before"]) if "before" in query else None
        found = await self._outcomes.latest(router=name, tenant=tenant, limit=limit + 1, before=before)
        more = len(found) > limit
        last = found[limit - 1] if more else None
        following = f"{last.request_id}:{last.model}" if last is not None else None
        return json_response({"object": "list", "data": [_outcome(one) for one in found[:limit]], "has_more": more, "next": following})

    async def _hear(self, request: Request) -> Response:
        said = await body_of(request, RouterOpinion, self._settings)
        return json_response(await self._hear_of(said.tenant, said.request_id, said.score, said.by))


def _version(one: RouterVersion) -> Json:
    return {
        "version": one.version,
        "created_at": one.created_at,
        "created_by": one.created_by,
        "promoted_at": one.promoted_at,
        "metrics": one.metrics,
    }


def _outcome(one: Outcome) -> Json:
    facts = msgspec.structs.asdict(one)
    return {**facts, "user": facts.pop("user_id")}


def _place(text: str) -> tuple[UUID, str]:
    """Where the page before ended, as `next` said."""
    request_id, _, model = text.partition(":")
    try:
        if "\0" not in model:
            return UUID(request_id), model
    except ValueError:
        pass
    raise InvalidRequest("before: what the page before this one has as `next`", param="before")
