"""Requests, models and routers for tests of the route stage."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from farthing.app_checks import Checks
from farthing.app_routing import router_names, routers_of
from farthing.ports import Call
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model
from farthing.routing.estimates import Estimates
from farthing.routing.route_judge import Ask
from farthing.routing.router import Learned, RouteStage
from farthing.settings import Settings
from farthing.spend.prices import cost
from farthing.types import Answer, Completion, Extras, Json, Lifeline, Mode, Operation, Price, Principal, Request, Source, new_id

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)  # a Wednesday
PRICES = {"weak": 1_000_000, "mid": 5_000_000, "strong": 10_000_000, "judge": 100_000}


def request(text: Any = "Hello there", *, who: Json | None = None, extras: Json | None = None, **fields: Any) -> Request:
    """A chat request. `fields` are the request's own (`model`, `stream`, `mode`, …) or go into the body."""
    own = {name: fields.pop(name) for name in tuple(fields) if name in Request.__struct_fields__ and name != "extras"}
    messages = fields.pop("messages", [{"role": "user", "content": text}])
    facts: Json = {"id": new_id(), "operation": Operation.CHAT, "model": "auto", **own}
    return Request(
        principal=Principal(**{"key_id": UUID(int=1), "tenant": "acme", **(who or {})}),
        body={"messages": messages, **fields},
        extras=Extras(**(extras or {})),
        started_ns=time.perf_counter_ns(),
        lifeline=Lifeline(None),
        **facts,
    )


def settings_of(routing: Json, **more: Any) -> Settings:
    """Settings with the models of `PRICES` and an embeddings model."""
    models: Json = {name: {"provider": "up", "upstream_model": name} for name in PRICES}
    models["vectors"] = {"provider": "up", "upstream_model": "vectors", "kind": "embeddings"}
    providers = {"up": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}}
    return Settings.model_validate({"local": {"enabled": False}, "providers": providers, "models": models, "routing": routing, **more})


class Nowhere:
    """A provider that is never called."""

    name = kind = "up"
    open_connections = 0

    async def healthy(self) -> bool:
        return False

    async def chat(self, call: Call) -> Completion:
        raise AssertionError(call)

    async def embed(self, call: Call) -> Completion:
        raise AssertionError(call)

    def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        raise AssertionError(call)

    async def aclose(self) -> None:
        pass


def model(name: str, context_tokens: int | None = None, price: Price | None = None, operation: Operation = Operation.CHAT) -> Model:
    """A model with one deployment that nobody calls."""
    unit = PRICES.get(name, 1_000_000)
    deployment = Deployment(
        model=name,
        provider=Nowhere(),
        upstream_model=name,
        weight=1,
        price=price or Price(input=unit, output=2 * unit, cache_read=unit, cache_write=unit, source="settings"),
        retries=0,
        cooldown=Cooldown(1, 1, time.monotonic),
    )
    return Model(name=name, operation=operation, deployments=(deployment,), context_tokens=context_tokens)


class Said:
    """A judge's model: says these things in turn; None is no answer in time. `asked` are the questions."""

    def __init__(self, *words: Any, route: str = "direct") -> None:
        self._words = list(words)
        self._route = route
        self.asked: list[tuple[Request, float]] = []

    async def __call__(self, question: Request, timeout_s: float) -> Answer | None:
        self.asked.append((question, timeout_s))
        words = self._words.pop(0)
        if words is None:
            return None
        body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}]}
        return Answer(source=Source.MODEL, model="judge", completion=Completion(body=body), route=self._route)


class House:
    """The route stage over models and routers."""

    def __init__(
        self, routing: Json, *, ask: Ask | None = None, learned: Learned | None = None, models: Sequence[Model] = (), at: datetime = NOON
    ) -> None:
        settings = settings_of(routing)
        own = {one.name: one for one in models}
        known = [own.pop(name) if name in own else model(name) for name in PRICES]
        vectors = model("vectors", operation=Operation.EMBEDDINGS)
        self.catalogue = Catalogue([*known, *own.values(), vectors], random.Random(1), router_names(settings))  # noqa: S311 - the same draws each time
        self.ask = ask or Said()
        self.routers = routers_of(settings, self.catalogue, self.ask, Checks(self.ask))
        self.estimates = Estimates(self.catalogue, cost, 1000)
        self.stage = RouteStage(self.routers, self.catalogue, self.estimates, learned, lambda: at)

    async def models(self, asked: Request) -> tuple[str, ...]:
        """Which models would be asked."""
        choice = await self.stage.choose(asked)
        return choice.models if choice else (asked.model,)


SHALLOW = Mode(name="SHALLOW", rank=1, judge=False, cascade=False)
