"""`kill -9` of the process that handles events, after what it did shows and before it could say so: nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from conftest import scripted
from inside import NO_TLS, Row, eventually, query

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, completion

_OSLO = {"facts": [{"key": "location", "value": "Oslo", "about": "user", "from": [1]}]}


@pytest.fixture(scope="module")
def house(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    settings = scripted(upstream, events={"lease_s": 1}, memory={"extractor": {"model": "strong", "linger_s": 0.1}})
    with Installation(folders / "event-handler", settings, background=1) as running:
        yield running


def _send(house: Installation, *events: dict[str, Any]) -> None:
    batch = [{"specversion": "1.0", "source": "/app", "user": "ann", **one} for one in events]
    headers = {"authorization": f"Bearer {house.key}", "content-type": "application/cloudevents-batch+json"}
    answer = httpx.post(f"{house.base_url}/events", content=json.dumps(batch), headers=headers, timeout=20, verify=NO_TLS)
    assert answer.status_code == 202, answer.text
    assert answer.json()["accepted"] == len(events)


def _facts(house: Installation) -> list[Row]:
    return query(house, "SELECT key, value FROM farthing.facts ORDER BY key")


def _waiting(house: Installation) -> list[str]:
    return [row["handler"] for row in query(house, "SELECT DISTINCT handler FROM farthing.event_deliveries ORDER BY 1")]


def test_what_a_killed_process_had_done_but_not_said_is_done_once(house: Installation, upstream: ScriptedUpstream) -> None:
    upstream.script("strong", completion(json.dumps(_OSLO)))
    before = len(upstream.of("strong"))
    (pid,) = eventually(house.background_pids, "a background process")
    os.kill(pid, signal.SIGSTOP)
    errors = [{"id": str(uuid4()), "type": "error.500", "data": {"page": "/pay"}} for _ in range(3)]
    note = {"id": str(uuid4()), "type": "note.written", "data": {"text": "I live in Oslo"}}
    _send(house, *errors, note)
    with psycopg.connect(house.database_url) as holding:
        # Who is through with a delivery deletes its row: for that he has to wait now.
        held = holding.execute("SELECT handler FROM farthing.event_deliveries FOR UPDATE").fetchall()
        assert {handler for (handler,) in held} == {"memory.extract", "memory.observe"}
        os.kill(pid, signal.SIGCONT)
        done = eventually(lambda: facts if len(facts := _facts(house)) == 2 else None, "what both handlers do")
        os.kill(pid, signal.SIGKILL)
        assert _waiting(house) == ["memory.extract", "memory.observe"]
    eventually(lambda: not _waiting(house), "delivered again to the process that took its place")
    assert house.background_pids() != [pid]
    assert [row["key"] for row in done] == ["frustrated_by", "location"]
    assert _facts(house) == done
    assert len(upstream.of("strong")) == before + 1, "what was read once is not read again"
    assert query(house, "SELECT 1 FROM farthing.event_dead_letters") == []
