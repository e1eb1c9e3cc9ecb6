"""Learned routers, put together: what decides, what is explored, what is learnt. Part of the composition root."""

from __future__ import annotations

import random
from functools import partial

from farthing.app_stores import Stores
from farthing.background import Background
from farthing.pipeline.tokens import count_request
from farthing.ports import Embedder
from farthing.routing.catalogue import Catalogue
from farthing.routing.exploration import Estimate, Exploration
from farthing.routing.learning import Learned, Student, facts_of, fitting
from farthing.routing.outcome_book import OutcomeBook
from farthing.settings import Settings
from farthing.spend.prices import cost
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import Json, Request, Usage

_MICROUSD = 1_000_000


class Learning:
    """`learned` is what the route stage asks, `book` what checks and people tell. `routers` are those that can learn, with their models."""

    def __init__(self, settings: Settings, stores: Stores, embedder: Embedder | None, catalogue: Catalogue) -> None:
        rng = random.Random()  # noqa: S311 - nothing secret
        learners = {name: router.learned for name, router in settings.routing.routers.items() if router.learned is not None}
        estimate = partial(_cost, catalogue, settings.budgets.assumed_output_tokens)
        students = {name: self._student(settings, name, estimate, rng) for name in learners}
        sections = learners.values()
        self.routers = {name: tuple(settings.routing.routers[name].models) for name in learners}
        self.book = OutcomeBook(
            stores.outcomes,
            stores.requests,
            embedder,
            {name: one.sample for name, one in learners.items()},
            max_remembered=sum(one.max_remembered for one in sections),
            max_pending=sum(one.max_pending for one in sections),
            max_rows=sum(one.max_outcomes for one in sections),
        )
        self.learned = Learned(stores.routers, embedder, students, self.book, refresh_s=settings.keys.refresh_s)
        self._embedder = embedder

    @staticmethod
    def _student(settings: Settings, name: str, estimate: Estimate, rng: random.Random) -> Student:
        router = settings.routing.routers[name]
        assert router.learned is not None
        explore = router.learned.explore
        exploration = Exploration(estimate, rng, share=explore.share, microusd_per_day=int(explore.usd_per_day * _MICROUSD))
        return Student(models=tuple(router.models), settings=router.learned, exploration=exploration)

    def check(self, router: str, artefact: bytes) -> Json:
        """What is to be said of an artefact for a router. Raises `InvalidRequest` when it does not fit. Blocks: call it in a thread."""
        return facts_of(fitting(artefact, self.routers[router], self._embedder.version if self._embedder is not None else None))

    def start(self, background: Background) -> None:
        """Begin the background work; none where no router can learn."""
        if self.routers:
            background.start("learned routers", self.learned.run)
            background.start("outcomes", self.book.run)
            background.start("old outcomes", self.book.prune)

    async def heard(self) -> None:
        """Another version decides. Raises the store's errors."""
        if self.routers:
            await self.learned.reload()

    def register(self, metrics: Metrics) -> None:
        """Show how it does."""
        learned, book = self.learned, self.book
        decisions = "Requests that a learned router was asked about, by what came of it."
        counts = {
            "chosen": lambda: learned.decided - learned.explored,
            "explored": lambda: learned.explored,
            "unknown": lambda: learned.unknown - learned.late,
            "late": lambda: learned.late,
        }
        for decision, count in counts.items():
            metrics.counter(names.LEARNED, decisions, count, attributes={names.DECISION: decision})
        metrics.gauge(names.OUTCOMES_PENDING, "Outcomes that the store does not have yet.", lambda: book.pending)
        metrics.counter(names.OUTCOMES_DROPPED, "Outcomes for which there was no room.", lambda: book.dropped)


def _cost(catalogue: Catalogue, assumed_output: int, model: str, request: Request) -> int | None:
    """About what a model's answer costs, at the price of its first deployment, in micro-dollars; None when nobody knows the price."""
    price = catalogue.get(model).deployments[0].price
    if price.source == "none":
        return None
    most = request.body.get("max_completion_tokens") or request.body.get("max_tokens")
    output = min(most, assumed_output) if type(most) is int and most > 0 else assumed_output
    return 0 if price.free else cost(price, Usage(input=count_request(request.body), output=output))
