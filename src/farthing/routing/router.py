"""The route stage: which models answer a request, in which order, and why.

Rules first, then whatever the router has for the rest: its learned part, its judge, its cascade, or a model. Whatever cannot decide
leaves the request to the router's default. The mode has the last word: nothing goes to a model dearer than its ceiling.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from farthing.pipeline.stage import Next
from farthing.routing.catalogue import Catalogue
from farthing.routing.ceiling import Ceiling
from farthing.routing.choice import Choice
from farthing.routing.estimates import Estimates
from farthing.routing.reading import Reading
from farthing.routing.routers import Route, Router, Routers
from farthing.routing.rules import first
from farthing.settings import CASCADE, JUDGE, LEARNED
from farthing.types import DEEP, Answer, Operation, Request

OTHERWISE = "otherwise"
DEFAULT = "default"
CONTEXT = "context"


class Learned(Protocol):
    """What has been learnt of the models' answers."""

    async def choose(self, router: str, request: Request, quality: float, models: Sequence[str]) -> tuple[str | None, str]:
        """The cheapest of these models that keeps to a quality, or None for "I do not know", and why, in words. Never raises."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done: `use` a model or `cascade`. `followed`: models after it in the cascade are asked when its answer fails."""

    use: str
    label: str
    reason: str
    followed: bool = False

    @property
    def is_learned(self) -> bool:
        """Whether it is for the learned part to say which model."""
        return self.use == LEARNED


class RouteStage:
    """See `pipeline.stage.Stage`. `learned` is None where no router has a learned part."""

    def __init__(
        self, routers: Routers, catalogue: Catalogue, estimates: Estimates, learned: Learned | None, clock: Callable[[], datetime]
    ) -> None:
        self._routers = routers
        self._catalogue = catalogue
        self._estimates = estimates
        self._learned = learned
        self._clock = clock
        self._ceiling = Ceiling(catalogue)

    def __call__(self, request: Request, following: Next) -> Awaitable[Answer]:
        """Choose, and let the request go on. A request that names a model in the best mode goes on at once."""
        if request.operation is not Operation.CHAT:
            return following(request)
        route = self._routers.route_of(request)
        if route is None and request.mode is DEEP:
            return following(request)
        return self._routed(request, route, following)

    async def _routed(self, request: Request, route: Route | None, following: Next) -> Answer:
        request.choice = await self._choice(request, route)
        return await following(request)

    async def choose(self, request: Request) -> Choice | None:
        """Which models answer; None: the one that was asked for. Raises `InvalidRequest` when the request leaves no candidate."""
        return await self._choice(request, self._routers.route_of(request))

    async def _choice(self, request: Request, route: Route | None) -> Choice | None:
        if route is None:
            return self.held(request, None, None)
        reading = Reading(request, self._clock)
        candidates = self._estimates.candidates(route, reading)
        choice = self.chosen(route, await self.decide(reading, route, candidates), candidates, reading)
        return self.held(request, choice, route)

    def held(self, request: Request, choice: Choice | None, route: Route | None) -> Choice | None:
        """The choice under the ceiling of the request's mode."""
        if request.mode is DEEP:
            return choice
        return self._ceiling.under(request, choice, route.router.models if route else ())

    def first_word(self, reading: Reading, route: Route) -> Decided:
        """What the rules say, or what there is for what they leave. `use` may be `judge` or `learned` here."""
        router = route.router
        rule = first(router.rules, reading)
        if rule is not None:
            return Decided(use=rule.use, label=f"rule:{rule.name}", reason=f"the rule {rule.name!r} holds")
        use = LEARNED if route.options.quality is not None else router.otherwise
        return Decided(use=use, label=DEFAULT if use == router.default else OTHERWISE, reason="no rule holds")

    async def decide(self, reading: Reading, route: Route, candidates: Sequence[str]) -> Decided:
        """What the router says."""
        decided = self.first_word(reading, route)
        if decided.use == JUDGE:
            decided = await self._judged(reading, route.router, decided.reason)
        if decided.is_learned:
            decided = await self._learnt(reading, route, candidates, decided.reason)
        return decided

    async def _judged(self, reading: Reading, router: Router, reason: str) -> Decided:
        mode = reading.request.mode
        assert router.judge is not None
        if not mode.judge:
            use = LEARNED if router.quality is not None else router.models[0]
            return Decided(use=use, label=f"mode:{mode.name}", reason=f"{reason}; in mode {mode.name} no judge is asked")
        verdict = await router.judge(reading.request, reading.text)
        reason = f"{reason}; {verdict.reason}"
        if verdict.name is None:
            return Decided(use=router.default, label=DEFAULT, reason=reason)
        return self.of_class(router, verdict.name, reason)

    def of_class(self, router: Router, name: str, reason: str) -> Decided:
        """What is done with a class that the judge has named."""
        assert router.judge is not None
        return Decided(use=router.judge.use(name), label=f"judge:{name}", reason=reason, followed=True)

    async def _learnt(self, reading: Reading, route: Route, candidates: Sequence[str], reason: str) -> Decided:
        router, quality = route.router, route.options.quality or route.router.quality
        if self._learned is None or quality is None:
            return Decided(use=router.default, label=DEFAULT, reason=f"{reason}; nothing has been learnt")
        model, why = await self._learned.choose(router.name, reading.request, quality, candidates)
        if model not in router.models:
            return Decided(use=router.default, label=DEFAULT, reason=f"{reason}; {why}")
        return Decided(use=model, label=LEARNED, reason=f"{reason}; {why}", followed=True)

    def chosen(self, route: Route, decided: Decided, candidates: Sequence[str], reading: Reading) -> Choice:
        """What comes of a decision, where only `candidates` may answer. Pure but for the checks that the request brought."""
        router, mode = route.router, reading.request.mode
        label, reason = decided.label, decided.reason
        checks = (*router.checks, *self._routers.checks_of(route.options)) if mode.cascade else ()
        models = self._order(route, decided, cascade=mode.cascade)
        if len(models) == 1 and not route.options.checks:
            checks = ()
        if decided.use == CASCADE and not mode.cascade:
            label, reason = f"mode:{mode.name}", f"{reason}; in mode {mode.name} no second model is asked"
        kept = _restricted(models, candidates, router.models)
        fitting = self._estimates.fitting(kept, candidates, reading)
        if fitting[0] != kept[0]:
            label, reason = CONTEXT, f"{reason}; the request is too long for {kept[0]}"
        elif kept[0] != models[0]:
            reason = f"{reason}; the request leaves {models[0]} out"
        return Choice(models=fitting, route=label, reason=reason, baseline=route.baseline, checks=checks, router=router.name)

    def _order(self, route: Route, decided: Decided, *, cascade: bool) -> tuple[str, ...]:
        """The models to ask, before any is left out."""
        router = route.router
        if decided.use == CASCADE:
            return router.cascade if cascade else router.cascade[:1]
        if not cascade:
            return (decided.use,)
        if decided.followed and decided.use in router.cascade:
            return router.cascade[router.cascade.index(decided.use) :]
        if route.options.checks:
            return router.models[router.models.index(decided.use) :]
        return (decided.use,)


def _restricted(models: Sequence[str], candidates: Sequence[str], strength: Sequence[str]) -> tuple[str, ...]:
    """Those of the models that may answer; when none may, the next stronger candidate, and when there is none, the strongest."""
    kept = tuple(model for model in models if model in candidates)
    if kept:
        return kept
    stronger = [model for model in strength[strength.index(models[0]) :] if model in candidates]
    return (stronger[0],) if stronger else (max(candidates, key=strength.index),)
