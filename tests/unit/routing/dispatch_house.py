"""A dispatch stage over providers that play parts, with the real meter, and everything that can be counted counted."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from farthing.errors import UpstreamError, UpstreamRejected, UpstreamUnavailable
from farthing.pipeline.stage import compose
from farthing.ports import Call
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model
from farthing.routing.checks.check import HOLD_ALL, Answered
from farthing.routing.choice import Choice
from farthing.routing.dispatch import Dispatch
from farthing.routing.gate import Gate
from farthing.routing.hedging import Hedge
from farthing.spend.account import Account
from farthing.spend.meter import LedgerMeter
from farthing.testing.purse import OpenPurse
from farthing.types import HEDGE_LOST, Answer, Completion, Extras, Json, LedgerEntry, Lifeline, Operation, Price, Principal, Request, new_id

WHO = Principal(key_id=UUID(int=1), tenant="t")
HANG = "<hang>"
"""A piece at which a stream stands still until it is cut off."""
BREAK = "<break>"
"""A piece at which the connection breaks."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a model does when it is asked: says these pieces, after a while, or raises before it says anything."""

    pieces: tuple[str, ...] = ()
    delay_s: float = 0.0
    error: type[UpstreamError] | None = None
    usage: bool = True


def says(*pieces: str, delay_s: float = 0.0, usage: bool = True) -> Part:
    return Part(pieces=pieces, delay_s=delay_s, usage=usage)


REFUSES = Part(error=UpstreamRejected)
AWAY = Part(error=UpstreamUnavailable)
SILENT = Part(pieces=(HANG,))


class Actors:
    """A provider (`ports.Provider`) whose models act out their parts, the last one for ever.

    `open` counts calls under way, `standing` those that hung, `counted` has the output tokens that each call told of at its end.
    """

    name = "actors"
    kind = "openai_compatible"

    def __init__(self) -> None:
        self.parts: dict[str, deque[Part]] = {}
        self.asked: list[str] = []
        self.bodies: list[Json] = []
        self.counted: list[int | None] = []
        self.open = 0
        self.standing = 0

    @property
    def open_connections(self) -> int:
        return self.open

    async def healthy(self) -> bool:
        return True

    async def embed(self, call: Call) -> Completion:
        raise NotImplementedError(call.upstream_model)

    async def aclose(self) -> None:
        pass

    def _part(self, call: Call) -> tuple[int, Part]:
        self.asked.append(call.upstream_model)
        self.counted.append(None)
        self.bodies.append(call.body)
        parts = self.parts[call.upstream_model]
        return len(self.asked) - 1, parts.popleft() if len(parts) > 1 else parts[0]

    async def _enter(self, part: Part) -> None:
        if part.delay_s:
            await asyncio.sleep(part.delay_s)
        if part.error is not None:
            raise part.error("no", upstream_status=400 if part.error is UpstreamRejected else 503)

    async def chat(self, call: Call) -> Completion:
        number, part = self._part(call)
        self.open += 1
        try:
            await self._enter(part)
            for piece in part.pieces:
                if piece == HANG:
                    self.standing += 1
                    await asyncio.Event().wait()
                if piece == BREAK:
                    raise UpstreamUnavailable("broke")
            self.counted[number] = len(part.pieces) if part.usage else None
            message = {"role": "assistant", "content": "".join(part.pieces), "refusal": None}
            body = {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": call.upstream_model,
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
                "usage": _usage(part),
            }
            return Completion(body=body)
        finally:
            self.open -= 1

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        number, part = self._part(call)
        self.open += 1
        try:
            await self._enter(part)
            yield _chunk(call, {"role": "assistant", "content": ""}, None), None
            for piece in part.pieces:
                if piece == HANG:
                    self.standing += 1
                    await asyncio.Event().wait()
                if piece == BREAK:
                    raise UpstreamUnavailable("broke")
                await asyncio.sleep(0)
                yield _chunk(call, {"content": piece}, None), None
            self.counted[number] = len(part.pieces) if part.usage else None
            yield _chunk(call, {}, "stop"), _usage(part)
        finally:
            self.open -= 1


def _usage(part: Part) -> Json | None:
    if not part.usage:
        return None
    return {"prompt_tokens": 10, "completion_tokens": len(part.pieces), "total_tokens": 10 + len(part.pieces)}


