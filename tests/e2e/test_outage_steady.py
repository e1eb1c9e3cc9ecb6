"""PostgreSQL goes away while Farthing runs, hangs, comes back, or is heard through a pooler that swallows notifications."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from conftest import scripted
from inside import add_up, alone, ask, both_workers, eventually, new_key, once_each, query
from postgres_proxy import Outpost, PostgresProxy, database_behind

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, completion, usage_object
from farthing.types import new_id


@pytest.fixture(scope="module")
def proxied(gateway: Installation) -> Iterator[tuple[PostgresProxy, str]]:
    with database_behind(gateway, "outage-steady") as found:
        yield found


@pytest.fixture(scope="module")
def outpost(folders: Path, upstream: ScriptedUpstream, gateway: Installation, proxied: tuple[PostgresProxy, str]) -> Iterator[Outpost]:
    """Two workers that look after their database often."""
    settings = scripted(
        upstream, keys={"refresh_s": 0.5}, database={"probe_interval_s": 0.2}, ledger={"flush_interval_s": 0.05, "fsync": "batch"}
    )
    with Outpost(folders / "outage-steady", settings, gateway, proxied[1], "outage-steady", workers=2) as running:
        yield running


@pytest.fixture
def proxy(proxied: tuple[PostgresProxy, str], outpost: Outpost) -> Iterator[PostgresProxy]:
    """Afterwards it is back, and both workers know it."""
    yield proxied[0]
    proxied[0].back()
    eventually(lambda: all(state(outpost) == "ready" for _ in range(10)), "ready again", 30)


def state(farthing: Installation) -> str:
    status, body = farthing.get("/readyz")
    assert status == HTTPStatus.OK, body
    return str(json.loads(body)["status"])


def degraded(farthing: Installation) -> None:
    """Wait until an idle worker has found out."""
    eventually(lambda: all(state(farthing) == "degraded" for _ in range(4)), "degraded, though nobody asks for anything")


def known(farthing: Installation, tenant: str) -> str:
    """A fresh key that is in the snapshot and known to both workers."""
    key = str(new_key(farthing, tenant)["key"])
    eventually(lambda: f'"tenant":"{tenant}"'.encode() in snapshot(farthing).read_bytes(), "the key in the snapshot")
    eventually(lambda: [ask(farthing, key, "before").status_code for _ in range(4)] == [200] * 4, "the key, on both")
    return key


def test_requests_go_on_without_it_and_all_are_in_the_ledger_afterwards(outpost: Outpost, proxy: PostgresProxy) -> None:
    key = known(outpost, "steady")
    proxy.away()
    degraded(outpost)
    answers = [ask(outpost, key, f"without {number % 20}", stream=number % 7 == 0) for number in range(40)]
    refused = ask(outpost, "fk-" + "x" * 40, "who am I")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    # Killed meanwhile, the workers are replaced by others that go by the snapshot, and finish what those have left.
    before = both_workers(outpost)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: outpost.get("/readyz")[0] == 200, "ready without the database")
    answers += [ask(outpost, key, f"after the kill {number}") for number in range(10)]
    assert state(outpost) == "degraded"
    assert [answer.status_code for answer in answers] == [200] * 50
    proxy.back()
    once_each(outpost, [answer.headers["x-request-id"] for answer in answers])
    add_up(outpost)


def test_a_conversation_goes_on_with_what_its_client_sends_and_is_whole_afterwards(outpost: Outpost, proxy: PostgresProxy) -> None:
    key = known(outpost, "talking")
    asked = {"user": "ann", "conversation_id": "c1", "memory": "facts", "cache": "off"}
    assert ask(outpost, key, "one", farthing=asked).headers["x-farthing-memory"] == "facts=0;windows=0;turns=0"
    proxy.away()
    degraded(outpost)
    without = ask(outpost, key, "two", farthing=asked)
    assert (without.status_code, without.headers["x-farthing-memory"]) == (200, "facts=0;windows=0;turns=0;away=conversation,facts")
    proxy.back()
    turns = "SELECT number FROM farthing.turns WHERE tenant = 'talking' ORDER BY number"
    eventually(lambda: [row["number"] for row in query(outpost, turns)] == [1, 2, 3, 4], "both turns with their answers")
    assert ask(outpost, key, "three", farthing=asked).headers["x-farthing-memory"] == "facts=0;windows=0;turns=4"


def test_a_server_that_hangs_holds_nobody_up(outpost: Outpost, proxy: PostgresProxy) -> None:
    key = known(outpost, "hanging")
    proxy.hang()
    answers = [ask(outpost, key, f"hanging {number}") for number in range(20)]
    assert [answer.status_code for answer in answers] == [200] * 20
    degraded(outpost)
    proxy.away()  # a frozen server's connections end with it
    proxy.back()
    once_each(outpost, [answer.headers["x-request-id"] for answer in answers])
    add_up(outpost)


def test_a_hard_budget_lasts_for_the_last_grants_and_then_it_is_said_why(
    outpost: Outpost, proxy: PostgresProxy, up: ScriptedUpstream
) -> None:
    """An answer costs 60 micro-dollars; a worker holds an eighth of what is left at most."""
    up.script("fast", completion("hello", usage=usage_object(20, 20)))
    made = new_key(outpost, "grants", budget_usd="0.004/day")
    for pid in both_workers(outpost):
        with alone(outpost, pid):  # no question twice: a cached answer takes no lease
            eventually(lambda: ask(outpost, made["key"], f"warm {new_id()}", max_tokens=20).status_code == 200, "a lease in each")
    proxy.away()
    degraded(outpost)
    answers = [ask(outpost, made["key"], "on grants 0", max_tokens=20)]
    while answers[-1].status_code == 200 and len(answers) < 121:  # with so many, all of the budget would be spent
        answers.append(ask(outpost, made["key"], f"on grants {len(answers)}", max_tokens=20))
    assert answers[0].status_code == 200
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {(answer.status_code, answer.json()["error"]["code"], answer.headers["x-should-retry"]) for answer in refused} == {
        (503, "budget_unverified", "true")
    }
    again = "on grants 0"  # kept by the worker that has answered it; the other one cannot look it up now
    eventually(lambda: ask(outpost, made["key"], again, max_tokens=20).headers.get("x-farthing-source") == "exact", "the cached answer")
    proxy.back()
    eventually(lambda: ask(outpost, made["key"], f"again {new_id()}", max_tokens=20).status_code == 200, "new grants")
    once_each(outpost, [answer.headers["x-request-id"] for answer in answers if answer.status_code == 200])


def snapshot(farthing: Installation) -> Path:
    return farthing.data / "snapshot" / "keys.jsonl"


def test_the_clock_brings_what_a_pooler_swallows(outpost: Outpost, proxy: PostgresProxy) -> None:
    proxy.deaf = True
    first, second = both_workers(outpost)
    made = new_key(outpost, "deaf")
    questions = iter([f"told to nobody {number}" for number in range(60)])
    with alone(outpost, first):
        eventually(lambda: ask(outpost, made["key"], "told to nobody 0").status_code == 200, "the key, looked up")
        for number in range(1, 60):
            answer = ask(outpost, made["key"], f"told to nobody {number}")
            assert answer.headers.get("x-farthing-source") == "model", answer.text
        stored = "SELECT count(*) AS n FROM farthing.answers WHERE tenant = 'deaf'"
        eventually(lambda: query(outpost, stored)[0]["n"] == 60, "the answers in PostgreSQL")
    with alone(outpost, second):  # each look asks something new: what it has asked itself it knows anyway
        look = lambda: ask(outpost, made["key"], next(questions)).headers["x-farthing-source"] == "exact"  # noqa: E731
        eventually(look, "an answer of the other worker")
    with alone(outpost, first):
        headers = {"authorization": f"Bearer {outpost.key}"}
        assert httpx.delete(f"{outpost.url}/admin/v1/keys/{made['id']}", headers=headers).status_code == 200
    with alone(outpost, second):
        eventually(lambda: ask(outpost, made["key"], "told to nobody 1").status_code == 401, "the revocation")
    proxy.deaf = False


def test_the_log_does_not_fill_up(outpost: Outpost) -> None:
    """After all outages above: one line a minute of each worker's pool at most, and no traceback."""
    said = outpost.log.read_text(encoding="utf-8")
    assert "Traceback" not in said
    assert said.count('"logger":"psycopg.pool"') <= 4 * 3
    assert "the database is away" in said
    assert "the database is back" in said
