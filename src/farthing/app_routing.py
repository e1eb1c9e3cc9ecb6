"""From the settings to the route stage: routers, their judges and checks. Part of the composition root."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from farthing.errors import InvalidRequest
from farthing.routing.catalogue import Catalogue, RouterName
from farthing.routing.checks.check import Check
from farthing.routing.estimates import Estimates
from farthing.routing.route_judge import Ask, RouteJudge
from farthing.routing.router import Learned, RouteStage
from farthing.routing.routers import Router, Routers
from farthing.routing.rules import compiled
from farthing.settings import RouterSettings, Settings
from farthing.spend.prices import cost
from farthing.types import Json


def router_names(settings: Settings) -> list[RouterName]:
    """What the catalogue knows of the routers."""
    return [_name(name, router) for name, router in settings.routing.routers.items()]


def _name(name: str, router: RouterSettings) -> RouterName:
    judge = [router.judge.model] if router.judge else []
    models = tuple(dict.fromkeys([*router.models, *judge]))
    return RouterName(name=name, models=models, digest=hashlib.sha256(router.model_dump_json().encode()).digest())


def routers_of(settings: Settings, catalogue: Catalogue, ask: Ask) -> Routers:
    """All routers, ready to decide. `ask` puts a question to a judge."""
    routers = [_router(name, router, catalogue, ask) for name, router in settings.routing.routers.items()]
    return Routers(routers, settings.routing.replace, catalogue, _checks_of)


def _router(name: str, settings: RouterSettings, catalogue: Catalogue, ask: Ask) -> Router:
    judge = settings.judge
    return Router(
        name=name,
        models=tuple(settings.models),
        rules=compiled(settings.rules),
        otherwise=settings.last_rule,
        default=settings.fallback,
        judge=RouteJudge(judge, catalogue.fingerprint(judge.model), ask) if judge else None,
        cascade=tuple(settings.cascade_models) if settings.cascade else (),
        quality=settings.learned.quality if settings.learned else None,
    )


def _checks_of(described: Sequence[Json]) -> tuple[Check, ...]:
    raise InvalidRequest(f"farthing.route.checks: {len(described)} checks are asked for, and there are none yet", param="farthing.route")


def route_stage(
    settings: Settings, routers: Routers, catalogue: Catalogue, learned: Learned | None, clock: Callable[[], datetime]
) -> RouteStage:
    """The stage. It is there without routers too: a mode's ceiling holds for every model."""
    estimates = Estimates(catalogue, cost, settings.budgets.assumed_output_tokens)
    return RouteStage(routers, catalogue, estimates, learned, clock)
