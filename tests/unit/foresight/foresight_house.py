"""The stage and the handler of foresight on stores in process, with a model that is a function of the tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from farthing.errors import FarthingError, NotAllowed, UpstreamUnavailable
from farthing.foresight.action import Action, Briefing
from farthing.foresight.click_book import ClickBook
from farthing.foresight.edge import EdgeStage
from farthing.foresight.flights import Flights
from farthing.foresight.precompute import Foresee
from farthing.foresight.states import touching
from farthing.inprocess.edge import InProcessEdge
from farthing.inprocess.foresight_log import InProcessForesightLog
from farthing.inprocess.states import InProcessStates
from farthing.inprocess.stores import InProcessChanges
from farthing.pipeline.errands import Errands
from farthing.pipeline.stream import Replayed, replay
from farthing.settings import ForesightSettings
from farthing.testing.stores import Clock
from farthing.types import (
    ActionCounts,
    Answer,
    Completion,
    Event,
    Extras,
    Fact,
    Json,
    Lifeline,
    Operation,
    Principal,
    Profile,
    Request,
    Source,
    new_id,
)

_SECOND = timedelta(seconds=1)
COST = 100
Said = Callable[[], str | Json]


class House:
    """One process. `pages` are what URLs answer; an exception is raised. `before_answer` is awaited while the model thinks."""

    def __init__(self, *, actions: Json | None = None, **settings: Any) -> None:
        usual = {"briefing": {"after": ["user.login"], "model": "fast", "user": "Brief {user}.", "depends_on": ["deployments"]}}
        tree = {
            "states": {"deployments": {"types": ["deployment.*"]}, "project": {"types": ["ticket.*"], "per": "data.project"}},
            "hosts": {"api.example.com": {}},
            "actions": usual if actions is None else actions,
            **settings,
        }
        self.settings = ForesightSettings.model_validate(tree)
        self.clock = Clock()
        self.states = InProcessStates(InProcessChanges())
        self.store = InProcessEdge(self.states, clock=self.clock)
        self.log = InProcessForesightLog(self.states, clock=self.clock)
        self.book = ClickBook(self.log, self.settings, clock=self.clock)
        self.pages: dict[str, bytes | FarthingError] = {}
        self.facts: dict[tuple[str, str], Profile] = {}
        self.asked: list[Request] = []
        self.thinking: Callable[[], Any] | None = None
        self.says: Said = lambda: f"Answer {len(self.asked)}"
        self.allowed = True
        self.short_of_money: set[str] = set()
        self.actions = {name: Action(name, one) for name, one in self.settings.actions.items()}
        self.flights = Flights()
        self.errands = Errands(most=16)
        self.errands.begin(self.model)
        briefing = Briefing(self._page, self._profile, timeout_s=0.5)
        self.stage = EdgeStage(self.actions, self.settings, self.store, briefing, self.flights, self.book, self._admit, clock=self.clock)
        self.foresee = Foresee(
            self.actions,
            self.settings,
            self.store,
            briefing,
            self.flights,
            self.book,
            self.errands,
            cost_of=lambda *_: float(COST),
            fingerprint_of=lambda model: f"print of {model}",
            may_spend=lambda who: who.tenant not in self.short_of_money,
            clock=self.clock,
        )

    async def _page(self, url: str) -> bytes:
        found = self.pages.get(url, UpstreamUnavailable(f"there is no {url}"))
        if isinstance(found, FarthingError):
            raise found
        return found

    async def _profile(self, tenant: str, user: str) -> Profile | None:
        return self.facts.get((tenant, user))

    def _admit(self, request: Request) -> str:
        if not self.allowed:
            raise NotAllowed(f"not {request.model}")
        return "print"

    async def model(self, request: Request) -> Answer:
        """What is behind the stage, and behind errands."""
        self.asked.append(request)
        if self.thinking is not None:
            await self.thinking()
        said = self.says()
        message = said if isinstance(said, dict) else {"role": "assistant", "content": said}
        usage = {"prompt_tokens": 50, "completion_tokens": 7, "total_tokens": 57}
        ended = message.pop("finish_reason", "stop")
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ended}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "m", "choices": [choice], "usage": usage}
        answer = Answer(source=Source.MODEL, model="fast", cost_microusd=COST, completion=Completion(body=body))
        if request.stream:
            answer.stream = Replayed(replay(body))
        else:
            answer.body = msgspec.json.encode(body)
        return answer

    async def click(self, user: str | None = "ann", *, action: str = "briefing", tenant: str = "acme", **facts: Any) -> Answer:
        """A click comes to the stage."""
        extras = Extras(action=action, user=user, cache=facts.pop("cache", "on"))
        request = Request(
            id=new_id(),
            principal=Principal(key_id=UUID(int=9), tenant=tenant),
            operation=facts.pop("operation", Operation.CHAT),
            body={"model": "any", "messages": [{"role": "user", "content": "not read"}]},
            model="any",
            extras=extras,
            started_ns=time.perf_counter_ns(),
            lifeline=Lifeline(asyncio.current_task()),
            **facts,
        )
        return await self.stage(request, self.model)

    async def event(self, kind: str, user: str | None = "ann", data: Any = None, *, number: int = 0, **facts: Any) -> None:
        """An event is published and handled."""
        usual = {"time": self.clock.now, "received_at": self.clock.now, "tenant": "acme", **facts}
        event = Event(id=f"{kind}-{number}", source="app", type=kind, user=user, data=data, **usual)
        self.states.bump(event.tenant, touching(self.settings.states)(event))
        await self.foresee.handle([event])

    async def counts(self) -> dict[str, ActionCounts]:
        """What is counted, by action and segment."""
        await self.book.drain()
        learned = await self.log.learned("acme", list(self.actions), half_life_days=14)
        return {f"{one.action}/{one.segment}": one for one in learned}

    def prompt(self) -> str:
        """What the model was asked last."""
        return "\n".join(message["content"] for message in self.asked[-1].body["messages"])


def text_of(answer: Answer) -> str:
    """What an answer says."""
    assert answer.body is not None
    return str(msgspec.json.decode(answer.body)["choices"][0]["message"]["content"])


async def streamed(answer: Answer) -> str:
    """What a stream says."""
    assert answer.stream is not None
    pieces = [chunk["choices"][0]["delta"].get("content") or "" async for chunk in answer.stream]
    await answer.stream.aclose()
    return "".join(pieces)


def profile(user: str, **facts: Any) -> Profile:
    """Facts of a user of acme."""
    now = Clock().now
    known = [
        Fact(id=new_id(), tenant="acme", user=user, key=key, value=value, by="rule:x", valid_from=now, known_from=now)
        for key, value in facts.items()
    ]
    return Profile(tenant="acme", user=user, facts=tuple(known), version=1)
