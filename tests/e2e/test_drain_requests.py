"""SIGTERM with requests under way: those that can finish do, the rest ends with an error that says so, and all are in the ledger."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import scripted
from inside import Row, eventually, new_key, query
from postgres_proxy import Outpost, database_behind

from farthing.testing.installation import Installation
from farthing.testing.upstream import Received, Reply, ScriptedUpstream, completion, stream


@pytest.fixture
def outpost(folders: Path, upstream: ScriptedUpstream, gateway: Installation) -> Iterator[Outpost]:
    """Its ledger outlives it: the database is another installation's."""
    with database_behind(gateway, "drain") as (_, url):
        settings = scripted(upstream, server={"drain_s": 2.5})
        with Outpost(folders / "drain", settings, gateway, url, "drain") as running:
            yield running


def _answers(received: Received) -> Reply:
    """How long each takes is in the question."""
    text = received.body["messages"][-1]["content"]
    if text.startswith("short"):
        return stream(["one ", "two ", "three"], delay=0.5)
    if received.body.get("stream"):
        return stream([f"{number} " for number in range(1000)], delay=0.05)
    return completion("never", delay=60)


async def test_what_can_finish_does_and_the_rest_ends_with_an_error(outpost: Outpost, up: ScriptedUpstream) -> None:
    up.script("fast", _answers)
    key = new_key(outpost, "drain")["key"]
    headers = {"authorization": f"Bearer {key}"}
    url = f"{outpost.base_url}/chat/completions"
    begun: list[str] = []

    async def streamed(client: httpx.AsyncClient, text: str) -> list[str]:
        body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": text}]}
        async with client.stream("POST", url, json=body, headers=headers) as answer:
            assert answer.status_code == 200
            begun.append(text)
            return [line async for line in answer.aiter_lines() if line]

    async with httpx.AsyncClient(timeout=30) as client:
        body = {"model": "fast", "messages": [{"role": "user", "content": "whole"}]}
        short = asyncio.create_task(streamed(client, "short"))
        long = asyncio.create_task(streamed(client, "long"))
        whole = asyncio.create_task(client.post(url, json=body, headers=headers))
        idle = await client.get(f"{outpost.url}/healthz")
        assert "connection" not in idle.headers
        await asyncio.to_thread(eventually, lambda: len(begun) == 2, "two streams")
        await asyncio.to_thread(eventually, lambda: len(up.of("fast")) >= 3, "the third request")
        os.kill(outpost.pid, signal.SIGTERM)
        while (polite := await client.get(f"{outpost.url}/healthz")).headers.get("connection") is None:  # the idle one, until it is told
            assert polite.status_code == 200
        assert (polite.status_code, polite.headers["connection"]) == (200, "close")
        await asyncio.sleep(0.2)
        async with httpx.AsyncClient() as late:
            with pytest.raises(httpx.ConnectError):
                await late.get(f"{outpost.url}/healthz")
        lines = await short
        assert lines[-1] == "data: [DONE]"
        cut = await long
        error = json.loads(cut[-1].removeprefix("data: "))["error"]
        assert (error["code"], error["message"]) == ("unavailable", "Farthing is being stopped before this answer was complete.")
        assert json.loads(cut[-2].removeprefix("data: "))["choices"][0]["delta"]["content"]
        refused = await whole
        assert (refused.status_code, refused.headers["x-should-retry"], refused.headers["connection"]) == (503, "true", "close")
    assert await asyncio.to_thread(outpost.stop) == 0
    rows = query(outpost, "SELECT status, error, stream, tokens_out > 0 AS spent, final FROM farthing.ledger WHERE tenant = 'drain'")
    assert sorted(map(_told, rows)) == [(200, "", True), (503, "unavailable", False), (503, "unavailable", True)]
    assert all(row["final"] for row in rows)
    assert [row["spent"] for row in rows if row["stream"]] == [True, True]
    assert "Traceback" not in outpost.log.read_text(encoding="utf-8")


def _told(row: Row) -> tuple[int, str, bool]:
    return row["status"], row["error"] or "", row["stream"]
