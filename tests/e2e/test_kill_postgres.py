"""kill -9 of PostgreSQL: requests are answered meanwhile, and the ledger has them afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress

import psycopg
from inside import add_up, eventually, new_key, once_each, query
from openai import AsyncOpenAI

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream

_KEPT_DOWN_S = 2.0
_REQUESTS = 60


async def _keep_down(farthing: Installation, killed: list[int]) -> None:
    """Kill each new life of the server as soon as it is seen."""
    while True:
        with suppress(OSError, ValueError):
            pid = farthing.postmaster_pid()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        await asyncio.sleep(0.02)


def _is_back(farthing: Installation) -> bool:
    try:
        return bool(query(farthing, "SELECT 1 AS back"))
    except psycopg.OperationalError:
        return False


async def test_a_killed_postgres_costs_no_answer_and_no_ledger_row(crowd: Installation, up: ScriptedUpstream) -> None:
    keys = [new_key(crowd, f"kill-postgres-{number}")["key"] for number in range(3)]
    answered: list[str] = []
    sources: list[str] = []
    states: list[str] = []
    killed: list[int] = []

    async def one(client: AsyncOpenAI, number: int) -> None:
        question = {"role": "user", "content": f"without a database {number // 6}"}  # each tenant asks each question twice
        raw = await client.chat.completions.with_raw_response.create(model="fast", messages=[question])  # type: ignore[list-item]
        answered.append(raw.headers["x-request-id"])
        sources.append(raw.headers["x-farthing-source"])

    async def look() -> None:
        status, body = await asyncio.to_thread(crowd.get, "/readyz")
        assert status == 200, body
        states.append(json.loads(body)["status"])

    async with asyncio.TaskGroup() as group:
        clients = [AsyncOpenAI(base_url=crowd.base_url, api_key=key, max_retries=0, timeout=20) for key in keys]
        murder = group.create_task(_keep_down(crowd, killed))
        await asyncio.to_thread(eventually, lambda: killed, "the first kill")
        for number in range(_REQUESTS):
            await one(clients[number % 3], number)
            await look()
            await asyncio.sleep(_KEPT_DOWN_S / _REQUESTS)
        murder.cancel()
        for client in clients:
            await client.close()

    assert len(answered) == _REQUESTS
    assert "degraded" in states
    assert sources.count("model") == sources.count("exact") == _REQUESTS // 2  # the cache goes on from memory
    assert len([one for one in up.of("fast") if "without a database" in str(one.body)]) == _REQUESTS // 2
    eventually(lambda: _is_back(crowd), "PostgreSQL is back", 60)
    once_each(crowd, answered)
    add_up(crowd)
    assert query(crowd, "SELECT count(*) AS n FROM farthing.ledger WHERE tenant LIKE 'kill-postgres-%%' AND final")[0]["n"] == _REQUESTS
