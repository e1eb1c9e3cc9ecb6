"""The admin doors to jobs: runs, what came of their items, and an end to them."""

from __future__ import annotations

from typing import Any, Final, get_args
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.errors import InvalidRequest, NotFound
from farthing.http.admin_wire import guarded, json_response, known_parameters, limit_of
from farthing.ports import JobStore
from farthing.types import ItemState, Json, Run, RunState

_MOST: Final = 1000
_USUAL: Final = 50
_MOST_POSITION_DIGITS: Final = 18


class JobDoors:
    """List, show and cancel runs; read results, also while a run is under way."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/admin/v1/jobs", guarded(self._list), methods=["GET"]),
            Route("/admin/v1/jobs/{run}", guarded(self._show), methods=["GET"]),
            Route("/admin/v1/jobs/{run}/results", guarded(self._results), methods=["GET"]),
            Route("/admin/v1/jobs/{run}/cancel", guarded(self._cancel), methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        known_parameters(query, "tenant", "kind", "state", "limit", "before")
        limit, state = limit_of(query, usual=_USUAL, most=_MOST), _one_of(query.get("state"), get_args(RunState))
        before = _id(query["before"], "before") if "before" in query else None
        asked = {name: query.get(name) for name in ("tenant", "kind")}
        for name, value in asked.items():
            if value is not None and "\0" in value:
                raise InvalidRequest(f"{name} holds a NUL character", param=name)
        found = await self._jobs.runs(**asked, state=state, limit=limit + 1, before=before)
        more = len(found) > limit
        page = found[:limit]
        following = str(page[-1].id) if more else None
        return json_response({"object": "list", "data": [run_json(run) for run in page], "has_more": more, "next": following})

    async def _show(self, request: Request) -> Response:
        known_parameters(request.query_params)
        return json_response(run_json(await self._found(request)))

    async def _results(self, request: Request) -> Response:
        query = request.query_params
        known_parameters(query, "state", "limit", "after")
        limit, state = limit_of(query, usual=_USUAL, most=_MOST), _one_of(query.get("state"), get_args(ItemState))
        after = _position(query.get("after"))
        run = await self._found(request)
        page = await self._jobs.results(run.id, state=state, limit=limit, after=after)
        more = bool(page) and bool(await self._jobs.results(run.id, state=state, limit=1, after=page[-1].position))
        following = str(page[-1].position) if more else None
        return json_response({"object": "list", "run": run.id, "data": page, "has_more": more, "next": following})

    async def _cancel(self, request: Request) -> Response:
        known_parameters(request.query_params)
        return json_response(run_json(await self._jobs.cancel(_id(request.path_params["run"], "run"))))

    async def _found(self, request: Request) -> Run:
        run = _id(request.path_params["run"], "run")
        found = await self._jobs.run(run)
        if found is None:
            raise NotFound(f"there is no run {run}", param="run")
        return found


def run_json(run: Run) -> Json:
    """A run as scripts read it."""
    progress = {**msgspec.structs.asdict(run.progress), "total": run.progress.total}
    return {"object": "farthing.run", **msgspec.structs.asdict(run), "progress": progress}


def _id(text: str, param: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequest(f"{param} must be the id of a run, such as 019a0000-0000-7000-8000-000000000000", param=param) from None


def _one_of(state: str | None, known: tuple[Any, ...]) -> Any:
    if state is not None and state not in known:
        raise InvalidRequest(f"state must be one of {', '.join(known)}", param="state")
    return state


def _position(text: str | None) -> int:
    if text is None:
        return -1
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_POSITION_DIGITS):
        raise InvalidRequest("after: what the page before this one has as `next`", param="after")
    return int(text)
