"""What is remembered of a user is the user's: seen, changed, and forgotten everywhere; and other people's is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from conftest import scripted
from inside import NO_TLS, Row, alone, ask, both_workers, eventually, new_key, query
from openai import OpenAI

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream

ANN = "ann/\u00e9 <a@b.c>"
_STAYS = frozenset({"ledger", "keys", "budgets", "erasures"})
"""Tables in which a user's id may stay: see docs/memory.md."""


@pytest.fixture(scope="module")
def house(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    """Two workers with all caches, and without a key for what is at rest, so that everything that stays is in clear."""
    known = {"greet": {"model": "fast", "user": "Greet {user}, of whom we know {context.known}", "context": {"known": {"facts": []}}}}
    settings = scripted(
        upstream,
        cache={"semantic": {"enabled": True}},
        ledger={"flush_interval_s": 0.02},
        keys={"refresh_s": 0.5},
        memory={"default": "facts+windows"},
        foresight={"actions": known},
    )
    with Installation(folders / "rights", settings, workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def acme(house: Installation) -> str:
    """A key of a tenant."""
    return str(new_key(house, "acme")["key"])


def memory(
    farthing: Installation, key: str, user: str, method: str = "GET", body: object | None = None, *, status: int = 200, **query: str
) -> Any:
    answer = httpx.request(
        method,
        f"{farthing.url}/v1/memory/{quote(user, safe='')}",
        params=query,
        json=body,
        headers={"authorization": f"Bearer {key}"},
        timeout=20,
        verify=NO_TLS,
    )
    assert answer.status_code == status, answer.text
    return answer.json()


def learn(farthing: Installation, key: str, user: str, **facts: object) -> Any:
    return memory(farthing, key, user, "PATCH", {"learn": [{"key": name, "value": value} for name, value in facts.items()]})


def say_everything(house: Installation, key: str, canary: str) -> tuple[list[str], str]:
    """A text goes through all doors that keep anything of a user. Returns what was asked, and the id of a response."""
    hers: dict[str, Any] = {"farthing": {"user": ANN}}
    with httpx.Client(base_url=house.url, headers={"authorization": f"Bearer {key}"}, timeout=20, verify=NO_TLS) as client:
        error = {"specversion": "1.0", "source": "app", "type": "error.500", "user": ANN, "data": {"page": f"/{canary}", "note": canary}}
        for number in range(3):
            assert client.post("/v1/events", json={**error, "id": f"{canary}-{number}"}).status_code == 202
        eventually(lambda: memory(house, key, ANN)["facts"], "a fact that was read out of events")
        for city in ("Oslo", "Bergen"):
            learn(house, key, ANN, city=f"{canary} {city}", likes=canary)
        questions = [f"How does the {canary} {word} machine work in detail?" for word in ("washing", "knitting", "time")]
        for text in questions:
            asked = ask(house, key, text, **hers)
            assert (asked.status_code, asked.headers["x-farthing-source"]) == (200, "model")
        talk = {"user": ANN, "conversation_id": f"talk {canary}"}
        for text in (f"My {canary} name is Ann", f"and what is my {canary} name?"):
            assert ask(house, key, text, farthing=talk).status_code == 200
        opinion = {"request_id": asked.headers["x-farthing-request-id"], "score": 0, "correction": f"it is {canary}", "reason": canary}
        eventually(lambda: client.post("/v1/feedback", json=opinion).status_code < 300, "feedback on a request in the ledger")
        assert canary in client.get("/edge/greet", params={"user": ANN}).text
        with OpenAI(base_url=house.base_url, api_key=key, max_retries=0) as sdk:
            turn = sdk.responses.create(model="fast", input=f"my {canary} turn", extra_body=hers)
    return questions, turn.id


def tables(farthing: Installation) -> list[str]:
    rows = query(farthing, "SELECT relname FROM pg_class WHERE relnamespace = 'farthing'::regnamespace AND relkind = 'r'")
    return [row["relname"] for row in rows if not row["relname"].startswith("_yoyo")]


def traces(farthing: Installation, canary: str) -> set[str]:
    """The tables that hold a text in clear, and the files outside of the database that do."""
    found = set()
    with psycopg.connect(farthing.database_url) as connection:
        connection.execute("SET ROLE farthing_service")
        for table in tables(farthing):
            rows = connection.execute(b"SELECT t::text FROM farthing.%s t" % table.encode()).fetchall()
            if any(canary in row or canary.encode().hex() in row for (row,) in rows):
                found.add(table)
    files = [path for path in farthing.folder.rglob("*") if path.is_file() and "postgres" not in path.parts]
    return found | {str(path.relative_to(farthing.folder)) for path in files if canary.encode() in path.read_bytes()}


def rows_of(farthing: Installation, user: str) -> dict[str, int]:
    """In which tables there are rows of a user, and how many."""
    columns = (
        "SELECT relname FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid "
        "WHERE relnamespace = 'farthing'::regnamespace AND relkind = 'r' AND attname = 'user_id'"
    )
    found: dict[str, int] = {}
    for row in query(farthing, columns):
        counted: list[Row] = query(farthing, f"SELECT count(*) AS n FROM farthing.{row['relname']} WHERE user_id = %s", user)  # noqa: S608 - of the catalogue
        found |= {row["relname"]: counted[0]["n"]} if counted[0]["n"] else {}
    return found


def test_what_is_remembered_is_shown_with_why_and_can_be_changed(house: Installation, acme: str) -> None:
    assert memory(house, acme, "zoe") == {"object": "farthing.memory", "tenant": "acme", "user": "zoe", "version": 0, "facts": []}
    first = learn(house, acme, "zoe", city="Oslo", age=7)
    assert {one["key"]: one["value"] for one in first["facts"]} == {"city": "Oslo", "age": 7}
    assert {one["by"].partition(":")[0] for one in first["facts"]} == {"person"}
    second = learn(house, acme, "zoe", city="Bergen")
    assert second["version"] > first["version"]
    age = next(one for one in second["facts"] if one["key"] == "age")
    nobody = "00000000-0000-7000-8000-000000000000"
    third = memory(house, acme, "zoe", "PATCH", {"retract": [age["id"], nobody]})
    assert (third["retracted"], third["unknown"]) == (1, [nobody])
    assert [one["value"] for one in third["facts"]] == ["Bergen"]
    history = memory(house, acme, "zoe", history="true")["history"]
    assert [one["key"] for one in history] == ["city", "city", "age"] or [one["key"] for one in history] == ["city", "age", "city"]
    ended = {one["value"]: one["ended_by"] for one in history}
    assert ended["Bergen"] is None
    assert ended["Oslo"] == f"fact:{history[0]['id']}"
    assert ended[7].startswith("person:")
    assert [one["value"] for one in memory(house, acme, "zoe", history="true", about="age")["history"]] == [7]


def test_the_command_shows_what_holds_and_what_did(house: Installation, acme: str) -> None:
    learn(house, acme, "cli/user", city="Oslo")
    learn(house, acme, "cli/user", city="Bergen")
    shown = house.cli("memory", "show", "cli/user", "--tenant", "acme").stdout
    assert "Bergen" in shown
    assert "Oslo" not in shown
    history = house.cli("memory", "history", "cli/user", "--tenant", "acme", "--about", "city").stdout
    assert "Oslo" in history
    assert "fact:" in history


def test_a_key_sees_its_own_tenant_and_a_users_key_its_own_user(house: Installation, acme: str) -> None:
    learn(house, acme, "amy", city="Oslo")
    rival = str(new_key(house, "rival")["key"])
    amys, bobs = (str(new_key(house, "acme", user=user)["key"]) for user in ("amy", "bob"))
    assert memory(house, rival, "amy")["facts"] == []
    assert memory(house, rival, "amy", "DELETE")["deleted"]["facts"] == 0
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        assert "one user" in memory(house, bobs, "amy", method, body, status=403)["error"]["message"]
        assert "admin" in memory(house, rival, "amy", method, body, status=403, tenant="acme")["error"]["message"]
    assert memory(house, amys, "amy")["facts"][0]["value"] == "Oslo"
    assert memory(house, house.key, "amy", tenant="acme")["facts"][0]["value"] == "Oslo"
    assert memory(house, amys, "amy", "DELETE")["deleted"]["facts"] == 1


@pytest.mark.parametrize(
    ("method", "query", "body", "said"),
    [
        ("PATCH", {}, {"learn": [{"key": "City", "value": 1}]}, "lower-case"),
        ("PATCH", {}, {"learn": [{"key": "a", "value": "x" * 2000}]}, "1024 bytes"),
        ("PATCH", {}, {"learn": [{"key": "a"}]}, "value"),
        ("PATCH", {}, {"learn": [{"key": "a", "value": 1, "user": "bob"}]}, "user"),
        ("PATCH", {}, {"learn": [{"key": "a", "value": 1, "valid_from": "2026-01-01T00:00:00"}]}, "valid_from"),
        ("PATCH", {}, {"learn": [{"key": "a", "value": 1}] * 201}, "200"),
        ("PATCH", {}, {"retract": ["x"]}, "retract"),
        ("PATCH", {}, [], "object"),
        ("GET", {"history": "perhaps"}, None, "true or false"),
        ("GET", {"limit": "0"}, None, "limit"),
        ("GET", {"page": "2"}, None, "page"),
        ("DELETE", {"sure": "yes"}, None, "sure"),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(
    house: Installation, acme: str, method: str, query: dict[str, str], body: object, said: str
) -> None:
    assert said in memory(house, acme, "eve", method, body, status=400, **query)["error"]["message"]
    assert memory(house, acme, "eve")["version"] == 0


def test_what_is_read_at_this_moment_does_not_come_back(house: Installation, acme: str) -> None:
    """Events of hers are on their way to the rules when she is forgotten."""
    error = {"specversion": "1.0", "source": "app", "type": "error.500", "user": "hasty", "data": {"page": "/dashboard"}}
    batch = [{**error, "id": f"hasty-{number}", "data": {"page": f"/page{number // 3}"}} for number in range(60)]
    headers = {"authorization": f"Bearer {acme}", "content-type": "application/cloudevents-batch+json"}
    assert httpx.post(f"{house.url}/v1/events", content=json.dumps(batch), headers=headers, timeout=20, verify=NO_TLS).status_code == 202
    assert memory(house, acme, "hasty", "DELETE")["complete"]
    eventually(lambda: not query(house, "SELECT 1 FROM farthing.event_deliveries WHERE tenant = 'acme'"), "the end of all deliveries")
    assert memory(house, acme, "hasty", history="true")["history"] == []
    assert rows_of(house, "hasty").keys() <= _STAYS


def test_a_user_is_forgotten_everywhere(house: Installation, acme: str) -> None:
    """A text of hers goes through all that keeps anything. Then it is nowhere: in no table, in no file, the database's files included."""
    canary = "zanzibarian-canaries"  # in words: what looks like a secret is not learnt
    questions, turn = say_everything(house, acme, canary)
    in_clear = {"answers", "facts", "profiles", "events", "edge_answers", "memory_sightings"}
    eventually(lambda: traces(house, canary) >= in_clear, f"what was said, in {in_clear}")
    sealed = {"responses", "questions", "turns", "feedback", "ledger"}
    eventually(lambda: rows_of(house, ANN).keys() >= sealed, f"rows of hers in {sealed}")

    receipt = memory(house, acme, ANN, "DELETE")
    assert receipt["complete"]
    nothing = {name for name, count in receipt["deleted"].items() if not count}
    assert nothing <= {"transcripts", "outcomes", "readings", "cache_records", "runs", "foreseen"}
    assert receipt["deleted"]["facts"] == 4
    assert traces(house, canary) == set()
    assert rows_of(house, ANN).keys() <= _STAYS
    assert ANN not in json.dumps(query(house, "SELECT t::text AS t FROM farthing.receipts t"))
    (kept,) = memory(house, acme, ANN, receipts="true")["receipts"]
    assert (kept["id"], kept["deleted"]) == (receipt["id"], receipt["deleted"])
    assert memory(house, acme, ANN)["facts"] == []
    gone = httpx.get(f"{house.base_url}/responses/{turn}", headers={"authorization": f"Bearer {acme}"}, verify=NO_TLS)
    assert gone.status_code == 404

    his: dict[str, Any] = {"farthing": {"user": "bob"}}
    for pid, text in zip(both_workers(house), questions, strict=False):
        with alone(house, pid):  # none of them holds it in memory either
            eventually(lambda: ask(house, acme, text, **his).headers["x-farthing-source"] == "model", "a worker that has forgotten")  # noqa: B023 - called at once
    eventually(lambda: traces(house, canary), "what he has asked")
    said = json.loads(house.cli("memory", "forget", "bob", "--tenant", "acme", "--json").stdout)
    assert said["deleted"]["cached_answers"] >= 1
    again = memory(house, acme, ANN, "DELETE")
    assert (again["complete"], sum(again["deleted"].values())) == (True, 0)
    assert traces(house, canary) == set()
    _overwritten(house)
    assert house.stop() == 0  # for good: this test is the last one
    assert [path for path in house.folder.rglob("*") if path.is_file() and canary.encode() in path.read_bytes()] == []


def _overwritten(farthing: Installation) -> None:
    """As docs/memory.md says for whoever wants deleted rows to be off the disk now, and not in time."""
    with psycopg.connect(farthing.database_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET wal_recycle = off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("VACUUM (FULL, ANALYZE)")
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")
        connection.execute("ALTER SYSTEM RESET wal_recycle")
