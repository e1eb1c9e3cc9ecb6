"""Dispatch: one deployment after the other until one answers, every attempt recorded, everything let go of at once when nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from farthing.errors import (
    BudgetExceeded,
    BudgetUnverified,
    FarthingError,
    UpstreamContextExceeded,
)
from farthing.ports import Meter, Purse, Reservation
from farthing.routing.attempt import Course, Running
from farthing.routing.cascade import Cascade, Look, Observed
from farthing.routing.catalogue import Catalogue, Deployment
from farthing.routing.checks.placed import logprobs_wanted
from farthing.routing.choice import Choice
from farthing.routing.fitting import context_fallbacks, context_plan
from farthing.routing.gate import Gate, Verdict
from farthing.routing.hedging import Hedge
from farthing.routing.race import Prepared, Race
from farthing.routing.shaping import body_for
from farthing.routing.way import Way
from farthing.types import ANSWER, Answer, Request

FreeModel = Callable[[FarthingError], str | None]
_NOTHING_SAID = Verdict()


class Dispatch:
    """The last stage. Raises the last attempt's error when no deployment answers.

    Leave to spend is asked for before each attempt, so that a fallback or a retry cannot spend what the first attempt might not. A caller
    whose budget is spent is answered by a model that costs nothing, if one is in the plan or `free_model` names one that it may use.
    Which models are asked, and what is checked of their answers, is in `request.choice`; `observed` is told what the checks said.
    `hedged` counts calls that were made beside a slow one.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        meter: Meter,
        purse: Purse,
        free_model: FreeModel,
        *,
        gate: Gate | None = None,
        observed: Observed | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._meter = meter
        self._purse = purse
        self._free_model = free_model
        self.hedged = 0
        self._cascade = Cascade(self.ask, meter, gate or Gate(max_held_bytes=8 * 2**20, timeout_s=30.0), observed)

    @property
    def checked(self) -> Mapping[str, int]:
        """How many answers the checks let pass, rejected, and could not speak of: by `passed`, `failed`, `unchecked`."""
        return self._cascade.said

    async def __call__(self, request: Request) -> Answer:
        """Answer a request. Nothing has gone to the client when this raises."""
        choice: Choice | None = request.choice
        if choice is None:
            course = Course(request, self._catalogue.get(request.model).deployments[0].price)
            attempt, _ = await self.ask(course, request.model, "direct", None, last=True, spare=False)
            return attempt.give(None)
        course = Course(request, self._catalogue.get(choice.baseline).deployments[0].price)
        return await self._cascade(course, choice)

    async def ask(self, course: Course, model: str, route: str, look: Look | None, *, last: bool, spare: bool) -> tuple[Running, Verdict]:
        """An attempt that has something to give, which is not recorded yet, and what `look` says of it.

        By all deployments and fallbacks of a model. `last`: the request ends in an error when this raises. `spare`: there is an earlier
        answer to give instead, which is better than what a model that costs nothing would say.
        """
        request = course.request
        way = self._way(request, model, route)
        hedge = self._hedge(request, way.model)
        while True:
            deployment, held = await self._reserve(request, way, spare=spare)
            request.recorded = True
            attempt = self._running(course, deployment, held, way.step(deployment))
            try:
                if hedge is None:
                    await attempt.begin(last=last and not way.left)
                else:
                    rival = partial(self._rival, course, way, deployment, hedge)
                    attempt, failure = await Race(attempt, hedge.after_s, rival, last=last and not way.left).run()
                    if failure is not None:
                        raise failure
                return attempt, _NOTHING_SAID if look is None else await look(attempt)
            except FarthingError as error:
                pause_s = self._after(way, error, attempt.deployment)
                over = pause_s is None
                attempt.fail(error, final=over and last)
                request.recorded = over and last  # else, until the next attempt is under way, an end is for `account` to record
                if pause_s is None:
                    raise
                if pause_s:
                    await asyncio.sleep(pause_s)
            except BaseException as error:
                attempt.fail(error, final=True)
                raise

    def _way(self, request: Request, name: str, route: str) -> Way:
        """The model to ask first is another one when what would be sent does not fit into this one by our estimate."""
        model = self._catalogue.get(name)
        if model.context_fallbacks:
            name, changed = context_plan(self._catalogue, name, body_for(request, model, model.deployments[0]))
            route = "context" if changed else route
        return Way(name, route, self._catalogue.plan(name))

    def _running(self, course: Course, deployment: Deployment, held: Reservation, route: str) -> Running:
        """An attempt that sends what this model understands, and asks for what the checks want to know of it."""
        request = course.request
        body = body_for(request, self._catalogue.get(deployment.model), deployment)
        choice: Choice | None = request.choice
        if choice is None or body.get("logprobs") is True or not logprobs_wanted(choice.checks, deployment.model):
            return Running(self._meter, course, deployment, held, route, body)
        return Running(self._meter, course, deployment, held, route, {**body, "logprobs": True}, hides_logprobs=True)

    async def _reserve(self, request: Request, way: Way, *, spare: bool) -> tuple[Deployment, Reservation]:
        """The next deployment that there is leave to spend for, or one that costs nothing where no money is left."""
        while True:
            deployment = way.left.popleft()
            try:
                return deployment, await self._purse.reserve(request, deployment.upstream_model, deployment.price)
            except (BudgetExceeded, BudgetUnverified) as error:
                way.turn("budget", () if spare else self._free_ones(way, request, error))
                if not way.left:
                    raise

    def _after(self, way: Way, error: FarthingError, deployment: Deployment) -> float | None:
        """See `Way.after`. A request that is too long for a model goes on to a larger one, unless its caller may use free models only."""
        if isinstance(error, UpstreamContextExceeded) and way.route != "budget":
            others = context_fallbacks(self._catalogue, deployment.model)
            larger = [one for other in others for one in self._catalogue.plan(other) if one.model == other]
            if larger:
                way.turn("context", larger)
                return 0.0
        return way.after(error, deployment)

    def _hedge(self, request: Request, model: str) -> Hedge | None:
        """What we ask on our own account is never worth asking twice."""
        hedge = self._catalogue.get(model).hedge
        if hedge is None or request.purpose != ANSWER:
            return None
        hedge.allowance.count()
        return hedge

    async def _rival(self, course: Course, way: Way, deployment: Deployment, hedge: Hedge) -> Prepared | None:
        """A second attempt beside one at `deployment`, by the next of the same model; None when there is none that may be made.

        Another model, a fallback, would win whenever it is the faster one, which is not what it is there for.
        """
        request = course.request
        others = [one for one in way.left if one.model == deployment.model]
        ready = [one for one in others if not one.cooldown.active]
        other = ready[0] if ready else deployment if hedge.same and not others else None
        if other is None or not hedge.allowance.take():
            return None
        try:
            held = await self._purse.reserve(request, other.upstream_model, other.price)
        except FarthingError:
            return None

        def begin() -> Running:
            if other is not deployment:
                way.left.remove(other)
            self.hedged += 1
            return self._running(course, other, held, "hedge")

        return held, begin

    def _free_ones(self, way: Way, request: Request, error: FarthingError) -> list[Deployment]:
        """What is left to try when no money is: models that cost nothing."""
        free = [deployment for deployment in way.left if deployment.price.free]
        name = self._free_model(error)
        if not free and name is not None and name != way.model and self._catalogue.allows(name, request):
            free.extend(deployment for deployment in self._catalogue.plan(name) if deployment.price.free)
        return free
