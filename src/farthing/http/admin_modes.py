"""The admin doors to modes: what holds for whom, setting it by hand, pins, and who did what when."""

from __future__ import annotations

import asyncio
import difflib
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Annotated
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.config import conflict
from farthing.errors import Conflict, InvalidRequest, NotFound, Unavailable
from farthing.http.admin_wire import KEY_ID, MOST_LISTED, NAME, body_of, guarded, json_response, known_parameters
from farthing.http.mode_lines import scopes_json, somebody, state_in, version_json
from farthing.modes import MODES, body_after, pinned, set_mode
from farthing.ports import ConfigStore, KeyStore
from farthing.settings import ServerSettings
from farthing.types import TOTAL, Document, Json, KeyRecord, Mode, ModeState, Principal, utc_now

_READ_S = 3.0
_WRITE_S = 15.0
_PAUSE_S = 0.05
_LONGEST_S = 366 * 86_400
_MOST_VERSIONS = 1000
_VERSIONS = 20
_KINDS = ("total", "tier", "tenant", "key")
_FORMS = "write total, tier:NAME, tenant:NAME or key:UUID"

Reason = Annotated[str, msgspec.Meta(max_length=500)]
Version = Annotated[int, msgspec.Meta(ge=0)]


class NewMode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PUT /admin/v1/mode. The policy may move on from there; a pin holds.

    `version`: of the state that this follows; when it is another one by now, nothing is changed.
    """

    mode: str
    scope: str = TOTAL
    reason: Reason = ""
    version: Version | None = None


class NewPin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/mode/pins. It ends after `for_s` seconds, or at `until`; without both, never."""

    mode: str
    scope: str = TOTAL
    for_s: Annotated[float, msgspec.Meta(gt=0, le=_LONGEST_S)] | None = None
    until: str | None = None
    reason: Reason = ""
    version: Version | None = None


