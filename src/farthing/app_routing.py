"""From the settings to the route stage: routers, their judges and checks. Part of the composition root."""

from __future__ import annotations

import hashlib

from farthing.app_checks import Checks
from farthing.pipeline.errands import Errands
from farthing.pipeline.stage import Next
from farthing.routing.catalogue import Catalogue, RouterName
from farthing.routing.estimates import Estimates
from farthing.routing.explanation import Explainer, ModeOf
from farthing.routing.route_judge import Ask, RouteJudge
from farthing.routing.router import Learned, RouteStage
from farthing.routing.routers import Router, Routers
from farthing.routing.rules import compiled
from farthing.settings import RouterSettings, Settings
from farthing.spend.prices import cost
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import utc_now


def router_names(settings: Settings) -> list[RouterName]:
    """What the catalogue knows of the routers."""
    return [_name(name, router) for name, router in settings.routing.routers.items()]


def _name(name: str, router: RouterSettings) -> RouterName:
    judge = [router.judge.model] if router.judge else []
    models = tuple(dict.fromkeys([*router.models, *judge]))
    return RouterName(name=name, models=models, digest=hashlib.sha256(router.model_dump_json().encode()).digest())


def routers_of(settings: Settings, catalogue: Catalogue, ask: Ask, checks: Checks) -> Routers:
    """All routers, ready to decide. `ask` puts a question to a judge."""
    routers = [_router(name, router, catalogue, ask, checks) for name, router in settings.routing.routers.items()]
    return Routers(routers, settings.routing.replace, catalogue, checks.of_request)


def _router(name: str, settings: RouterSettings, catalogue: Catalogue, ask: Ask, checks: Checks) -> Router:
    judge = settings.judge
    return Router(
        name=name,
        models=tuple(settings.models),
        rules=compiled(settings.rules),
        otherwise=settings.last_rule,
        default=settings.fallback,
        judge=RouteJudge(judge, catalogue.fingerprint(judge.model), ask) if judge else None,
        cascade=tuple(settings.cascade_models) if settings.cascade else (),
        checks=checks.of_settings(settings.cascade.checks) if settings.cascade else (),
        quality=settings.learned.quality if settings.learned else None,
    )


class Routing:
    """The route stage, what asks judges for it, and what explains it.

    The stage is there without routers too: a mode's ceiling holds for every model. `learned` is None where nothing is learnt.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue, learned: Learned | None, mode_of: ModeOf) -> None:
        self._questions = Errands(most=settings.routing.max_questions)
        self._checks = Checks(self._questions.ask)
        self.routers = routers_of(settings, catalogue, self._questions.ask, self._checks)
        estimates = Estimates(catalogue, cost, settings.budgets.assumed_output_tokens)
        self.stage = RouteStage(self.routers, catalogue, estimates, learned, utc_now)
        self.explain = Explainer(self.routers, self.stage, estimates, mode_of)

    def begin(self, flow: Next) -> None:
        """From now on judges are asked this way."""
        self._questions.begin(flow)

    def start(self) -> None:
        """Begin the background work."""
        self._checks.start()

    async def aclose(self) -> None:
        """End what is under way."""
        await self._questions.close()
        await self._checks.aclose()

    def register(self, metrics: Metrics) -> None:
        """Show how the routers do."""
        unasked = "Questions to judges of routers that were not asked: too many."
        metrics.counter(names.ROUTE_QUESTIONS_SKIPPED, unasked, lambda: self._questions.skipped)
        self._checks.register(metrics)
