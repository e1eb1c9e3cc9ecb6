"""Conversations over several workers, and while PostgreSQL is away."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import httpx
import psycopg
from inside import alone, both_workers, eventually, new_key, query

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream


def say(farthing: Installation, key: str, text: str, previous: str | None = None) -> httpx.Response:
    """One turn, on a connection of its own."""
    body = {"model": "fast", "input": text, "previous_response_id": previous}
    return httpx.post(f"{farthing.base_url}/responses", json=body, headers={"authorization": f"Bearer {key}"}, timeout=20)


def _two(farthing: Installation) -> tuple[int, int]:
    first, second = both_workers(farthing)
    for pid in (first, second):
        with alone(farthing, pid):
            eventually(lambda: farthing.get("/readyz")[0] == 200, "ready, each")
    return first, second


@contextmanager
def _postgres_down(farthing: Installation) -> Iterator[None]:
    """Each new life of the server is killed as soon as it is seen."""
    enough, dead = threading.Event(), threading.Event()

    def kill() -> None:
        while not enough.wait(0.02):
            with suppress(OSError, ValueError):
                os.kill(farthing.postmaster_pid(), signal.SIGKILL)
                dead.set()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert dead.wait(10)
        yield
    finally:
        enough.set()
        killer.join()


def _answers(farthing: Installation) -> bool:
    try:
        return bool(query(farthing, "SELECT 1 AS back"))
    except psycopg.OperationalError:
        return False


def test_each_turn_is_found_by_the_other_worker_at_once(crowd: Installation, up: ScriptedUpstream) -> None:
    workers = _two(crowd)
    key = new_key(crowd, "talk-workers")["key"]
    previous = None
    for number in range(6):
        with alone(crowd, workers[number % 2]):
            answer = say(crowd, key, f"turn {number} {uuid4()}", previous)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-farthing-stored"] == "database"
        previous = answer.json()["id"]
    assert len(up.requests[-1].body["messages"]) == 11
    headers = {"authorization": f"Bearer {key}"}
    with alone(crowd, workers[0]):
        assert httpx.delete(f"{crowd.base_url}/responses/{previous}", headers=headers).status_code == 200
    with alone(crowd, workers[1]):
        assert httpx.get(f"{crowd.base_url}/responses/{previous}", headers=headers).status_code == 404


def test_without_postgres_a_conversation_goes_on_where_it_is_and_everywhere_afterwards(crowd: Installation) -> None:
    first, second = _two(crowd)
    key = new_key(crowd, "talk-alone")["key"]
    for pid in (first, second):
        with alone(crowd, pid):
            before = say(crowd, key, f"before {uuid4()}").json()["id"]
    with _postgres_down(crowd):
        with alone(crowd, first):
            eventually(lambda: say(crowd, key, f"try {uuid4()}").headers["x-farthing-stored"] == "memory", "a turn kept in memory")
            one = say(crowd, key, f"meanwhile {uuid4()}")
            two = say(crowd, key, "and on", one.json()["id"])
            assert (one.status_code, two.status_code, two.headers["x-farthing-stored"]) == (200, 200, "memory")
            assert say(crowd, key, "and back", before).status_code == 503
        with alone(crowd, second):
            away = say(crowd, key, "here too?", two.json()["id"])
            assert (away.status_code, away.json()["error"]["code"], away.headers["x-should-retry"]) == (503, "unavailable", "true")
            assert "retry-after" in away.headers
    eventually(lambda: _answers(crowd), "PostgreSQL is back", 60)
    with alone(crowd, first):
        stored = "SELECT count(*) AS n FROM farthing.responses WHERE id = %s::uuid"
        eventually(lambda: query(crowd, stored, two.json()["id"].removeprefix("resp_"))[0]["n"], "the turn in PostgreSQL", 30)
    with alone(crowd, second):
        eventually(lambda: say(crowd, key, "now?", two.json()["id"]).status_code == 200, "the conversation on the other worker", 30)