class ModeDoors:
    """Show and change modes.

    `known` gives the latest document that this worker has seen, for when the store is away; `changed` is told of one that was written
    here; `lines` gives what is known of spending, as JSON.
    """

    def __init__(
        self,
        store: ConfigStore,
        ladder: Sequence[Mode],
        keys: KeyStore,
        settings: ServerSettings,
        *,
        known: Callable[[], Document | None] | None = None,
        changed: Callable[[Document], None] | None = None,
        lines: Callable[[], Json] | None = None,
    ) -> None:
        self._store = store
        self._ladder = ladder
        self._keys = keys
        self._settings = settings
        self._known = known
        self._changed = changed
        self._lines = lines
        self._seen: Document | None = None
        self._has_seen = False

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/admin/v1/mode", guarded(self._show), methods=["GET"]),
            Route("/admin/v1/mode", guarded(self._set), methods=["PUT"]),
            Route("/admin/v1/mode/history", guarded(self._history), methods=["GET"]),
            Route("/admin/v1/mode/pins", guarded(self._pin), methods=["POST"]),
            Route("/admin/v1/mode/pins/{scope}", guarded(self._unpin), methods=["DELETE"]),
        ]

    async def _show(self, request: Request) -> Response:
        known_parameters(request.query_params, "scope")
        asked = request.query_params.get("scope")
        others = {} if asked is None else {_scope(asked): await self._caller(_scope(asked))}
        try:
            document, stale = self._saw(await self._read()), False
        except Unavailable:
            document, stale = self._last_known(), True
        return json_response({**self._state_json(document, others), "stale": stale})

    async def _read(self) -> Document | None:
        try:
            async with asyncio.timeout(_READ_S):
                return await self._store.read(MODES)
        except TimeoutError:
            raise Unavailable(f"The config store has not answered for {_READ_S:g} s.") from None

    def _saw(self, document: Document | None) -> Document | None:
        self._seen, self._has_seen = document, True
        return document

    def _last_known(self) -> Document | None:
        """The newest that this worker has seen. Raises `Unavailable` when it has seen nothing."""
        known = self._known() if self._known else None
        if known is not None and (self._seen is None or known.version >= self._seen.version):
            return known
        if not self._has_seen:
            raise Unavailable("The config store is away, and this worker has not seen the modes yet.", retry_after_s=1.0)
        return self._seen

    async def _caller(self, scope: str) -> Principal:
        """Who is in a scope: of a key, its tenant and tier are known. Raises `NotFound`."""
        record = await self._key(scope)
        if record is None:
            return somebody(scope)
        return Principal(key_id=record.id, tenant=record.tenant, user=record.user, tier=record.tier)

    async def _key(self, scope: str) -> KeyRecord | None:
        """The key that a scope is of; None when it is of none, or the keys are away. Raises `NotFound`."""
        if not scope.startswith("key:"):
            return None
        try:
            records = await self._keys.all(MOST_LISTED)
        except Unavailable:
            return None
        found = next((record for record in records if f"key:{record.id}" == scope), None)
        if found is None and len(records) < MOST_LISTED:
            raise NotFound(f"there is no key {scope.removeprefix('key:')}: give its id, see GET /admin/v1/keys")
        return found

    async def _set(self, request: Request) -> Response:
        wanted = await body_of(request, NewMode, self._settings)
        mode, scope = self._mode(wanted.mode), _scope(wanted.scope)
        await self._key(scope)
        best = self._ladder[0].name

        def change(state: ModeState, by: str, now: datetime) -> ModeState:
            return set_mode(state, scope, mode, by=by, reason=wanted.reason, now=now, best=best)

        return await self._change(request, change, reason=wanted.reason, version=wanted.version)

    async def _pin(self, request: Request) -> Response:
        wanted = await body_of(request, NewPin, self._settings)
        mode, scope, until = self._mode(wanted.mode), _scope(wanted.scope), _until(wanted, utc_now())
        await self._key(scope)

        def change(state: ModeState, by: str, now: datetime) -> ModeState:
            return pinned(state, scope, mode, by=by, reason=wanted.reason, now=now, until=until)

        return await self._change(request, change, reason=wanted.reason, version=wanted.version)

    async def _unpin(self, request: Request) -> Response:
        known_parameters(request.query_params, "reason", "version")
        scope, reason = _scope(request.path_params["scope"]), request.query_params.get("reason", "")
        version = _number(request, "version", 0, 2**62)

        def change(state: ModeState, by: str, now: datetime) -> ModeState:
            if scope not in state.pins:
                there = ", ".join(sorted(state.pins)) or "none"
                raise NotFound(f"there is no pin of {scope}; pinned: {there}")
            return pinned(state, scope, None, by=by, reason=reason, now=now)

        return await self._change(request, change, reason=reason, version=version)

    async def _change(
        self, request: Request, change: Callable[[ModeState, str, datetime], ModeState], *, reason: str, version: int | None
    ) -> Response:
        """Read, change, write; and again when somebody else was faster, unless a version is expected."""
        by = await self._who(request)
        try:
            async with asyncio.timeout(_WRITE_S):
                while True:
                    before = await self._store.read(MODES)
                    latest = before.version if before else 0
                    if version not in {None, latest}:
                        raise conflict(MODES, before, version or 0)
                    body = body_after(before.body if before else {}, change(state_in(before)[0], by, utc_now()), self._ladder[0].name)
                    try:
                        written = await self._store.write(MODES, body, expect=latest, by=by, reason=reason)
                        break
                    except Conflict:
                        if version is not None:
                            raise
                    await asyncio.sleep(_PAUSE_S * random.random())  # noqa: S311 - so that two do not meet again
        except TimeoutError:
            raise Unavailable(f"The config store has not taken the change for {_WRITE_S:g} s; see whether it has it.") from None
        if self._changed is not None:
            self._changed(written)
        return json_response({**self._state_json(self._saw(written), {}), "stale": False})

    async def _who(self, request: Request) -> str:
        """The admin key, by its name where it has one."""
        key_id = request.scope.get(KEY_ID)
        try:
            record = await self._key(f"key:{key_id}")
        except NotFound:
            record = None
        return f"operator:{record.name}" if record is not None and record.name else f"operator:{key_id}"

    async def _history(self, request: Request) -> Response:
        known_parameters(request.query_params, "limit")
        limit = _number(request, "limit", 1, _MOST_VERSIONS) or _VERSIONS
        versions = await self._store.history(MODES, limit + 1)
        pairs = zip_longest(versions, versions[1:])
        return json_response({"object": "list", "data": [version_json(one, before) for one, before in pairs][:limit]})

    def _mode(self, name: str) -> str:
        """The name of a rung. Raises `InvalidRequest` with a proposal."""
        names = [rung.name for rung in self._ladder]
        if name not in names:
            raise InvalidRequest(
                f"there is no mode {name[:64]!r}{_proposal(name, names)}; the ladder has: {', '.join(names)}", param="mode"
            )
        return name

    def _state_json(self, document: Document | None, others: dict[str, Principal]) -> Json:
        state, problem = state_in(document)
        return {
            "object": "farthing.mode",
            "version": document.version if document else 0,
            "at": document.at if document else None,
            "by": document.by if document else None,
            "reason": document.reason if document else None,
            "scopes": scopes_json(state, self._ladder, utc_now(), others),
            "ladder": self._ladder,
            "problem": problem,
            "spend": self._lines() if self._lines else None,
        }


