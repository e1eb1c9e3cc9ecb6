"""Cascades and hedges with real providers on a scripted upstream: who is cut off is gone from the wire at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
import pytest

from farthing.pipeline.stage import compose
from farthing.providers.openai_compatible import OpenAICompatible
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model
from farthing.routing.checks.check import HOLD_ALL, Answered
from farthing.routing.choice import Choice
from farthing.routing.dispatch import Dispatch
from farthing.routing.hedging import Allowance, Hedge
from farthing.settings import OpenAICompatibleSettings
from farthing.spend.account import Account
from farthing.spend.meter import LedgerMeter
from farthing.testing import malformed
from farthing.testing.purse import OpenPurse
from farthing.testing.upstream import Reply, ScriptedUpstream, completion, stream, usage_object
from farthing.types import Answer, Extras, LedgerEntry, Lifeline, Operation, Price, Principal, Request, new_id

WHO = Principal(key_id=UUID(int=1), tenant="t")
both = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


class NoWord:
    """Rejects answers with a word in it."""

    name = "word"

    def __init__(self, word: str, hold: float = HOLD_ALL) -> None:
        self.hold = hold
        self._word = word

    async def judge(self, answered: Answered) -> str | None:
        return "it is in it" if self._word in str(answered.body["choices"][0]["message"]["content"]) else None


class House:
    """Dispatch over one upstream; each model has the deployments that it is given."""

    def __init__(self, up: ScriptedUpstream, hedge: Hedge | None = None, **models: tuple[str, ...]) -> None:
        settings = OpenAICompatibleSettings(kind="openai_compatible", base_url=up.base_url)
        self.provider = OpenAICompatible("up", settings)
        self.entries: list[LedgerEntry] = []
        self.purse = OpenPurse()
        self._models = [self._model(name, names, hedge) for name, names in models.items()]
        self._up = up

    def _model(self, name: str, upstream: tuple[str, ...], hedge: Hedge | None) -> Model:
        deployments = tuple(
            Deployment(
                model=name,
                provider=self.provider,
                upstream_model=one,
                weight=0,
                price=Price(input=1_000_000, output=1_000_000, source="settings"),
                retries=0,
                cooldown=Cooldown(3, 30.0, time.monotonic),
            )
            for one in upstream
        )
        return Model(name=name, operation=Operation.CHAT, deployments=deployments, hedge=hedge)

    def record(self, entry: LedgerEntry) -> None:
        self.entries.append(entry)

    async def ask(self, *checks: NoWord, streams: bool) -> Answer:
        names = tuple(model.name for model in self._models)
        request = Request(
            id=new_id(),
            principal=WHO,
            operation=Operation.CHAT,
            body={"model": names[0], "messages": [{"role": "user", "content": "12345678"}]},
            model=names[0],
            extras=Extras(),
            stream=streams,
            started_ns=time.perf_counter_ns(),
            lifeline=Lifeline(None),
            choice=Choice(models=names, baseline=names[-1], checks=checks),
        )
        meter = LedgerMeter(self, [], anonymous_per_minute=60)
        catalogue = Catalogue(self._models, random.Random(1))  # noqa: S311 - nothing secret
        return await compose([Account(meter)], Dispatch(catalogue, meter, self.purse, lambda _: None))(request)

    async def settled(self) -> None:
        assert sum(one.final for one in self.entries) == 1
        assert len(self.purse.reserved) == len(self.purse.settled) == self._up.received
        assert self.provider.open_connections == len(self.provider._endpoint._http._idle)
        await self.provider.aclose()
        await self._up.wait_for(lambda up: up.open_connections == 0)


async def text(answer: Answer) -> str:
    if answer.stream is None:
        assert answer.body is not None
        return str(msgspec.json.decode(answer.body)["choices"][0]["message"]["content"])
    try:
        return "".join([choice["delta"].get("content") or "" async for chunk in answer.stream for choice in chunk["choices"]])
    finally:
        await answer.stream.aclose()


def good(*, streams: bool) -> Reply:
    return stream(["fi", "ne"], counts=usage_object(9, 12)) if streams else completion("fine", usage=usage_object(9, 12))


def bad(*, streams: bool) -> Reply:
    return stream(["b", "ad"], counts=usage_object(9, 2)) if streams else completion("bad", usage=usage_object(9, 2))


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@both
async def test_a_rejected_answer_and_the_one_given_are_both_billed_as_the_provider_counts(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("a", bad(streams=streams))
    up.script("b", good(streams=streams))
    house = House(up, cheap=("a",), strong=("b",))
    assert await text(await house.ask(NoWord("bad"), streams=streams)) == "fine"
    assert [(one.checks, one.cost_microusd, one.usage_source) for one in house.entries] == [
        ("failed:word", 11, "provider"),
        ("passed", 21, "provider"),
    ]
    await house.settled()


async def test_a_stream_that_is_rejected_by_its_beginning_is_hung_up_on(up: ScriptedUpstream) -> None:
    up.script("a", malformed.endless_stream("bad "))
    up.script("b", good(streams=True))
    house = House(up, cheap=("a",), strong=("b",))
    assert await text(await house.ask(NoWord("bad", hold=8), streams=True)) == "fine"
    await up.wait_for(lambda up: up.disconnects == 1)
    assert [(one.checks, one.usage_source) for one in house.entries] == [("failed:word", "estimated"), ("passed", "provider")]
    await house.settled()


async def test_a_client_that_leaves_a_held_stream_hangs_up(up: ScriptedUpstream) -> None:
    up.script("a", malformed.endless_stream("word "))
    house = House(up, cheap=("a",), strong=("b",))
    task = asyncio.ensure_future(house.ask(NoWord("bad"), streams=True))
    await up.wait_for(lambda up: up.received == 1)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await up.wait_for(lambda up: up.disconnects == 1)
    assert [(one.error, one.final) for one in house.entries] == [("client_disconnected", True)]
    await house.settled()


@both
@pytest.mark.parametrize("slow", [malformed.stall_before_headers(), malformed.stall_after_headers()], ids=["no head", "no body"])
async def test_a_lost_hedge_is_hung_up_on(up: ScriptedUpstream, slow: Reply, streams: bool) -> None:  # noqa: FBT001
    up.script("a", slow)
    up.script("b", good(streams=streams))
    house = House(up, Hedge(after_s=0.02, allowance=Allowance(1.0)), fast=("a", "b"))
    answer = await house.ask(streams=streams)
    assert (await text(answer), answer.route) == ("fine", "hedge")
    await up.wait_for(lambda up: up.disconnects == 1)
    assert [(one.upstream_model, one.error, one.final) for one in house.entries] == [("a", "hedge_lost", False), ("b", None, True)]
    await house.settled()


@both
async def test_a_client_that_leaves_a_race_hangs_up_on_both(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("a", malformed.stall_before_headers())
    up.script("b", malformed.stall_before_headers())
    house = House(up, Hedge(after_s=0.01, allowance=Allowance(1.0)), fast=("a", "b"))
    task = asyncio.ensure_future(house.ask(streams=streams))
    await up.wait_for(lambda up: up.received == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await up.wait_for(lambda up: up.disconnects == 2)
    assert [(one.error, one.final) for one in house.entries] == [("client_disconnected", False), ("client_disconnected", True)]
    await house.settled()
