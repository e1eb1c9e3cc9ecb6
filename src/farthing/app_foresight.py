"""Answers ready before the click, put together: what foresees, what keeps, what answers. Part of the composition root."""

from __future__ import annotations

from collections.abc import Callable

from farthing.app_stores import Stores
from farthing.background import Background
from farthing.cipher import Cipher
from farthing.events.handler import Handler
from farthing.foresight.action import Action, Briefing, ProfileOf
from farthing.foresight.click_book import ClickBook
from farthing.foresight.edge import EdgeStage
from farthing.foresight.flights import Flights
from farthing.foresight.precompute import Foresee, MaySpend
from farthing.foresight.report import Reports
from farthing.foresight.sealed import SealedEdge
from farthing.foresight.states import Touches, touching
from farthing.jobs.kind import Kind
from farthing.pipeline.errands import Errands
from farthing.pipeline.stage import Next
from farthing.providers.pages import Pages
from farthing.routing.catalogue import Catalogue
from farthing.settings import Settings
from farthing.spend.prices import cost
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import Cron, Item, Json, Request, Usage

_WASTE = "foresight.waste"


class Foresight:
    """`stage` answers clicks, `hearer` is the handler `foresee`, `touches` says what events change.

    `waste` is the kind of job that stores the weekly report, `crons` when it does. Without actions there is none of these.
    `admit` says whether a caller may use an action's model. `profile` reads the facts about a user, None where none are kept.
    `cipher` seals answers at rest; None: they are not.
    """

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        catalogue: Catalogue,
        admit: Callable[[Request], str],
        profile: ProfileOf | None = None,
        cipher: Cipher | None = None,
        *,
        may_spend: MaySpend,
    ) -> None:
        section = settings.foresight
        self._stores = stores
        self._pages = Pages(section.hosts)
        self._errands = Errands(most=section.max_under_way, timeout_s=section.compute_timeout_s)
        self._flights = Flights()
        self.touches: Touches = touching(section.states)
        self.actions = {name: Action(name, one) for name, one in section.actions.items()}
        self.models = {name: one.model for name, one in section.actions.items()}
        self.book = ClickBook(stores.foresight, section)
        self.reports = Reports(self.actions, section, stores.foresight)
        # What is at CloudFront's edge must be read there.
        edge = SealedEdge(stores.edge, cipher) if cipher is not None and section.edge.store == "postgres" else stores.edge
        briefing = Briefing(self._pages.get, profile, timeout_s=section.context_timeout_s)
        stage = EdgeStage(self.actions, section, edge, briefing, self._flights, self.book, admit)
        self._stage = stage
        self.stage = stage if self.actions else None
        self._foresee = Foresee(
            self.actions,
            section,
            edge,
            briefing,
            self._flights,
            self.book,
            self._errands,
            cost_of=_costs(catalogue),
            fingerprint_of=catalogue.fingerprint,
            may_spend=may_spend,
        )
        self.hearer: Handler | None = self._foresee.handler()
        self.waste = Kind(name=_WASTE, handle=self._report) if self.actions else None
        self.crons = [Cron(name=_WASTE, expression=section.report, kind=_WASTE)] if self.actions else []

    async def _report(self, item: Item) -> Json:
        del item
        return {"tenants": await self.book.report()}

    def begin(self, errands: Next) -> None:
        """From now on answers are computed ahead by this way."""
        self._errands.begin(errands)

    def start(self, background: Background, *, handles: bool) -> None:
        """Begin the background work; none where there are no actions."""
        if self.actions:
            background.start("clicks", self.book.run)
            if handles:
                background.start("clicks settled", self.book.settle)

    async def drain(self) -> None:
        """Write all that waits. Raises the stores' errors."""
        await self._stage.close()
        await self.book.drain()

    async def aclose(self) -> None:
        """End what nobody waits for, and let go of the connections."""
        await self._errands.close()
        await self._pages.aclose()
        await self._stores.edge.close()

    def register(self, metrics: Metrics) -> None:
        """Show how it does."""
        stage, foresee, book = self._stage, self._foresee, self.book
        clicks = {"hit": lambda: stage.hits, "miss": lambda: stage.misses, "stale": lambda: stage.stale, "away": lambda: stage.away}
        for result, count in clicks.items():
            text = "Clicks: answered at the edge, by the model, by the model and not kept; looks into a store that was away."
            metrics.counter(names.EDGE_CLICKS, text, count, attributes={names.RESULT: result})
        ahead = {
            "computed": lambda: foresee.computed,
            "ready": lambda: foresee.ready,
            "moved": lambda: foresee.moved,
            "failed": lambda: foresee.failed,
            "left_out": lambda: foresee.left_out,
            "late": lambda: foresee.late,
        }
        for result, count in ahead.items():
            text = "Answers that were to be ready before the click, by what came of them."
            metrics.counter(names.FORESEEN, text, count, attributes={names.RESULT: result})
        metrics.gauge(names.EDGE_MAKING, "Answers to actions that are being made and that others may wait for.", lambda: len(self._flights))
        metrics.gauge(names.CLICKS_PENDING, "Clicks that PostgreSQL has not counted yet.", lambda: book.pending)
        metrics.counter(names.CLICKS_DROPPED, "Clicks for which there was no room.", lambda: book.dropped)


def _costs(catalogue: Catalogue) -> Callable[[str, int, int], float]:
    """About what an answer costs in micro-dollars, at the price of the model's first deployment; 0 where nobody knows the price."""

    def cost_of(name: str, tokens_in: int, tokens_out: int) -> float:
        found = catalogue.find(name)
        return 0.0 if found is None else float(cost(found.deployments[0].price, Usage(input=tokens_in, output=tokens_out)))

    return cost_of
