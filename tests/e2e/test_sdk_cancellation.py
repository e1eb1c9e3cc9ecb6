"""Callers of the official SDK that lose patience or interest: the provider is told at once, and is asked no more."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from probes import Probe

from farthing.testing.malformed import stall_before_headers
from farthing.testing.replies import completion, stream
from farthing.testing.upstream import ScriptedUpstream

WORDS = tuple(f"word {at} " for at in range(1000))


def ask() -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"hello {uuid4()}"}]


def test_client_time_out_ends_the_upstreams_work(sdk: OpenAI, up: ScriptedUpstream, probe: Probe) -> None:
    up.script("fast", stall_before_headers())
    disconnects = up.disconnects
    with probe.adds(requests=1, attempts=1, errors=1):
        with pytest.raises(openai.APITimeoutError):
            sdk.with_options(timeout=0.2).chat.completions.create(model="fast", messages=ask())
        up.wait_until(lambda up: up.disconnects == disconnects + 1)


def test_client_time_out_is_tried_again_by_the_sdk(sdk: OpenAI, up: ScriptedUpstream, probe: Probe) -> None:
    up.script("fast", stall_before_headers(), completion("quick"))
    with probe.adds(requests=2, attempts=2, errors=1):
        answer = sdk.with_options(timeout=0.5, max_retries=1).chat.completions.create(model="fast", messages=ask())
        assert answer.choices[0].message.content == "quick"


async def test_cancelled_task_ends_the_upstreams_work(async_sdk: AsyncOpenAI, up: ScriptedUpstream, probe: Probe) -> None:
    up.script("fast", stall_before_headers())
    received, disconnects = up.received, up.disconnects
    async with probe.adds(requests=1, attempts=1, errors=1):
        asking = asyncio.ensure_future(async_sdk.chat.completions.create(model="fast", messages=ask()))
        await up.wait_for(lambda up: up.received == received + 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)


def test_closing_a_stream_ends_the_upstreams_work(sdk: OpenAI, up: ScriptedUpstream, probe: Probe) -> None:
    up.script("fast", stream(WORDS, delay=0.01))
    disconnects = up.disconnects
    with probe.adds(requests=1, attempts=1, errors=1):
        with sdk.chat.completions.create(model="fast", messages=ask(), stream=True) as answer:
            for at, _ in enumerate(answer):
                if at == 3:
                    break
        up.wait_until(lambda up: up.disconnects == disconnects + 1)


async def test_closing_an_asynchronous_stream_ends_the_upstreams_work(async_sdk: AsyncOpenAI, up: ScriptedUpstream, probe: Probe) -> None:
    up.script("fast", stream(WORDS, delay=0.01))
    disconnects = up.disconnects
    async with probe.adds(requests=1, attempts=1, errors=1):
        answer = await async_sdk.chat.completions.create(model="fast", messages=ask(), stream=True)
        async with answer:
            await anext(aiter(answer))
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)


async def test_cancelling_the_reader_of_a_stream_ends_the_upstreams_work(
    async_sdk: AsyncOpenAI, up: ScriptedUpstream, probe: Probe
) -> None:
    up.script("fast", stream(WORDS, delay=0.01))
    disconnects = up.disconnects
    begun = asyncio.Event()

    async def read() -> None:
        async with await async_sdk.chat.completions.create(model="fast", messages=ask(), stream=True) as answer:
            async for _ in answer:
                begun.set()

    async with probe.adds(requests=1, attempts=1, errors=1):
        reading = asyncio.ensure_future(read())
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)


async def test_many_streams_closed_at_once_leave_nothing(async_sdk: AsyncOpenAI, up: ScriptedUpstream, probe: Probe) -> None:
    up.script("fast", stream(WORDS, delay=0.02))
    disconnects = up.disconnects

    async def glance() -> None:
        async with await async_sdk.chat.completions.create(model="fast", messages=ask(), stream=True) as answer:
            await anext(aiter(answer))

    async with probe.adds(requests=30, attempts=30, errors=30, idle=1):
        await asyncio.gather(*(glance() for _ in range(30)))
        await up.wait_for(lambda up: up.disconnects == disconnects + 30)
