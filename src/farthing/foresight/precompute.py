"""The handler `foresee`: after an event, the answers that its user is likely to ask for are computed, before the click.

Versions of what an answer hangs on are read first, then the context, then the model is asked; the store takes the answer only if nothing
has changed since. If something has, it is made once more, and then left: a click makes it.

It is done on the tenant's account, for the user: within the tenant's and the user's budgets, of no key, in a tier of its own, so that it
can be given budgets and limits. What is there already is not made again, so that an event that comes twice costs once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from farthing.events.handler import Handler
from farthing.foresight.action import Action, Briefing, NoContext
from farthing.foresight.answers import edge_answer, said, size_of
from farthing.foresight.click_book import ClickBook, of_action
from farthing.foresight.flights import Flights
from farthing.foresight.predict import Candidate, Prior, choose, click_probability, draw_of, segment_of
from farthing.foresight.states import dependencies, matches
from farthing.pipeline.errands import Errands
from farthing.ports import EdgeStore
from farthing.settings import ForesightSettings
from farthing.templates import at
from farthing.types import (
    ActionCounts,
    Event,
    Extras,
    Foreseen,
    Json,
    Lifeline,
    Operation,
    Principal,
    Request,
    Subscription,
    Usage,
    new_id,
    utc_now,
)

_log = logging.getLogger("farthing.foresight")
HANDLER: Final = "foresee"
PURPOSE: Final = "foresee"
TIER: Final = "foresight"
"""Of what is asked ahead: so that it can be given budgets and limits of its own."""
_NOBODYS_KEY: Final = UUID(int=2)
_TRIES: Final = 2
_MICROUSD: Final = 1_000_000

CostOf = Callable[[str, int, int], float]
"""What a model's answer costs about, by its tokens in and out: micro-dollars; 0 where nobody knows the price."""
FingerprintOf = Callable[[str], str]
MaySpend = Callable[[Principal], bool]
"""Whether money is there for what nobody has asked for: not while the tenant is in a cheaper mode."""


def _on_account_of(tenant: str, user: str) -> Principal:
    return Principal(key_id=_NOBODYS_KEY, tenant=tenant, user=user, tier=TIER)


