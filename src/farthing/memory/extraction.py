"""Facts out of what users say, read by a cheap model: batched by user, within a budget by user, tenant and day."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from farthing.errors import Unavailable
from farthing.memory.prompt import Prompt
from farthing.memory.reading import Reading
from farthing.memory.rules import FactRules, learnable
from farthing.memory.validation import Said, Validation, items_of
from farthing.pipeline.message import text_of
from farthing.ports import FactStore, ReadingStore
from farthing.settings import MemorySettings
from farthing.types import Allowance, Answer, Event, Extras, Json, Lifeline, NewFact, Operation, Principal, Request, new_id, utc_now

PURPOSE: Final = "extract"
TIER: Final = "memory"
"""The tier of what is asked on a tenant's account: so that it can be given budgets and limits of its own."""
_NOBODYS_KEY: Final = UUID(int=1)
"""No key asked for it: it is spent by the tenant, for a user."""
_MICROUSD: Final = 1_000_000
BY_BUDGET: Final = "budget"
"""The route of an answer that is none of the model: a budget is spent, and nobody or a free model has answered."""

Ask = Callable[[Request, float], Awaitable[Answer | None]]
"""Sends a question of our own and waits for the answer, at most so many seconds; None when there was none."""

Worth = Callable[[str, Json], int]
"""The most that a question to a model may cost, in micro-dollars; 0 where nobody bills it, or nobody knows."""


class Counts(msgspec.Struct):
    """What was done. `unread`: questions that were left out because a budget is spent; their events stay unread."""

    asked: int = 0
    learnt: int = 0
    nothing: int = 0
    unread: int = 0


class Extractor:
    """Reads events of one user at a time. `dropped` says, by reason, what did not become a fact. `fingerprint` is the model's."""

    def __init__(
        self,
        settings: MemorySettings,
        fingerprint: str,
        rules: FactRules,
        reading: ReadingStore,
        facts: FactStore,
        ask: Ask,
        worth: Worth,
        dropped: dict[str, int],
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        extractor = settings.extractor
        assert extractor.model is not None
        self._model = extractor.model
        self._fingerprint = fingerprint
        self._rules = rules
        self._store = reading
        self._facts = facts
        self._ask = ask
        self._worth = worth
        self._dropped = dropped
        self._clock = clock
        self._timeout_s = extractor.timeout_s
        self._max_chars = extractor.max_chars
        self._allowance = Allowance(
            user_microusd=int(extractor.usd_per_user_per_day * _MICROUSD),
            tenant_microusd=int(extractor.usd_per_tenant_per_day * _MICROUSD),
            user_calls=extractor.calls_per_user_per_day,
        )
        self._prompt = Prompt(settings)
        self._validation = Validation(settings)
        self.read = Reading(settings)
        self.counts = Counts()

    async def extract(self, events: Sequence[Event]) -> None:
        """Learn what there is to learn of events of one user. See `events.handler.Handle`.

        Raises the stores' errors, and `Unavailable` when the model gave no answer: then they are to be delivered again. What was learnt
        and read before stays so, and is not paid for again.
        """
        tenant, user = events[0].tenant, events[0].user
        events = learnable(events, self._clock())
        wanted = [event for event in events if self.read.wants(event) and not self._rules.take(event)]
        if user is None or not wanted:
            return
        fresh = await self._store.unread(tenant, user, wanted)
        said = [one for one in (self.read(event) for event in fresh) if one is not None]
        arrived = min(event.received_at for event in events)
        for batch in _batches(said, self._max_chars):
            facts = await self._facts_in(batch, tenant, user)
            if facts:
                await self._facts.learn(tenant, user, facts, arrived=arrived)
                self.counts.learnt += len(facts)
            await self._store.read(tenant, user, [one.event for one in batch])

    async def _facts_in(self, said: Sequence[Said], tenant: str, user: str) -> list[NewFact]:
        """What the model reads there, as facts."""
        body = self._prompt.question(said)
        items = await self._items(body, tenant, user)
        if items is None:
            items = await self._items(self._prompt.again(body), tenant, user)
        if items is None:
            self._dropped["not_json"] += 1
            return []
        facts, reasons = self._validation.facts(items, said, user, f"model:{self._model}")
        for reason in reasons:
            self._dropped[reason] += 1
        self.counts.nothing += not facts
        return facts

    async def _items(self, body: Json, tenant: str, user: str) -> list[Any] | None:
        """What the model answers; None for what is not the JSON that was asked for, and an empty list where there is no money for it."""
        day, kept = self._clock().date(), self._worth(self._model, body)
        if not await self._store.reserve(tenant, user, day, kept, self._allowance):
            self.counts.unread += 1
            return []
        answer = await self._answer(body, tenant, user, day, kept)
        if answer.route == BY_BUDGET:
            self.counts.unread += 1
            return []
        return items_of(_said(answer))

    async def _answer(self, body: Json, tenant: str, user: str, day: date, kept: int) -> Answer:
        spent = kept  # of what is broken off, nobody knows
        try:
            answer = await self._ask(self._request(body, tenant, user), self._timeout_s)
            spent = 0 if answer is None or kept == 0 else answer.cost_microusd
        finally:
            await self._store.settle(tenant, user, day, reserved=kept, spent=spent)
        self.counts.asked += 1
        if answer is None:
            raise Unavailable(f"the model {self._model} that reads events gave no answer within {self._timeout_s:g} s", retry_after_s=10.0)
        return answer

    def _request(self, body: Json, tenant: str, user: str) -> Request:
        """On the tenant's account, on behalf of the user. No router has a say in who answers; no cache keeps what is said."""
        return Request(
            id=new_id(),
            principal=Principal(key_id=_NOBODYS_KEY, tenant=tenant, user=user, tier=TIER),
            operation=Operation.CHAT,
            body=body,
            size=len(msgspec.json.encode(body)),
            model=self._model,
            fingerprint=self._fingerprint,
            extras=Extras(cache="off", user=user, personal=True, route="off", memory="off", store=False),
            started_ns=time.perf_counter_ns(),
            purpose=PURPOSE,
            lifeline=Lifeline(None),
        )


def _batches(said: Sequence[Said], most: int) -> list[list[Said]]:
    """Events for one question each: as many as there is room for, at least one."""
    batches: list[list[Said]] = []
    room = 0
    for one in said:
        if not batches or len(one.text) > room:
            batches.append([])
            room = most
        batches[-1].append(one)
        room -= len(one.text)
    return batches


def _said(answer: Answer) -> str | None:
    body = answer.completion.body if answer.completion is not None else msgspec.json.decode(answer.body or b"null")
    choices = body.get("choices") if isinstance(body, dict) else None
    message = choices[0].get("message") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    return text_of(message.get("content")) if isinstance(message, dict) else None
