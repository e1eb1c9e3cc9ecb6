"""Dispatch: one deployment after the other until one answers, every attempt recorded, everything let go of at once when nobody waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from farthing.errors import (
    BudgetExceeded,
    BudgetUnverified,
    FarthingError,
    Overloaded,
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnavailable,
)
from farthing.ports import Meter, Purse, Reservation
from farthing.routing.attempt import Course, Running
from farthing.routing.cascade import Cascade, Look, Observed
from farthing.routing.catalogue import Catalogue, Deployment
from farthing.routing.choice import Choice
from farthing.routing.fitting import context_fallbacks, context_plan
from farthing.routing.gate import Gate, Verdict
from farthing.routing.hedging import Hedge
from farthing.routing.race import Prepared, Race
from farthing.routing.shaping import body_for
from farthing.types import ANSWER, Answer, Request

FreeModel = Callable[[FarthingError], str | None]
_RETRY_PAUSE_S = 0.1
_NOTHING_SAID = Verdict()
_KEPT = frozenset({"budget", "context"})
"""Routes that say more than `fallback` would."""


class Dispatch:
    """The last stage. Raises the last attempt's error when no deployment answers.

    Leave to spend is asked for before each attempt, so that a fallback or a retry cannot spend what the first attempt might not. A caller
    whose budget is spent is answered by a model that costs nothing, if one is in the plan or `free_model` names one that it may use.
    Which models are asked, and what is checked of their answers, is in `request.choice`; `observed` is told what the checks said.
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
        self._cascade = Cascade(self.ask, meter, gate or Gate(max_held_bytes=8 * 2**20, timeout_s=30.0), observed)

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
        model, route = self._begin_at(request, model, route)
        hedge = self._hedge(request, model)
        plan = deque(self._catalogue.plan(model))
        retries = plan[-1].retries
        tried = 0
        while True:
            deployment, held, free = await self._reserve(request, plan, model, spare=spare)
            if free:
                route, retries = "budget", 0
            tried += 1
            request.recorded = True
            if route not in _KEPT and (tried > 1 or deployment.model != model):
                route = "fallback"
            attempt = self._running(course, deployment, held, route)
            try:
                attempt, failure = await self._begun(attempt, course, plan, deployment, hedge, last=last and not plan)
                if failure is not None:
                    raise failure
                return attempt, _NOTHING_SAID if look is None else await look(attempt)
            except FarthingError as error:
                larger = self._larger(error, deployment.model, route)
                if larger:
                    plan, route, retries = larger, "context", 0
                again = not plan and retries > 0 and _worth_another_try(error)
                over = not again and (not plan or (not larger and _nobody_else_can(error)))
                attempt.fail(error, final=over and last)
                request.recorded = over and last  # else, until the next attempt is under way, an end is for `account` to record
                if over:
                    raise
                if again:
                    retries -= 1
                    plan.append(deployment)
                    await asyncio.sleep(_RETRY_PAUSE_S * tried)
            except BaseException as error:
                attempt.fail(error, final=True)
                raise

    def _running(self, course: Course, deployment: Deployment, held: Reservation, route: str) -> Running:
        """An attempt that sends what this model understands."""
        body = body_for(course.request, self._catalogue.get(deployment.model), deployment)
        return Running(self._meter, course, deployment, held, route, body)

    def _begin_at(self, request: Request, name: str, route: str) -> tuple[str, str]:
        """The model to ask first, and the route: another one when what would be sent does not fit into this one by our estimate."""
        model = self._catalogue.get(name)
        if not model.context_fallbacks:
            return name, route
        other, changed = context_plan(self._catalogue, name, body_for(request, model, model.deployments[0]))
        return other, "context" if changed else route

    def _larger(self, error: FarthingError, name: str, route: str) -> deque[Deployment]:
        """Where to turn when a provider has said that a request is too long for this model. Nowhere, for who may use free models only."""
        if not isinstance(error, UpstreamContextExceeded) or route == "budget":
            return deque()
        others = context_fallbacks(self._catalogue, name)
        return deque(one for other in others for one in self._catalogue.plan(other) if one.model == other)

    async def _reserve(self, request: Request, plan: deque[Deployment], model: str, *, spare: bool) -> tuple[Deployment, Reservation, bool]:
        """The next of the plan that there is leave to spend for, and whether it is one that costs nothing because no money is left."""
        free = False
        while True:
            deployment = plan.popleft()
            try:
                return deployment, await self._purse.reserve(request, deployment.upstream_model, deployment.price), free
            except (BudgetExceeded, BudgetUnverified) as error:
                others = () if spare else self._free_ones(plan, request, model, error)
                plan.clear()
                plan.extend(others)
                if not plan:
                    raise
                free = True

    def _hedge(self, request: Request, model: str) -> Hedge | None:
        """What we ask on our own account is never worth asking twice."""
        hedge = self._catalogue.get(model).hedge
        if hedge is None or request.purpose != ANSWER:
            return None
        hedge.allowance.count()
        return hedge

    async def _begun(
        self, attempt: Running, course: Course, plan: deque[Deployment], deployment: Deployment, hedge: Hedge | None, *, last: bool
    ) -> tuple[Running, BaseException | None]:
        """The attempt, or one that was faster; and the error that it came to where a rival makes it unclear whose it is."""
        if hedge is None:
            await attempt.begin(last=last)
            return attempt, None
        return await Race(attempt, hedge.after_s, partial(self._rival, course, plan, deployment, hedge), last=last).run()

    async def _rival(self, course: Course, plan: deque[Deployment], deployment: Deployment, hedge: Hedge) -> Prepared | None:
        """A second attempt beside one at `deployment`, by what is next in the plan; None when there is none that may be made."""
        ready = [one for one in plan if not one.cooldown.active] if plan else [deployment] if hedge.same else []
        other = ready[0] if ready else None
        if other is None or not hedge.allowance.take():
            return None
        try:
            held = await self._purse.reserve(course.request, other.upstream_model, other.price)
        except FarthingError:
            return None

        def begin() -> Running:
            if plan:
                plan.remove(other)
            return self._running(course, other, held, "hedge")

        return held, begin

    def _free_ones(self, plan: Iterable[Deployment], request: Request, model: str, error: FarthingError) -> deque[Deployment]:
        """What is left to try when no money is: models that cost nothing."""
        free = deque(deployment for deployment in plan if deployment.price.free)
        name = self._free_model(error)
        if not free and name is not None and name != model and self._catalogue.allows(name, request):
            free.extend(deployment for deployment in self._catalogue.plan(name) if deployment.price.free)
        return free


def _worth_another_try(error: FarthingError) -> bool:
    """Whether the connection failed, as opposed to the provider having spoken."""
    return isinstance(error, UpstreamUnavailable) and error.upstream_status is None


def _nobody_else_can(error: FarthingError) -> bool:
    """Whether the request was found wrong, so that no other deployment of this model would take it."""
    return isinstance(error, UpstreamRejected) or not isinstance(error, UpstreamError | Overloaded)
