"""The admin doors to budgets."""

from __future__ import annotations

from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.budgets import BudgetUse, Scope, new_budget
from farthing.errors import InvalidRequest, NotFound
from farthing.http.admin_wire import MOST_LISTED, body_of, checked_name, guarded, json_response
from farthing.ports import BudgetStore, KeyStore
from farthing.settings import ServerSettings
from farthing.types import Json, dollars, utc_now


class NewBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/budgets: dollars per window (`5/day`, `5/rolling-24h soft`), and whose it is.

    Of a key (its id), of a tenant's user, of a tenant, of a tier, or in total.
    """

    budget_usd: str
    key: str | None = None
    tenant: str | None = None
    user: str | None = None
    tier: str | None = None
    total: bool = False


class BudgetDoors:
    """Make, change, list and delete budgets."""

    def __init__(self, budgets: BudgetStore, keys: KeyStore, settings: ServerSettings) -> None:
        self._budgets = budgets
        self._keys = keys
        self._settings = settings

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/admin/v1/budgets", guarded(self._list), methods=["GET"]),
            Route("/admin/v1/budgets", guarded(self._put), methods=["POST"]),
            Route("/admin/v1/budgets/{id}", guarded(self._delete), methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        tenant = request.query_params.get("tenant")
        found = [budget for budget in await self._budgets.all(MOST_LISTED) if tenant in {None, budget.tenant}]
        uses = await self._budgets.uses(found, utc_now())
        return json_response({"object": "list", "data": [_shown(use) for use in uses]})

    async def _put(self, request: Request) -> Response:
        wanted = await body_of(request, NewBudget, self._settings)
        scope, tenant, subject = await self._whose(wanted)
        budget = new_budget(scope, tenant, subject, wanted.budget_usd, utc_now())
        if any(known.id == budget.id and known.origin == "settings" for known in await self._budgets.all(MOST_LISTED)):
            raise InvalidRequest("this budget is in the settings file: change it there")
        await self._budgets.put(budget)
        (use,) = await self._budgets.uses([budget], utc_now())
        return json_response(_shown(use), 201)

    async def _whose(self, wanted: NewBudget) -> tuple[Scope, str | None, str]:
        """Scope, tenant and subject. Raises `InvalidRequest` or `NotFound`."""
        for field in ("tenant", "user", "tier"):
            value = getattr(wanted, field)
            if value is not None:
                checked_name(value, field)
        match (wanted.key, wanted.tenant, wanted.user, wanted.tier, wanted.total):
            case (str(key), None, None, None, False):
                record = next((record for record in await self._keys.all(MOST_LISTED) if str(record.id) == key), None)
                if record is None:
                    raise NotFound(f"there is no key {key[:64]!r}: give its id, see GET /admin/v1/keys")
                return "key", record.tenant, key
            case (None, str(tenant), str(user), None, False):
                return "user", tenant, user
            case (None, str(tenant), None, None, False):
                return "tenant", tenant, tenant
            case (None, None, None, str(tier), False):
                return "tier", None, tier
            case (None, None, None, None, True):
                return "total", None, ""
        raise InvalidRequest("say whose budget it is by one of: key, tenant, tenant and user, tier, or total: true")

    async def _delete(self, request: Request) -> Response:
        text = request.path_params["id"]
        try:
            wanted = UUID(text)
        except ValueError:
            raise NotFound(f"there is no budget {text[:64]!r}: ids are UUIDs, see GET /admin/v1/budgets") from None
        known = {budget.id: budget for budget in await self._budgets.all(MOST_LISTED)}
        if wanted in known and known[wanted].origin == "settings":
            raise InvalidRequest("this budget is in the settings file: remove it there")
        if not await self._budgets.delete(wanted):
            raise NotFound(f"there is no budget {wanted}")
        return json_response({"object": "farthing.budget", "id": str(wanted), "deleted": True})


def _shown(use: BudgetUse) -> Json:
    budget = use.budget
    now = utc_now()
    return {
        "object": "farthing.budget",
        "id": str(budget.id),
        "scope": budget.scope,
        "subject": budget.subject,
        "tenant": budget.tenant,
        "budget_usd": f"{dollars(budget.limit_microusd)}/{budget.window}",
        "limit_microusd": budget.limit_microusd,
        "window": str(budget.window),
        "hard": budget.hard,
        "origin": budget.origin,
        "spent_microusd": use.spent_microusd,
        "held_microusd": use.held_microusd,
        "remaining_microusd": max(0, budget.limit_microusd - use.spent_microusd),
        "resets_at": budget.window.end(now) if budget.window.kind in {"hour", "day", "month"} else None,
    }
