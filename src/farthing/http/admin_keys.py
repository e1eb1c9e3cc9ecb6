"""The admin doors to keys."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.budgets import new_budget, parse
from farthing.errors import InvalidRequest, NotFound
from farthing.http.admin_wire import MOST_LISTED, body_of, checked_name, guarded, json_response
from farthing.http.auth import KeyRing, digest_of, new_key
from farthing.ports import BudgetStore, KeyStore
from farthing.settings import ServerSettings
from farthing.types import Json, KeyRecord, Limits, new_id, utc_now

_RESERVED = frozenset({"unauthenticated"})
_MOST_PER_MINUTE = 1_000_000_000


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/keys. `budget_usd` is a budget of its own, such as `5/day`; the limits are those of `types.Limits`."""

    tenant: str
    user: str | None = None
    tier: str = "free"
    name: str | None = None
    models: list[str] | None = None
    admin: bool = False
    expires_at: datetime | None = None
    budget_usd: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class KeyDoors:
    """Make, list and revoke keys."""

    def __init__(self, keys: KeyStore, ring: KeyRing, budgets: BudgetStore, models: frozenset[str], settings: ServerSettings) -> None:
        self._keys = keys
        self._ring = ring
        self._budgets = budgets
        self._models = models
        self._settings = settings

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/admin/v1/keys", guarded(self._list), methods=["GET"]),
            Route("/admin/v1/keys", guarded(self._create), methods=["POST"]),
            Route("/admin/v1/keys/{id}", guarded(self._revoke), methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        tenant = request.query_params.get("tenant")
        records = await self._keys.all(MOST_LISTED)
        return json_response({"object": "list", "data": [_shown(r) for r in records if tenant in {None, r.tenant}]})

    async def _create(self, request: Request) -> Response:
        wanted = await body_of(request, NewKey, self._settings)
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
            limits=_limits(wanted),
            created_at=utc_now(),
            expires_at=wanted.expires_at,
        )
        if wanted.budget_usd is not None:
            budget = new_budget("key", record.tenant, str(record.id), wanted.budget_usd, record.created_at)
            await self._budgets.put(budget)  # before the key: it is never without
        await self._keys.add(record)
        await self._ring.reload()
        return json_response({**_shown(record), "key": key, "budget_usd": wanted.budget_usd}, 201)

    def _check(self, wanted: NewKey) -> None:
        for field in ("tenant", "user", "tier"):
            value = getattr(wanted, field)
            if value is not None:
                checked_name(value, field)
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
        if wanted.budget_usd is not None:
            parse(wanted.budget_usd)

    async def _revoke(self, request: Request) -> Response:
        text = request.path_params["id"]
        try:
            key_id = UUID(text)
        except ValueError:
            raise NotFound(f"there is no key {text[:64]!r}: ids are UUIDs, see GET /admin/v1/keys") from None
        if not await self._keys.revoke(key_id, utc_now()):
            raise NotFound(f"there is no key {key_id}")
        await self._ring.reload()
        return json_response({"object": "farthing.key", "id": str(key_id), "revoked": True})


def _limits(wanted: NewKey) -> Limits:
    for field in Limits.__struct_fields__:
        value = getattr(wanted, field)
        if value is not None and not 1 <= value <= _MOST_PER_MINUTE:
            raise InvalidRequest(f"{field}: 1 to {_MOST_PER_MINUTE:,}; leave it out for no limit of the key's own", param=field)
    return Limits(
        requests_per_minute=wanted.requests_per_minute, tokens_per_minute=wanted.tokens_per_minute, concurrency=wanted.concurrency
    )


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
        **msgspec.structs.asdict(record.limits),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
    }
