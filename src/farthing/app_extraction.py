"""Facts out of events, put together: rules, and a cheap model for what they leave. Part of the composition root."""

from __future__ import annotations

import asyncio
from functools import partial

from farthing.app_stores import Stores
from farthing.errors import BudgetExceeded, PriceUnknown
from farthing.events.handler import Handler
from farthing.memory.extraction import BY_BUDGET, Extractor
from farthing.memory.rules import FactRules
from farthing.memory.validation import REASONS
from farthing.pipeline.errands import Errands
from farthing.pipeline.stage import Next
from farthing.pipeline.tokens import count_request
from farthing.routing.catalogue import Catalogue
from farthing.settings import Settings
from farthing.spend.prices import cost
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import Answer, Json, Request, Source, Subscription, Usage

_MOST_OBSERVED = 100
"""Events of a user that rules look at together."""


class Extraction:
    """`observe` and `extract` hear of events: rules at once, the model after a while. None where there are no rules, or no model."""

    def __init__(self, settings: Settings, stores: Stores, catalogue: Catalogue) -> None:
        memory = settings.memory
        self._errands = Errands(most=memory.extractor.max_questions, timeout_s=memory.extractor.timeout_s)
        self._line = asyncio.Semaphore(memory.extractor.max_questions)
        self._dropped = dict.fromkeys(REASONS, 0)
        self._rules = FactRules(memory, stores.sightings, stores.facts, self._dropped)
        self._extractor = self._reader(settings, stores, catalogue)
        self.observe = self._observer() if self._rules.types else None
        self.extract = self._handler(settings, self._extractor) if self._extractor is not None else None

    def _reader(self, settings: Settings, stores: Stores, catalogue: Catalogue) -> Extractor | None:
        model = settings.memory.extractor.model
        if model is None:
            return None
        return Extractor(
            settings.memory,
            catalogue.fingerprint(model),
            self._rules,
            stores.readings,
            stores.facts,
            self._ask,
            partial(_worth, catalogue),
            self._dropped,
        )

    async def _ask(self, request: Request, timeout_s: float) -> Answer | None:
        """A question, when its turn has come: what is delivered stays leased meanwhile, and nobody waits for it."""
        async with self._line:
            return await self._errands.ask(request, timeout_s)

    def _observer(self) -> Handler:
        subscription = Subscription(handler="memory.observe", types=self._rules.types, per="user", most=_MOST_OBSERVED)
        return Handler(subscription=subscription, handle=self._rules.observe)

    @staticmethod
    def _handler(settings: Settings, extractor: Extractor) -> Handler:
        chosen = settings.memory.extractor
        subscription = Subscription(
            handler="memory.extract", types=tuple(chosen.types), per="user", most=chosen.most, linger_s=chosen.linger_s
        )
        return Handler(subscription=subscription, handle=extractor.extract)

    def begin(self, flow: Next) -> None:
        """From now on the model is asked this way."""
        self._errands.begin(partial(_affordable, flow))

    async def aclose(self) -> None:
        """End what is under way. Its events are delivered again."""
        await self._errands.close()

    def register(self, metrics: Metrics) -> None:
        """Show how it does."""
        rules, extractor = self._rules, self._extractor
        learnt = "Facts that were read out of events, by who read them; those that were known already count, too."
        metrics.counter(names.FACTS_LEARNT, learnt, lambda: rules.fired, attributes={names.READER: "rule"})
        dropped = "Things that did not become facts, by what was wrong with them."
        for reason in REASONS:
            metrics.counter(names.FACTS_DROPPED, dropped, partial(self._dropped.__getitem__, reason), attributes={names.REASON: reason})
        if extractor is not None:
            counts = extractor.counts
            metrics.counter(names.FACTS_LEARNT, learnt, lambda: counts.learnt, attributes={names.READER: "model"})
            metrics.counter(names.EXTRACTIONS, "Questions to the model that reads events.", lambda: counts.asked)
            metrics.counter(names.EXTRACTIONS_EMPTY, "Of these, how many came to no fact.", lambda: counts.nothing)
            metrics.counter(names.EXTRACTIONS_UNPAID, "Questions left out: the budget for the day is spent.", lambda: counts.unread)


async def _affordable(flow: Next, request: Request) -> Answer:
    """What the flow answers; where a budget has no room, an answer that says so. To ask again would not help."""
    try:
        return await flow(request)
    except (BudgetExceeded, PriceUnknown):
        return Answer(source=Source.NONE, model=None, route=BY_BUDGET)


def _worth(catalogue: Catalogue, model: str, body: Json) -> int:
    """The most that a question may cost, at the price of the model's dearest deployment; 0 where nobody bills it, or nobody knows."""
    usage = Usage(input=count_request(body), output=body["max_tokens"])
    prices = [deployment.price for deployment in catalogue.get(model).deployments]
    return max((0 if price.free or price.source == "none" else cost(price, usage) for price in prices), default=0)