def _proposal(name: str, names: Sequence[str]) -> str:
    by_folded = {one.casefold(): one for one in names}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return f"; did you mean {by_folded[close[0]]!r}?" if close else ""


def _scope(text: str) -> str:
    """A scope, as it is written down. Raises `InvalidRequest` with a proposal."""
    kind, colon, name = text.partition(":")
    if text == TOTAL or (kind in {"tier", "tenant"} and NAME.fullmatch(name)):
        return text
    if kind == "key" and colon:
        try:
            return f"key:{UUID(name)}"
        except ValueError:
            raise InvalidRequest(f"{name[:64]!r} is no id of a key: those are UUIDs, see GET /admin/v1/keys", param="scope") from None
    close = difflib.get_close_matches(kind.casefold(), _KINDS, n=1, cutoff=0.5)
    meant = f"; did you mean {close[0]}{':' + name[:64] if close[0] != TOTAL else ''}?" if close and kind not in _KINDS else ""
    raise InvalidRequest(f"{text[:64]!r} is no scope{meant or ':'} {_FORMS}", param="scope")


def _until(wanted: NewPin, now: datetime) -> datetime | None:
    """When the pin ends. Raises `InvalidRequest`."""
    if wanted.for_s is not None and wanted.until is not None:
        raise InvalidRequest("say for_s or until, not both", param="until")
    if wanted.for_s is not None:
        return now + timedelta(seconds=wanted.for_s)
    if wanted.until is None:
        return None
    try:
        until = datetime.fromisoformat(wanted.until)
    except ValueError:
        raise InvalidRequest(f"{wanted.until[:64]!r} is no time: write 2026-11-28T18:00:00Z, or for_s: 7200", param="until") from None
    until = until.replace(tzinfo=UTC) if until.tzinfo is None else until
    if not now < until <= now + timedelta(seconds=_LONGEST_S):
        raise InvalidRequest("until must be in the future, and at most 366 days away", param="until")
    return until


def _number(request: Request, name: str, least: int, most: int) -> int | None:
    """A whole number in the query; None when it is not there. Raises `InvalidRequest`."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):  # noqa: PLR2004 - digits of 64 bits
        raise InvalidRequest(f"{name} must be a whole number of {least} to {most}", param=name)
    return int(text)
