"""kill -9 of a gateway worker under load."""

from __future__ import annotations

import asyncio
import os
import signal

import openai
from inside import add_up, both_workers, new_key, once_each, query
from openai import AsyncOpenAI

from farthing.testing.installation import Installation
from farthing.testing.upstream import Received, Reply, ScriptedUpstream, completion, stream

_REQUESTS = 320
_AT_ONCE = 16


def _unhurried(received: Received) -> Reply:
    """Slow enough that a kill finds requests under way."""
    text = received.body["messages"][-1]["content"]
    if received.body.get("stream"):
        return stream([text, " in", " pieces"], delay=0.01)
    return completion(text, delay=0.03)


async def _whole(client: AsyncOpenAI, question: str) -> str:
    raw = await client.chat.completions.with_raw_response.create(model="fast", messages=[{"role": "user", "content": question}])
    assert raw.parse().choices[0].message.content == question
    return raw.headers["x-request-id"]


async def _streamed(client: AsyncOpenAI, question: str) -> str:
    """A stream that breaks off in the middle is beyond the SDK's retries; its reader asks again."""
    while True:
        try:
            async with client.chat.completions.with_streaming_response.create(
                model="fast", messages=[{"role": "user", "content": question}], stream=True
            ) as raw:
                text = ""
                async for chunk in await raw.parse():
                    text += "".join(choice.delta.content or "" for choice in chunk.choices)
                if text == f"{question} in pieces":
                    return raw.headers["x-request-id"]
        except (openai.APIError, OSError):
            continue
        except Exception as error:  # what httpx raises for a connection that is cut inside a body
            if not type(error).__module__.startswith("httpx"):
                raise


async def test_a_killed_worker_costs_no_answer_and_no_ledger_row(crowd: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", _unhurried)
    key = new_key(crowd, "kill-worker")["key"]
    before = crowd.worker_pids()
    answered: list[str] = []
    killed: list[int] = []
    room = asyncio.Semaphore(_AT_ONCE)

    async with AsyncOpenAI(base_url=crowd.base_url, api_key=key, max_retries=8, timeout=30) as client:

        async def one(number: int) -> None:
            async with room:
                asked = _streamed if number % 4 == 0 else _whole
                answered.append(await asked(client, f"load {number}"))
            if len(answered) in {60, 200}:
                killed.append(crowd.worker_pids()[0])
                os.kill(killed[-1], signal.SIGKILL)

        await asyncio.gather(*(one(number) for number in range(_REQUESTS)))

    assert len(answered) == _REQUESTS
    assert len(before) == 2
    assert len(killed) == 2
    after = both_workers(crowd)
    assert not set(killed) & set(after)
    once_each(crowd, answered)
    add_up(crowd)
    # What a killed worker had answered, or had begun, may be in the ledger without its client knowing; never more than was under way.
    rows = query(crowd, "SELECT count(*) AS n FROM farthing.ledger WHERE tenant = 'kill-worker' AND final")
    assert _REQUESTS <= rows[0]["n"] <= _REQUESTS + 2 * _AT_ONCE