class Foresee:
    """`computed` answers were made, `ready` were there already, `moved` were given up since a state kept changing, `failed` were not made.

    `late` events were too old to foretell anything, `left_out` answers did not pay, or money is short.
    """

    def __init__(
        self,
        actions: Mapping[str, Action],
        settings: ForesightSettings,
        store: EdgeStore,
        briefing: Briefing,
        flights: Flights,
        book: ClickBook,
        errands: Errands,
        cost_of: CostOf,
        fingerprint_of: FingerprintOf,
        *,
        may_spend: MaySpend,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._actions = {name: action for name, action in actions.items() if action.settings.after}
        self._settings = settings
        self._store = store
        self._briefing = briefing
        self._flights = flights
        self._book = book
        self._errands = errands
        self._cost_of = cost_of
        self._fingerprint_of = fingerprint_of
        self._may_spend = may_spend
        self._clock = clock
        self._prior = Prior(click=settings.prior_click, weight=settings.prior_weight)
        self.computed = self.ready = self.moved = self.failed = self.late = self.left_out = 0

    def handler(self) -> Handler | None:
        """For the event bus; None where no action waits for events."""
        types = sorted({pattern for action in self._actions.values() for pattern in action.settings.after})
        if not types:
            return None
        return Handler(subscription=Subscription(handler=HANDLER, types=tuple(types), per="user"), handle=self.handle)

    async def handle(self, events: Sequence[Event]) -> None:
        """See `events.handler.Handle`. Raises the stores' errors. What a model or a source does not give is left: a click makes it."""
        for event in events:
            await self._after(event)

    async def _after(self, event: Event) -> None:
        user = event.user
        actions = [action for action in self._actions.values() if matches(action.settings.after, event.type)]
        if user is None or not actions:
            return
        oldest = min(event.time, event.received_at)
        if (self._clock() - oldest).total_seconds() > self._settings.max_event_age_s:
            self.late += 1
            return
        if not self._may_spend(_on_account_of(event.tenant, user)):
            self.left_out += len(actions)
            return
        counts = await self._book.learned(event.tenant)
        candidates = [self._candidate(action, event, of_action(counts, action.name)) for action in actions]
        draw = draw_of(event.tenant, event.source, event.id)
        chosen = choose(candidates, most=self._settings.max_per_event, explore=self._settings.explore, draw=draw)
        self.left_out += len(candidates) - len(chosen)
        making = [self._foresee(self._actions[one.candidate.action], one.candidate.segment, event, user) for one in chosen]
        for result in await asyncio.gather(*making, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def _candidate(self, action: Action, event: Event, counts: Sequence[ActionCounts]) -> Candidate:
        path = action.settings.segment
        segment = segment_of(at(event.data, path), counts, most=self._settings.max_segments) if path is not None else ""
        click, known = click_probability(counts, segment, self._prior)
        computed = sum(one.computed for one in counts)
        tokens_in, tokens_out = action.about_tokens, action.settings.max_tokens // 2
        if computed > 0:
            tokens_in = round(sum(one.tokens_in for one in counts) / computed)
            tokens_out = round(sum(one.tokens_out for one in counts) / computed)
        return Candidate(
            action=action.name,
            segment=segment,
            click=click,
            known=known,
            cost_microusd=self._cost_of(action.settings.model, tokens_in, tokens_out),
            latency_microusd=float(action.settings.price_of_latency_usd * _MICROUSD),
        )

    async def _foresee(self, action: Action, segment: str, event: Event, user: str) -> None:
        place = (event.tenant, user, action.name)
        if place in self._flights or await self._store.get(*place) is not None:
            self.ready += 1
            return
        with self._flights.making(place):
            for _ in range(_TRIES):
                made = await self._make(action, segment, event, user)
                if made is not False:
                    self.computed += bool(made)
                    self.failed += made is None
                    return
        self.moved += 1
        _log.info("the answer to %s was given up: what it hangs on kept changing", action.name)

    async def _make(self, action: Action, segment: str, event: Event, user: str) -> bool | None:
        """Make and keep an answer. False: something has changed meanwhile. None: there is no answer."""
        states = dependencies(action.settings.depends_on, self._settings.states, user=user, data=event.data)
        versions = await self._store.versions(event.tenant, states)
        try:
            body = await self._briefing.body(action, event.tenant, user, event.data)
        except NoContext as error:
            _log.info("no answer to %s ahead: %s", action.name, error)
            return None
        request = self._request(action, event.tenant, user, body)
        answer = await self._errands.ask(request, self._settings.compute_timeout_s)
        found = said(action, answer.completion.body) if answer is not None and answer.completion is not None else None
        if answer is None or found is None or size_of(found) > self._settings.max_answer_bytes:
            return None
        usage = Usage.of(found["usage"]) or Usage()
        made = edge_answer(
            action,
            event.tenant,
            user,
            found,
            model=answer.model or request.model,
            versions=versions,
            request_id=request.id,
            now=self._clock(),
            cost=answer.cost_microusd,
        )
        await self._book.computed(
            Foreseen(
                request_id=made.request_id,
                tenant=made.tenant,
                user=user,
                action=action.name,
                segment=segment,
                versions=versions,
                made_at=made.made_at,
                expires_at=made.expires_at,
                cost_microusd=made.cost_microusd,
                tokens_in=usage.input,
                tokens_out=usage.output,
            )
        )
        return await self._store.put(made)

    def _request(self, action: Action, tenant: str, user: str, body: Json) -> Request:
        model = action.settings.model
        return Request(
            id=new_id(),
            principal=_on_account_of(tenant, user),
            operation=Operation.CHAT,
            body=body,
            model=model,
            fingerprint=self._fingerprint_of(model),
            extras=Extras(cache="off", memory="off", knowledge="off", store=False),
            started_ns=time.perf_counter_ns(),
            purpose=PURPOSE,
            lifeline=Lifeline(None),
        )
