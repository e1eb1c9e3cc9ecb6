"""A cascade and a hedge through the real server: a cheap model that is often wrong, a strong one that is not, and official clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from conftest import Lasting
from inside import NO_TLS, add_up, eventually, new_key, query, settled
from openai import AsyncOpenAI

from farthing.testing import malformed
from farthing.testing.installation import Installation
from farthing.testing.upstream import Received, Reply, ScriptedUpstream, completion, stream, usage_object

CHEAP, STRONG = 2, 20
"""Micro-dollars for a token, in or out."""
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
GOOD = '{"answer": 42}'
BAD = ['{"answer": 42', "Sure! Here is your JSON: 42", '{"answer": "forty-two"}']


class Sometimes:
    """Answers with good JSON, but for every third to fourth request, by turns in one of the ways in which models are wrong."""

    def __init__(self, bad: set[int]) -> None:
        self.asked = 0
        self._bad = bad
        self._lock = threading.Lock()

    def __call__(self, received: Received) -> Reply:
        with self._lock:
            number, self.asked = self.asked, self.asked + 1
        return _says(received, BAD[number % len(BAD)] if number % 10 in self._bad else GOOD)


def _says(received: Received, text: str) -> Reply:
    counts = usage_object(20, 10)
    if not received.body.get("stream"):
        return completion(text, usage=counts)
    return stream([text[at : at + 3] for at in range(0, len(text), 3)], counts=counts)


@pytest.fixture(scope="module")
def farthing(folders: Path, upstream: ScriptedUpstream, lasting: Lasting) -> Installation:
    models = {
        name: {"provider": "up", "upstream_model": name, "price": {"input_usd_per_1m": price, "output_usd_per_1m": price}}
        for name, price in (("cheap", CHEAP), ("strong", STRONG))
    }
    hedged = {
        "deployments": [{"provider": "up", "upstream_model": "slow"}, {"provider": "up", "upstream_model": "quick", "weight": 0}],
        "hedge": {"after_s": 0.1, "share": 1},
        "price": {"input_usd_per_1m": CHEAP, "output_usd_per_1m": CHEAP},
    }
    cascade = {"models": ["cheap", "strong"], "checks": [{"kind": "json_schema"}]}
    settings = {
        "local": {"enabled": False},
        "cache": {"semantic": {"enabled": False}},
        "providers": {"up": {"kind": "openai_compatible", "base_url": upstream.base_url}},
        "models": {**models, "hedged": hedged},
        "routing": {"routers": {"auto": {"models": ["cheap", "strong"], "otherwise": "cascade", "cascade": cascade}}},
    }
    return lasting(Installation(folders / "cascade", settings))


@pytest.fixture
async def client(farthing: Installation) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=farthing.base_url, api_key=new_key(farthing, f"t-{uuid4()}")["key"], max_retries=0) as made:
        yield made


def _question() -> list[Any]:
    return [{"role": "user", "content": f"What is the answer? {uuid4()}"}]


async def _ask(client: AsyncOpenAI, *, streams: bool) -> tuple[str, dict[str, str]]:
    """The text and the headers."""
    if not streams:
        raw = await client.chat.completions.with_raw_response.create(model="auto", messages=_question(), response_format=FORMAT)
        return raw.parse().choices[0].message.content or "", dict(raw.headers)
    async with client.chat.completions.with_streaming_response.create(
        model="auto", messages=_question(), response_format=FORMAT, stream=True
    ) as answer:
        text = "".join([choice.delta.content or "" async for chunk in await answer.parse() for choice in chunk.choices])
        return text, dict(answer.headers)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_every_client_gets_valid_json_though_the_cheap_model_often_sends_none(
    farthing: Installation,
    client: AsyncOpenAI,
    up: ScriptedUpstream,
    streams: bool,  # noqa: FBT001
) -> None:
    cheap = Sometimes({1, 4, 8})
    up.script("cheap", cheap)
    up.script("strong", lambda received: _says(received, GOOD))
    room = asyncio.Semaphore(8)

    async def one() -> tuple[str, dict[str, str]]:
        async with room:
            return await _ask(client, streams=streams)

    answers = await asyncio.gather(*(one() for _ in range(60)))
    assert all(json.loads(text) == {"answer": 42} for text, _ in answers)
    assert {headers["x-farthing-checks"] for _, headers in answers} == {"passed"}
    used = Counter(headers["x-farthing-model"] for _, headers in answers)
    assert used == {"cheap": 42, "strong": 18}
    rows = settled(farthing, [headers["x-request-id"] for _, headers in answers])
    for _, headers in answers:
        told = [(one["model_used"], one["checks"], one["final"], one["status"], one["error"]) for one in rows[headers["x-request-id"]]]
        saved = sum(one["saved_microusd"] for one in rows[headers["x-request-id"]])
        spent = sum(one["cost_microusd"] for one in rows[headers["x-request-id"]])
        assert saved == 30 * STRONG - spent, "the baseline less all that was spent"
        if headers["x-farthing-model"] == "cheap":
            assert told == [("cheap", "passed", True, 200, None)]
        else:
            assert told == [("cheap", "failed:json_schema", False, 200, None), ("strong", "passed", True, 200, None)]
            assert (headers["x-farthing-route"], spent) == ("cascade", 30 * (CHEAP + STRONG))
    add_up(farthing)


async def test_nothing_passes_so_that_the_strong_model_s_answer_is_given_and_marked(
    farthing: Installation, client: AsyncOpenAI, up: ScriptedUpstream
) -> None:
    up.script("cheap", lambda received: _says(received, BAD[0]))
    up.script("strong", lambda received: _says(received, BAD[1]))
    for streams in (False, True):
        text, headers = await _ask(client, streams=streams)
        assert (text, headers["x-farthing-model"], headers["x-farthing-checks"]) == (BAD[1], "strong", "failed:json_schema")
    body = {"model": "auto", "messages": _question(), "response_format": FORMAT, "stream": True}
    async with httpx.AsyncClient(verify=NO_TLS, timeout=20) as plain:
        told = (await plain.post(f"{farthing.base_url}/chat/completions", json=body, headers=_bearer(client))).text
    assert told.endswith("\n\ndata: [DONE]\n\n")
    assert ": farthing cost-usd=0.000660 saved-usd=-0.000060 checks=failed:json_schema\n\n" in told
    _counted(farthing, 'farthing_checked_total{farthing_checks="failed"}')


async def test_an_answer_that_did_not_pass_is_not_kept(client: AsyncOpenAI, up: ScriptedUpstream) -> None:
    up.script("cheap", lambda received: _says(received, BAD[0]))
    up.script("strong", lambda received: _says(received, BAD[1]))
    same = _question()
    for _ in range(2):
        raw = await client.chat.completions.with_raw_response.create(model="auto", messages=same, response_format=FORMAT)
        assert raw.headers["x-farthing-source"] == "model"
    up.script("strong", lambda received: _says(received, GOOD))
    for source in ("model", "exact"):
        raw = await client.chat.completions.with_raw_response.create(model="auto", messages=same, response_format=FORMAT)
        assert (raw.headers["x-farthing-source"], raw.parse().choices[0].message.content) == (source, GOOD)


async def test_a_stream_that_breaks_at_the_gate_is_not_seen(client: AsyncOpenAI, up: ScriptedUpstream) -> None:
    up.script("cheap", malformed.close_mid_body())
    up.script("strong", lambda received: _says(received, GOOD))
    text, headers = await _ask(client, streams=True)
    assert (json.loads(text), headers["x-farthing-model"]) == ({"answer": 42}, "strong")


async def test_a_client_that_leaves_at_the_gate_ends_the_upstream_s_work(client: AsyncOpenAI, up: ScriptedUpstream) -> None:
    up.script("cheap", malformed.endless_stream('{"answer": '))
    received, gone = up.received, up.disconnects
    asking = asyncio.ensure_future(_ask(client, streams=True))
    await up.wait_for(lambda up: up.received == received + 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await up.wait_for(lambda up: up.disconnects == gone + 1)


def test_a_worker_killed_between_two_models_loses_only_the_call_under_way(farthing: Installation, up: ScriptedUpstream) -> None:
    up.script("cheap", lambda received: _says(received, BAD[0]))
    up.script("strong", malformed.stall_before_headers())
    tenant = f"killed-{uuid4()}"
    key = new_key(farthing, tenant)["key"]
    body = {"model": "auto", "messages": _question(), "response_format": FORMAT}
    before = len(up.of("strong"))
    with ThreadPoolExecutor(1) as pool:
        bearer = {"authorization": f"Bearer {key}"}
        asked = pool.submit(httpx.post, f"{farthing.base_url}/chat/completions", json=body, headers=bearer, timeout=30, verify=NO_TLS)
        up.wait_until(lambda up: len(up.of("strong")) == before + 1)
        (worker,) = farthing.worker_pids()
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            asked.result()
    rows = eventually(lambda: query(farthing, "SELECT * FROM farthing.ledger WHERE tenant = %s", tenant), "the row of the first model")
    assert [(row["model_used"], row["checks"], row["final"], row["cost_microusd"]) for row in rows] == [
        ("cheap", "failed:json_schema", False, 30 * CHEAP)
    ]
    eventually(lambda: farthing.get("/readyz")[0] == 200, "another worker")
    add_up(farthing)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_a_slow_deployment_is_overtaken_and_hung_up_on(
    farthing: Installation,
    client: AsyncOpenAI,
    up: ScriptedUpstream,
    streams: bool,  # noqa: FBT001
) -> None:
    up.script("slow", malformed.stall_before_headers())
    up.script("quick", lambda received: _says(received, "quick"))
    gone = up.disconnects
    if streams:
        async with client.chat.completions.with_streaming_response.create(model="hedged", messages=_question(), stream=True) as answer:
            text = "".join([choice.delta.content or "" async for chunk in await answer.parse() for choice in chunk.choices])
            headers = answer.headers
    else:
        raw = await client.chat.completions.with_raw_response.create(model="hedged", messages=_question())
        text, headers = raw.parse().choices[0].message.content or "", raw.headers
    assert (text, headers["x-farthing-route"]) == ("quick", "hedge")
    await up.wait_for(lambda up: up.disconnects == gone + 1)
    (rows,) = settled(farthing, [headers["x-request-id"]]).values()
    assert [(one["upstream_model"], one["error"], one["status"], one["final"]) for one in rows] == [
        ("slow", "hedge_lost", 499, False),
        ("quick", None, 200, True),
    ]
    assert rows[0]["saved_microusd"] == -rows[0]["cost_microusd"] < 0
    _counted(farthing, "farthing_hedged_total", 'error_type="hedge_lost"')


def _counted(farthing: Installation, *samples: str) -> None:
    """That these are in the metrics, and not 0."""

    def look() -> bool:
        lines = farthing.get("/metrics", key=farthing.key)[1].decode().splitlines()
        return all(any(sample in line and float(line.rpartition(" ")[2]) > 0 for line in lines if line[:1] != "#") for sample in samples)

    eventually(look, str(samples))


def _bearer(client: AsyncOpenAI) -> dict[str, str]:
    return {"authorization": f"Bearer {client.api_key}"}
