"""From the settings to a simulation: the gateway's own decisions on virtual time. Part of the composition root.

Real are the modes (`spend.mode_control`), the mode of a caller (`modes`), rules, routers and ceilings (`routing.router`), what is sent
and where long requests go (`routing.shaping`, `routing.fitting`), and the prices. No provider is called: judges do not answer, and the
first model's answer passes all checks.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from farthing.app_catalogue import LOCAL, catalogue_of, price_questions
from farthing.app_checks import Checks
from farthing.app_modes import priors
from farthing.app_routing import router_names, routers_of
from farthing.economics.arrivals import Sample
from farthing.economics.outcome import figures, timeline
from farthing.economics.plans import Crowd, Plan
from farthing.economics.simulation import EPOCH, HOUR_S, Account, Asked, Clock, Served, Simulation
from farthing.errors import InvalidRequest
from farthing.modes import effective
from farthing.pipeline.errands import Errands
from farthing.pipeline.tokens import count_request
from farthing.routing.catalogue import Catalogue
from farthing.routing.choice import direct
from farthing.routing.estimates import Estimates
from farthing.routing.fitting import context_plan
from farthing.routing.router import RouteStage
from farthing.routing.shaping import asked_output, body_for
from farthing.settings import ModesSettings, Settings
from farthing.spend.mode_control import ModeControl
from farthing.spend.price_book import PriceBook, open_book
from farthing.spend.prices import cost
from farthing.types import Extras, Json, Lifeline, Mode, ModeState, Operation, Principal, Request, Usage, new_id

MOST_REQUESTS = 2_000_000
POOL = 1000
"""Conversations, of which each request is one."""
_FIRST_TOKEN_S = 0.6
_TOKENS_PER_S = 60.0
"""How fast models answer: money is seen when an answer has ended."""
_USD = 1_000_000
_EXTRAS = Extras()
_NOBODY = Lifeline(None)
_ANYBODY = Principal(key_id=UUID(int=0), tenant="simulated")


class ModelDesk:
    """See `economics.simulation.Desk`: the route stage and what dispatch makes of a request, for requests to one name of the catalogue.

    Raises `ModelNotFound` when there is no such name.
    """

    def __init__(self, settings: Settings, model: str) -> None:
        self.catalogue = _catalogue(settings)
        self.catalogue.admit(model, _ANYBODY, Operation.CHAT)
        self._model = model
        self._now = datetime.fromtimestamp(EPOCH, UTC)
        unheard = Errands(most=1)  # no flow: nobody answers
        routers = routers_of(settings, self.catalogue, unheard.ask, Checks(unheard.ask))
        estimates = Estimates(self.catalogue, cost, settings.budgets.assumed_output_tokens)
        self._stage = RouteStage(routers, self.catalogue, estimates, None, lambda: self._now)
        self._served: dict[tuple[int, Mode, str], Served] = {}

    async def serve(self, asked: Asked, mode: Mode, now: datetime) -> Served:
        """What the gateway would do, and what it would cost. The choice is made anew for each request; what follows from it is kept."""
        self._now = now
        request = Request(
            id=new_id(),
            principal=asked.who,
            operation=Operation.CHAT,
            body={"model": self._model, "messages": asked.sample.messages},
            model=self._model,
            extras=_EXTRAS,
            started_ns=0,
            lifeline=_NOBODY,
            mode=mode,
        )
        choice = await self._stage.choose(request) or direct(request.model)
        what = (id(asked.sample), mode, choice.models[0])
        if what not in self._served:
            self._served[what] = self._answer(request, choice.models[0], asked.sample.answer_tokens)
        return self._served[what]

    def _answer(self, request: Request, chosen: str, most: int) -> Served:
        catalogue = self.catalogue
        first = catalogue.get(chosen)
        name, _ = context_plan(catalogue, chosen, body_for(request, first, first.deployments[0]))
        deployment = catalogue.plan(name)[0]
        sent = body_for(request, catalogue.get(deployment.model), deployment)
        written = min(most, asked_output(sent) or most)
        price = deployment.price
        spent = 0 if price.free else cost(price, Usage(input=count_request(sent), output=written))
        return Served(model=deployment.model, microusd=spent, seconds=_FIRST_TOKEN_S + written / _TOKENS_PER_S)


class Announced:
    """See `economics.simulation.Control`: modes as a gateway decides them, where requests are announced when they begin."""

    def __init__(self, settings: ModesSettings, ladder: Sequence[Mode], clock: Clock, priors: Sequence[float]) -> None:
        self._control = ModeControl(settings, ladder, clock, priors, announced=True)
        self.saw = self._control.saw
        self.decide = self._control.decide

    def came(self, who: Principal, mode: str | None) -> None:
        """A request begins."""
        self._control.demand.came(who.tenant, who.tier, str(who.key_id), mode)

    def ended(self, who: Principal, mode: str | None) -> None:
        """It has ended."""
        self._control.demand.ended(who.tier, mode)


class Simulator:
    """An installation as its settings describe it. `model` is what all requests ask for; each is one of the samples."""

    def __init__(self, settings: Settings, model: str, samples: Sequence[Sample]) -> None:
        self._modes = settings.modes
        self.ladder = settings.ladder()
        self._desk = ModelDesk(settings, model)
        self._samples = samples

    def per_second(self, usd_per_hour: float, crowd: Crowd, seed: int) -> float:
        """How many requests a second cost so much in the best mode. Raises `InvalidRequest` when they cost nothing."""
        people = random.Random(f"{seed} prices")  # noqa: S311 - a simulation
        start = datetime.fromtimestamp(EPOCH, UTC)

        async def costs() -> list[int]:
            everybody = [Asked(0.0, crowd.draw(people), sample) for sample in self._samples]
            return [(await self._desk.serve(asked, self.ladder[0], start)).microusd for asked in everybody]

        mean = fmean(asyncio.run(costs()))
        if mean <= 0:
            raise InvalidRequest("in the best mode the requests cost nothing: there is nothing to hold; name a --model that has a price")
        return usd_per_hour * _USD / HOUR_S / mean

    def run(self, plan: Plan, seed: int) -> Json:
        """The same requests with modes and without. Raises `InvalidRequest` when there are too many of them."""
        if plan.expected > MOST_REQUESTS:
            raise InvalidRequest(f"that is about {plan.expected:,.0f} requests; at most {MOST_REQUESTS:,} are simulated")
        held, free = (self._account(plan, seed, controlled=controlled) for controlled in (True, False))
        sides = {name: figures(one, began_s=plan.began_s, over_s=plan.over_s) for name, one in (("with", held), ("without", free))}
        modes = self._modes
        found = {**sides, "ceiling_usd": float(modes.ceiling_usd or 0), "window_s": modes.window_s, "seed": seed}
        if plan.watched:
            found["by_mode_of_key"] = {key: dict(counts) for key, counts in held.by_mode_of_key.items()}
        return {**found, "timeline": timeline(held, free)}

    def _account(self, plan: Plan, seed: int, *, controlled: bool) -> Account:
        clock = Clock()
        control = Announced(self._modes, self.ladder, clock, priors(self.ladder, self._desk.catalogue)) if controlled else None
        simulation = Simulation(self._desk, control, clock, self._mode_of, plan.tiers, window_s=self._modes.window_s, watched=plan.watched)
        return asyncio.run(simulation.run(plan.requests(self._samples, seed), plan.ends_s))

    def _mode_of(self, state: ModeState, who: Principal, now: datetime) -> Mode:
        return effective(state, who, self.ladder, now)


def _catalogue(settings: Settings) -> Catalogue:
    """The catalogue, over providers that are never called."""
    nowhere: dict[str, Any] = {name: SimpleNamespace(name=name, kind="none") for name in (*settings.providers, LOCAL)}
    return catalogue_of(settings, nowhere, _book(settings), router_names(settings))


def _book(settings: Settings) -> PriceBook:
    questions = price_questions(settings)
    with tempfile.TemporaryDirectory() as folder:
        return open_book(Path(folder) / "prices.json", questions)
