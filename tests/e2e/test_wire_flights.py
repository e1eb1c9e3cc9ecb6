"""Identical requests at the same moment: the model is asked once, and nobody suffers from what happens to another."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import openai
import pytest
from inside import new_key
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from probes import Probe

from farthing.testing.installation import Installation
from farthing.testing.malformed import close_mid_body
from farthing.testing.raw_client import RawClient
from farthing.testing.replies import Reply, completion, error, stream
from farthing.testing.upstream import ScriptedUpstream

N = 20
WORDS = tuple(f"word {at} " for at in range(50))


def ask() -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"hello {uuid4()}"}]


async def whole(client: AsyncOpenAI, question: list[ChatCompletionMessageParam], model: str = "fast") -> tuple[str, str]:
    """What answered, and the text."""
    raw = await client.chat.completions.with_raw_response.create(model=model, messages=question)
    return raw.headers["x-farthing-source"], raw.parse().choices[0].message.content or ""


async def streamed(client: AsyncOpenAI, question: list[ChatCompletionMessageParam], model: str = "fast") -> tuple[str, str]:
    answer = await client.chat.completions.create(model=model, messages=question, stream=True)
    async with answer:
        text = [chunk.choices[0].delta.content or "" async for chunk in answer]
    return answer.response.headers["x-farthing-source"], "".join(text)


async def joined(probe: Probe, requests: int) -> None:
    """Wait until that many requests are under way: one leads, the others follow."""
    await asyncio.to_thread(probe.until, "farthing_requests_in_flight", requests + 1)


@pytest.mark.parametrize(
    ("ways", "reply"),
    [
        ((whole,), completion("".join(WORDS), delay=0.3)),
        ((streamed,), stream(WORDS, delay=0.01)),
        ((whole, streamed), completion("".join(WORDS), delay=0.3)),
        ((streamed, whole), stream(WORDS, delay=0.01)),
    ],
    ids=["whole", "streamed", "whole_first", "streamed_first"],
)
async def test_identical_requests_ask_the_model_once(
    ways: tuple[Any, ...], reply: Reply, async_sdk: AsyncOpenAI, probe: Probe, up: ScriptedUpstream
) -> None:
    question = ask()
    up.script("fast", reply)
    received = up.received
    async with probe.adds(requests=N, attempts=1, errors=0):
        leading = asyncio.ensure_future(ways[0](async_sdk, question))
        await up.wait_for(lambda up: up.received == received + 1)
        following = [ways[at % len(ways)](async_sdk, question) for at in range(N - 1)]
        answers = await asyncio.gather(leading, *following)
    assert Counter(source for source, _ in answers) == {"model": 1, "exact": N - 1}
    assert {text for _, text in answers} == {"".join(WORDS)}
    assert up.received == received + 1


@pytest.mark.parametrize(("way", "reply"), [(whole, error(500)), (streamed, error(500)), (streamed, close_mid_body())])
async def test_failed_leader_does_not_poison_its_followers(
    way: Any, reply: Reply, async_sdk: AsyncOpenAI, probe: Probe, up: ScriptedUpstream
) -> None:
    question = ask()
    slow = Reply(status=reply.status, json=reply.json, parts=(0.5, *reply.parts) if reply.parts else None, delay_s=0.5)
    up.script("fast", slow, stream(WORDS) if way is streamed else completion("".join(WORDS)))
    async with probe.adds(requests=6, attempts=6, errors=1, idle=6):
        answers = asyncio.gather(*(way(async_sdk, question) for _ in range(6)), return_exceptions=True)
        await joined(probe, 6)
        failed = [answer for answer in await answers if isinstance(answer, BaseException)]
    assert len(failed) == 1
    assert isinstance(failed[0], openai.APIError)
    good = [answer[1] for answer in await answers if not isinstance(answer, BaseException)]
    assert good == ["".join(WORDS)] * 5
    assert (await way(async_sdk, question))[0] == "exact"


@pytest.mark.parametrize("way", [whole, streamed])
async def test_leader_that_leaves_does_not_take_its_followers_along(
    way: Any, gateway: Installation, async_sdk: AsyncOpenAI, probe: Probe, up: ScriptedUpstream
) -> None:
    question = ask()
    up.script("fast", stream(WORDS, delay=0.01) if way is streamed else completion("".join(WORDS), delay=0.5))
    received, disconnects = up.received, up.disconnects
    async with probe.adds(requests=4, attempts=1):
        async with RawClient(gateway.port, headers={"authorization": f"Bearer {gateway.key}"}) as leader:
            await leader.post({"model": "fast", "messages": question, "stream": way is streamed})
            await up.wait_for(lambda up: up.received == received + 1)
            following = asyncio.gather(*(way(async_sdk, question) for _ in range(3)))
            await joined(probe, 4)
        answers = await following
    assert [source for source, _ in answers] == ["exact"] * 3
    assert {text for _, text in answers} == {"".join(WORDS)}
    assert (up.received, up.disconnects) == (received + 1, disconnects)


@pytest.mark.parametrize("way", [whole, streamed])
async def test_when_all_have_left_the_model_is_stopped(way: Any, async_sdk: AsyncOpenAI, probe: Probe, up: ScriptedUpstream) -> None:
    question = ask()
    up.script("fast", stream(WORDS, delay=0.2) if way is streamed else completion("late", delay=10))
    received, disconnects = up.received, up.disconnects
    async with probe.adds(requests=4, attempts=1, errors=4):
        asking = [asyncio.ensure_future(way(async_sdk, question)) for _ in range(4)]
        await joined(probe, 4)
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)
    assert up.received == received + 1


async def test_follower_that_leaves_disturbs_nobody(async_sdk: AsyncOpenAI, probe: Probe, up: ScriptedUpstream) -> None:
    question = ask()
    up.script("fast", completion("".join(WORDS), delay=0.5))
    disconnects = up.disconnects
    async with probe.adds(requests=4, attempts=1, errors=2):
        asking = [asyncio.ensure_future(whole(async_sdk, question)) for _ in range(2)]
        await joined(probe, 2)
        leaving = [asyncio.ensure_future(whole(async_sdk, question)) for _ in range(2)]
        await joined(probe, 4)
        for one in leaving:
            one.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        answers = await asyncio.gather(*asking)
    assert sorted(source for source, _ in answers) == ["exact", "model"]
    assert up.disconnects == disconnects


async def test_followers_wait_no_longer_than_the_settings_say(fleet: Installation, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    question = ask()
    up.script("first", stream(WORDS[:3], delay=0.3), completion("my own"))
    received = up.received
    async with (
        fleet_probe.adds(requests=2, attempts=2, errors=0, idle=9),
        AsyncOpenAI(base_url=fleet.base_url, api_key=fleet.key, max_retries=0) as client,
    ):
        leading = asyncio.ensure_future(streamed(client, question, "pair"))
        await up.wait_for(lambda up: up.received == received + 1)
        following = await whole(client, question, "pair")
        assert not leading.done()
        assert following == ("model", "my own")
        assert (await leading)[0] == "model"


async def test_tenants_and_namespaces_do_not_follow_each_other(
    gateway: Installation, async_sdk: AsyncOpenAI, probe: Probe, up: ScriptedUpstream
) -> None:
    question = ask()
    up.script("fast", completion("secret", delay=0.3))
    key = new_key(gateway, "neighbour")["key"]
    async with (
        probe.adds(requests=4, attempts=4, errors=0, idle=4),
        AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as other,
    ):
        ours = async_sdk.with_options(default_headers={"x-farthing-namespace": "ours"})
        off = async_sdk.with_options(default_headers={"x-farthing-cache": "off"})
        answers = await asyncio.gather(*(whole(client, question) for client in (async_sdk, other, ours, off)))
    assert [source for source, _ in answers] == ["model"] * 4