def _chunk(call: Call, delta: Json, finish: str | None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": call.upstream_model, "choices": [choice]}


class WordCheck:
    """Rejects answers with a word in it. Remembers what it was shown."""

    def __init__(self, word: str, hold: float = HOLD_ALL, name: str | None = None, delay_s: float = 0.0) -> None:
        self.name = name or word
        self.hold = hold
        self.shown: list[tuple[str, bool]] = []
        self._word = word
        self._delay_s = delay_s

    async def judge(self, answered: Answered) -> str | None:
        text = "".join(str(one["message"].get("content") or "") for one in answered.body["choices"])
        self.shown.append((text, answered.whole))
        await asyncio.sleep(self._delay_s)
        return "the word is in it" if self._word in text else None


class Kept:
    """A ledger in a list."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []

    def record(self, entry: LedgerEntry) -> None:
        self.entries.append(entry)


class House:
    """Models by name, cheapest first; each costs ten times what the one before costs."""

    def __init__(self, *, gate: Gate | None = None, purse: OpenPurse | None = None, free: str | None = None) -> None:
        self.actors = Actors()
        self.ledger = Kept()
        self.purse = purse or OpenPurse()
        self.observed: list[tuple[str, str]] = []
        self._gate = gate or Gate(max_held_bytes=2**20, timeout_s=5.0)
        self.models: list[Model] = []
        self._free = free
        self._price = 1_000_000

    def model(self, name: str, *deployments: Sequence[Part], fallbacks: tuple[str, ...] = (), hedge: Hedge | None = None) -> House:
        """A model with deployments `name`, `name-2`, … that act these parts."""
        made = []
        for at, parts in enumerate(deployments):
            upstream = name if at == 0 else f"{name}-{at + 1}"
            self.actors.parts[upstream] = deque(parts)
            made.append(
                Deployment(
                    model=name,
                    provider=self.actors,
                    upstream_model=upstream,
                    weight=0,
                    price=Price(input=self._price, output=self._price, source="notional" if name == self._free else "settings"),
                    retries=0,
                    cooldown=Cooldown(1000, 30.0, time.monotonic),
                )
            )
        self._price *= 10
        self.models.append(Model(name=name, operation=Operation.CHAT, deployments=tuple(made), fallbacks=fallbacks, hedge=hedge))
        return self

    def request(self, choice: Choice | None, *, streams: bool, model: str | None = None, task: asyncio.Task[Any] | None = None) -> Request:
        name = model or (choice.baseline if choice else self.models[0].name)
        return Request(
            id=new_id(),
            principal=WHO,
            operation=Operation.CHAT,
            body={"model": name, "messages": [{"role": "user", "content": "12345678"}]},
            model=name,
            extras=Extras(),
            stream=streams,
            started_ns=time.perf_counter_ns(),
            lifeline=Lifeline(task),
            choice=choice,
        )

    async def ask(self, choice: Choice | None, *, streams: bool = False, model: str | None = None) -> Answer:
        return await self.send(self.request(choice, streams=streams, model=model))

    async def send(self, request: Request) -> Answer:
        self.meter = LedgerMeter(self.ledger, [], anonymous_per_minute=60)
        catalogue = Catalogue(self.models, random.Random(1))  # noqa: S311 - nothing secret
        dispatch = Dispatch(
            catalogue,
            self.meter,
            self.purse,
            lambda _: self._free,
            gate=self._gate,
            observed=lambda _, model, checks: self.observed.append((model, checks)),
        )
        return await compose([Account(self.meter)], dispatch)(request)

    @property
    def story(self) -> list[tuple[str | None, str | None, str | None, bool]]:
        """(upstream model, error, checks, final) of each entry."""
        return [(one.upstream_model, one.error, one.checks, one.final) for one in self.ledger.entries]

    def settled(self) -> None:
        """What must hold after every request."""
        entries = self.ledger.entries
        attempts = [one for one in entries if one.attempt]
        assert sum(one.final for one in entries) == 1, self.story
        assert sorted(one.attempt for one in attempts) == list(range(1, len(attempts) + 1))
        assert len(attempts) == len(self.actors.asked), "each call is one attempt"
        for entry, counted in zip(sorted(attempts, key=lambda one: one.attempt), self.actors.counted, strict=True):
            assert counted is None or (entry.tokens_out, entry.usage_source) == (counted, "provider")
        assert len(self.purse.reserved) == len(self.purse.settled), "each reservation is settled"
        assert sum(cost for _, _, cost in self.purse.settled) == sum(one.cost_microusd for one in entries)
        (final,) = [one for one in entries if one.final]
        if final.error is None:
            spent = sum(one.cost_microusd for one in entries if one.error in {None, HEDGE_LOST})
            assert sum(one.saved_microusd for one in entries) == final.baseline_microusd - spent
        assert self.actors.open == 0, "a call to the provider is still open"
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def until(condition: Callable[[], object]) -> None:
    """Let others run until it holds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0)


async def read(answer: Answer) -> list[Json]:
    """The rest of a stream, closed as the door does it."""
    stream = answer.stream
    assert stream is not None
    try:
        return [chunk async for chunk in stream]
    finally:
        await stream.aclose()


def text_of(chunks: list[Json]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def text(answer: Answer) -> str:
    """What the client sees."""
    if answer.stream is not None:
        return text_of(await read(answer))
    assert answer.body is not None
    return str(msgspec.json.decode(answer.body)["choices"][0]["message"]["content"])
