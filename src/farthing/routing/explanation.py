"""Why a request would be routed as it would: every look of the route stage, as a JSON object. The judge is asked only if it is wished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from farthing.routing.choice import Choice, direct
from farthing.routing.estimates import Estimates
from farthing.routing.reading import Reading
from farthing.routing.router import Decided, RouteStage
from farthing.routing.routers import Route, Router, Routers
from farthing.routing.rules import Rule
from farthing.settings import JUDGE
from farthing.types import Json, Mode, Principal, Request, utc_now

ModeOf = Callable[[Principal, str | None], Mode]
"""The mode that a caller is in now, or that of a name. Raises `InvalidRequest` for a name that no mode has."""


class Explainer:
    """`ports.RouteExplainer`. Asks the stage's own parts, so that what it says is what would be done."""

    def __init__(self, routers: Routers, stage: RouteStage, estimates: Estimates, mode_of: ModeOf) -> None:
        self._routers = routers
        self._stage = stage
        self._estimates = estimates
        self._mode_of = mode_of

    async def __call__(self, request: Request, *, at: datetime | None, mode: str | None, ask: bool) -> Json:
        """See `ports.RouteExplainer`."""
        request.mode = self._mode_of(request.principal, mode)
        request.extras = msgspec.structs.replace(request.extras, store=False)  # nothing is to be learnt from a question about a question
        request.fingerprint = self._routers.admit(request)
        reading = Reading(request, utc_now if at is None else lambda: at)
        route = self._routers.route_of(request)
        shown: Json = {
            "object": "farthing.route_explanation",
            "model": request.model,
            "router": route.router.name if route else None,
            "baseline": route.baseline if route else request.model,
            "mode": request.mode.name,
            "at": reading.at,
            "tokens": reading.tokens,
            "turns": reading.turns,
            "language": reading.language,
        }
        if route is None:
            choice = self._stage.held(request, None, None) or direct(request.model)
            return {**shown, "rules": [], "judge": None, **self._outcome(choice, reading)}
        candidates = self._estimates.candidates(route, reading)
        word = self._stage.first_word(reading, route)
        shown["rules"] = _rules(route.router.rules, reading)
        shown["judge"] = _judge(route.router, reading) if word.use == JUDGE and request.mode.judge else None
        if shown["judge"] is not None and not ask:
            shown["judge"]["classes"] = self._by_class(reading, route, candidates, word)
            nothing = {"models": None, "route": None, "reason": f"{word.reason}; the judge would be asked", "checks": None}
            return {**shown, **nothing, "candidates": self._costs(route.router.models, candidates, reading)}
        decided = await self._stage.decide(reading, route, candidates)
        choice = self._chosen(route, decided, candidates, reading)
        return {**shown, **self._outcome(choice, reading), "candidates": self._costs(route.router.models, candidates, reading)}

    def _chosen(self, route: Route, decided: Decided, candidates: Sequence[str], reading: Reading) -> Choice:
        choice = self._stage.chosen(route, decided, candidates, reading)
        return self._stage.held(reading.request, choice, route) or choice

    def _by_class(self, reading: Reading, route: Route, candidates: Sequence[str], word: Decided) -> Json:
        """What would be done with each thing that the judge may say."""
        found: Json = {}
        judge = route.router.judge
        assert judge is not None
        for name in judge.classes:
            decided = self._stage.of_class(route.router, name, word.reason)
            found[name] = decided.use if decided.is_learned else list(self._chosen(route, decided, candidates, reading).models)
        return found

    def _outcome(self, choice: Choice, reading: Reading) -> Json:
        return {
            "models": list(choice.models),
            "route": choice.route,
            "reason": choice.reason or "the model is asked by its name",
            "checks": [check.name for check in choice.checks],
            "candidates": self._costs(choice.models, choice.models, reading),
        }

    def _costs(self, models: Sequence[str], candidates: Sequence[str], reading: Reading) -> list[Json]:
        return [
            {
                "model": model,
                "estimated_microusd": self._estimates.microusd(model, reading),
                "fits": self._estimates.fits(model, reading),
                "allowed": model in candidates,
            }
            for model in models
        ]


def _rules(rules: Sequence[Rule], reading: Reading) -> list[Json]:
    """The rules up to the one that decides, each of the others with a condition that did not hold."""
    shown: list[Json] = []
    for rule in rules:
        failed = rule.failed(reading)
        one: Json = {"rule": rule.name, "use": rule.use, "holds": failed is None}
        if failed is not None:
            one["failed"] = {"condition": failed.name, "wanted": failed.wanted, "found": failed.found(reading)}
        shown.append(one)
        if failed is None:
            break
    return shown


def _judge(router: Router, reading: Reading) -> Json:
    assert router.judge is not None
    return {"model": router.judge.model, "question": router.judge.question(reading.text)}
