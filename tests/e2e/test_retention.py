"""Prompts and answers are kept for tenants that want it, sealed, and for nobody else; and they go when they should."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from anthropic import Anthropic
from conftest import scripted
from inside import alone, ask, both_workers, eventually, new_key, query, settled
from openai import OpenAI
from postgres_proxy import Outpost, PostgresProxy, database_behind

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream

_FIRST_KEY, _SECOND_KEY = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


@pytest.fixture(scope="module")
def proxied(gateway: Installation) -> Iterator[tuple[PostgresProxy, str]]:
    with database_behind(gateway, "retention") as found:
        yield found


def _settings(upstream: ScriptedUpstream, retention: dict[str, object]) -> dict[str, Any]:
    return scripted(
        upstream,
        retention={"flush_interval_s": 0.5, "max_bytes": 4096, **retention},
        keys={"refresh_s": 0.5},
        database={"probe_interval_s": 0.2},
        ledger={"flush_interval_s": 0.02},
        server={"drain_s": 2},
    )


@pytest.fixture(scope="module")
def outpost(folders: Path, upstream: ScriptedUpstream, gateway: Installation, proxied: tuple[PostgresProxy, str]) -> Iterator[Outpost]:
    """Two workers with a key, in front of a database that can be taken away."""
    settings = _settings(upstream, {"encryption_key": _FIRST_KEY})
    with Outpost(folders / "retention", settings, gateway, proxied[1], "retention", workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def marker(outpost: Outpost) -> str:
    """The key of a tenant whose texts are kept throughout."""
    return turned_on(outpost, "marker")


def admin(farthing: Installation, method: str, path: str, body: object | None = None, *, status: int = 200) -> Any:
    answer = httpx.request(
        method, f"{farthing.url}/admin/v1{path}", json=body, headers={"authorization": f"Bearer {farthing.key}"}, timeout=20
    )
    assert answer.status_code == status, answer.text
    return answer.json()


def request_of(farthing: Installation, answer: httpx.Response) -> dict[str, Any]:
    """What an admin is shown of an answered request, once its texts are there."""
    return shown(farthing, answer.headers["x-farthing-request-id"])


def shown(farthing: Installation, request_id: str) -> dict[str, Any]:

    def look() -> dict[str, Any] | None:
        found = httpx.get(
            f"{farthing.url}/admin/v1/requests/{request_id}",
            headers={"authorization": f"Bearer {farthing.key}"},
            timeout=20,
        )
        said: dict[str, Any] = found.json() if found.status_code == 200 else {}
        return said if said.get("transcript") and said["attempts"] else None

    return eventually(look, "the transcript")


def written(farthing: Installation, marker: str) -> None:
    """Wait until each worker has written all that it had: a text of another tenant that comes last is there."""
    for pid in both_workers(farthing):
        with alone(farthing, pid):
            eventually(lambda: _stores(farthing, marker), "the last text")


def turned_on(farthing: Installation, tenant: str, **more: object) -> str:
    """A key of a tenant whose texts are kept, and both workers know it."""
    key = str(new_key(farthing, tenant, **more)["key"])
    set_ = admin(farthing, "PUT", f"/tenants/{tenant}/retention", {"enabled": True, "ttl": "30d"})
    assert (set_["enabled"], set_["ttl_s"], set_["storing"]) == (True, 2_592_000, True)
    for pid in both_workers(farthing):
        with alone(farthing, pid):
            eventually(lambda: _stores(farthing, key), "a worker that keeps texts")
    return key


def _stores(farthing: Installation, key: str) -> bool:
    answer = ask(farthing, key, "is this kept?", farthing={"cache": "off"})
    rows = "SELECT 1 FROM farthing.transcripts WHERE request_id = %s::uuid"
    if answer.status_code != 200:
        return False
    return any(query(farthing, rows, answer.headers["x-farthing-request-id"]) for _ in range(20))


def traces(farthing: Installation, canary: str) -> list[str]:
    """Where a text is in clear: the tables that hold it, and the files of the installation's own."""
    found = []
    with psycopg.connect(farthing.database_url) as connection:
        connection.execute("SET ROLE farthing_service")
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'farthing'::regnamespace AND relkind = 'r'"
        ).fetchall()
        for (table,) in tables:
            if table.startswith("_yoyo"):
                continue
            rows = connection.execute(b"SELECT t::text FROM farthing.%s t" % table.encode()).fetchall()
            if any(canary in row or canary.encode().hex() in row for (row,) in rows):
                found.append(table)
    files = [path for path in farthing.folder.rglob("*") if path.is_file() and "postgres" not in path.parts]
    return found + [str(path.relative_to(farthing.folder)) for path in files if canary.encode() in path.read_bytes()]


def test_without_being_told_nothing_is_stored_anywhere(outpost: Outpost, gateway: Installation, marker: str) -> None:
    key = new_key(outpost, "silent")["key"]
    ids = [ask(outpost, key, "canary-silent", stream=stream).headers["x-request-id"] for stream in (False, True)]
    with OpenAI(base_url=outpost.base_url, api_key=key, max_retries=0) as client:
        client.responses.create(model="fast", input="canary-silent in a response")
    eventually(lambda: query(outpost, "SELECT 1 FROM farthing.answers WHERE tenant = 'silent'"), "the cached answer")
    eventually(lambda: len(query(outpost, "SELECT 1 FROM farthing.responses WHERE tenant = 'silent'")) == 1, "the turn")
    written(outpost, marker)
    assert traces(outpost, "canary-silent") == []
    assert query(outpost, "SELECT 1 FROM farthing.transcripts WHERE tenant = 'silent'") == []
    assert admin(outpost, "GET", f"/requests/{ids[0]}")["transcript"] is None
    # Without an encryption key the answers in the cache, and nothing else, are in clear: docs/retention.md says so.
    other = new_key(gateway, "silent")["key"]
    ask(gateway, other, "canary-plain")
    eventually(lambda: query(gateway, "SELECT 1 FROM farthing.answers WHERE tenant = 'silent'"), "the cached answer")
    assert traces(gateway, "canary-plain") == ["answers"]


def test_without_a_key_it_cannot_be_turned_on_and_the_refusal_says_how_to_make_one(gateway: Installation) -> None:
    said = admin(gateway, "PUT", "/tenants/acme/retention", {"enabled": True}, status=400)["error"]["message"]
    assert "openssl rand -base64 32" in said
    assert "retention" in said
    assert admin(gateway, "GET", "/tenants/acme/retention")["storing"] is False
    admin(gateway, "DELETE", "/tenants/acme/retention")


def test_turned_on_texts_are_stored_sealed_and_an_admin_reads_them(outpost: Outpost, marker: str) -> None:
    key = turned_on(outpost, "keeper", user="ann")
    whole = ask(outpost, key, "canary-kept")
    found = request_of(outpost, whole)
    assert (found["tenant"], found["user"]) == ("keeper", "ann")
    assert found["transcript"]["request"]["messages"] == [{"role": "user", "content": "canary-kept"}]
    assert found["transcript"]["answer"] == whole.json()
    assert [row["source"] for row in found["attempts"]] == ["model"]
    hit = request_of(outpost, ask(outpost, key, "canary-kept"))
    assert "canary-kept" in json.dumps(hit["transcript"]["answer"])
    for number in range(2):  # from the model, then from the cache
        streamed = request_of(outpost, ask(outpost, key, "canary-kept in a stream", stream=True))
        message = streamed["transcript"]["answer"]["choices"][0]["message"]
        assert "canary-kept in a stream" in message["content"], number
        assert streamed["attempts"][0]["source"] == ("exact" if number else "model")
    refused = ask(outpost, key, "canary-kept", model="nobody")
    assert refused.status_code == 404
    written(outpost, marker)
    assert traces(outpost, "canary-kept") == []
    listed = admin(outpost, "GET", "/requests?tenant=keeper&user=ann&limit=3")
    assert (len(listed["data"]), listed["has_more"]) == (3, True)
    assert listed["data"][1]["transcript"] is True
    assert admin(outpost, "GET", "/requests?tenant=silent&user=ann")["data"] == []
    for path in (f"/requests/{whole.headers['x-request-id']}", "/requests", "/tenants/keeper/retention"):
        answer = httpx.get(f"{outpost.url}/admin/v1{path}", headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 403


def test_every_door_is_kept_and_what_is_too_long_is_cut_and_says_so(outpost: Outpost) -> None:
    key = turned_on(outpost, "doors")
    with OpenAI(base_url=outpost.base_url, api_key=key, max_retries=0) as client:
        response = client.responses.with_raw_response.create(model="fast", input="by responses")
        text = client.completions.with_raw_response.create(model="fast", prompt="by completions")
    with Anthropic(base_url=outpost.url, api_key=key, max_retries=0) as anthropic:
        message = anthropic.messages.with_raw_response.create(
            model="fast", max_tokens=9, messages=[{"role": "user", "content": "by messages"}]
        )
    for answer, said in ((response, "by responses"), (text, "by completions"), (message, "by messages")):
        assert said in json.dumps(shown(outpost, answer.headers["x-farthing-request-id"])["transcript"]["request"]["messages"])
    long = request_of(outpost, ask(outpost, key, "long " * 5000))["transcript"]
    assert long["request"]["cut"] is True
    assert long["request"]["size"] > 25_000
    assert long["request"]["beginning"].startswith('{"model":"fast","messages"')


def test_a_request_opts_out(outpost: Outpost, marker: str) -> None:
    key = turned_on(outpost, "choosy")
    before = query(outpost, "SELECT count(*) AS n FROM farthing.transcripts WHERE tenant = 'choosy'")
    ask(outpost, key, "not this", farthing={"store": False})
    ask(outpost, key, "nor this", store=False)
    with OpenAI(base_url=outpost.base_url, api_key=key, max_retries=0, default_headers={"x-farthing-store": "false"}) as client:
        client.chat.completions.create(model="fast", messages=[{"role": "user", "content": "nor this by a header"}])
        client.responses.create(model="fast", input="nor this", store=False)
    last = ask(outpost, key, "but this")
    request_of(outpost, last)
    written(outpost, marker)
    after = query(outpost, "SELECT count(*) AS n FROM farthing.transcripts WHERE tenant = 'choosy'")
    assert after[0]["n"] == before[0]["n"] + 1


def test_what_has_expired_is_not_shown(outpost: Outpost) -> None:
    key = turned_on(outpost, "brief")
    answer = ask(outpost, key, "soon gone")
    request_of(outpost, answer)
    query(outpost, "UPDATE farthing.transcripts SET expires_at = now() WHERE tenant = 'brief'")
    found = admin(outpost, "GET", f"/requests/{answer.headers['x-request-id']}")
    assert found["transcript"] is None
    assert len(found["attempts"]) == 1


def test_turned_off_nothing_more_is_stored_and_a_purge_takes_what_is_there(outpost: Outpost, marker: str) -> None:
    key = turned_on(outpost, "fickle")
    kept = ask(outpost, key, "while it was on")
    request_of(outpost, kept)
    admin(outpost, "PUT", "/tenants/fickle/retention", {"enabled": True, "purge": True}, status=400)
    off = admin(outpost, "PUT", "/tenants/fickle/retention", {"enabled": False})
    assert (off["storing"], off["ttl_s"]) == (False, 2_592_000)
    later = [ask(outpost, key, f"after it was off {number}") for number in range(6)]
    written(outpost, marker)
    assert [admin(outpost, "GET", f"/requests/{one.headers['x-request-id']}")["transcript"] for one in later[:2]] == [None, None]
    assert admin(outpost, "GET", f"/requests/{kept.headers['x-request-id']}")["transcript"] is not None
    assert admin(outpost, "DELETE", "/tenants/fickle/retention?purge=true")["purged"] >= 1
    assert query(outpost, "SELECT 1 FROM farthing.transcripts WHERE tenant = 'fickle'") == []


def test_a_users_deletion_reaches_all_that_is_his_and_no_late_batch_undoes_it(outpost: Outpost, marker: str) -> None:
    key = turned_on(outpost, "leaving")
    bye: dict[str, Any] = {"farthing": {"user": "bye/\u00e9"}}
    first, second = both_workers(outpost)
    with OpenAI(base_url=outpost.base_url, api_key=key, max_retries=0) as client:
        turn = client.responses.create(model="fast", input="canary-gone turn", extra_body=bye)
    other = ask(outpost, key, "of somebody else", farthing={"user": "stay"})
    request_of(outpost, other)
    with alone(outpost, first):
        # The first is written at once; the second waits for the next turn of the writer, and stops with its worker.
        request_of(outpost, ask(outpost, key, "canary-gone written", **bye))
        pending = _stopped_with_a_text(outpost, first, key, bye)
    with alone(outpost, second):
        done = admin(outpost, "DELETE", "/tenants/leaving/users/bye%2F%C3%A9/data")
    assert done["deleted"]["transcripts"] >= 1
    assert (done["deleted"]["responses"], done["complete"]) == (1, True)
    assert done["deleted"]["cached_answers"] >= 1
    assert len(done["remaining"]) == 4
    written(outpost, marker)
    assert query(outpost, "SELECT 1 FROM farthing.transcripts WHERE user_id = %s", "bye/\u00e9") == []
    assert query(outpost, "SELECT 1 FROM farthing.responses WHERE user_id = %s", "bye/\u00e9") == []
    found = admin(outpost, "GET", f"/requests/{pending.headers['x-request-id']}")
    assert (found["transcript"], len(found["attempts"])) == (None, 1)
    assert request_of(outpost, other)["user"] == "stay"
    with OpenAI(base_url=outpost.base_url, api_key=key, max_retries=0) as client:
        assert client.responses.with_raw_response.create(model="fast", input="a new one", extra_body=bye).status_code == 200
        gone = httpx.get(f"{outpost.base_url}/responses/{turn.id}", headers={"authorization": f"Bearer {key}"})
        assert gone.status_code == 404
    again = request_of(outpost, ask(outpost, key, "back again", **bye))
    assert again["user"] == "bye/\u00e9"


def _stopped_with_a_text(farthing: Outpost, pid: int, key: str, more: dict[str, Any]) -> httpx.Response:
    """Stop a worker that has answered and not begun to write what it has answered."""
    locks = "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE datname = current_database() AND locktype = 'advisory'"
    for number in range(20):
        answer = ask(farthing, key, f"canary-gone pending {number}", **more)
        os.kill(pid, signal.SIGSTOP)
        if not query(farthing, locks) and not _known(farthing, answer.headers["x-request-id"]):
            return answer
        os.kill(pid, signal.SIGCONT)
    raise AssertionError("the worker always writes at once")


def test_a_flush_reaches_the_cache_of_every_worker(outpost: Outpost) -> None:
    key = new_key(outpost, "flushed")["key"]
    first, second = both_workers(outpost)
    texts = [f"canary-cached {number}" for number in range(30)]

    def source(text: str) -> str:
        return ask(outpost, key, text, farthing={"user": "ann"}).headers["x-farthing-source"]

    rows = "SELECT count(*) AS n FROM farthing.answers WHERE tenant = 'flushed'"
    with alone(outpost, first):
        assert {source(text) for text in texts} == {"model"}
        eventually(lambda: query(outpost, rows)[0]["n"] == len(texts), "the answers in PostgreSQL")
    with alone(outpost, second):
        assert {source(text) for text in texts} == {"exact"}
    done = admin(outpost, "DELETE", "/tenants/flushed/users/ann/data?flush_cache=true")
    assert done["deleted"]["cached_answers"] == len(texts)
    assert query(outpost, rows)[0]["n"] == 0
    for pid in (first, second):
        waiting = iter(texts if pid == first else texts[::-1])  # what one has asked anew, the other may know
        with alone(outpost, pid):
            eventually(lambda: source(next(waiting)) == "model", "a worker that has forgotten")  # noqa: B023 - called at once
    assert admin(outpost, "DELETE", "/tenants/flushed/data")["deleted"]["cached_answers"] is not None
    admin(outpost, "DELETE", "/tenants/flushed/data?user=ann", status=400)


def test_requests_go_on_while_the_database_is_away_and_their_texts_follow(outpost: Outpost, proxied: tuple[PostgresProxy, str]) -> None:
    key = turned_on(outpost, "patient")
    ask(outpost, key, "known to both")
    proxied[0].away()
    try:
        answers = [ask(outpost, key, f"canary-away {number}") for number in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 10
        assert traces(outpost, "canary-away") == []
    finally:
        proxied[0].back()
    for answer in answers:
        eventually(lambda: _known(outpost, answer.headers["x-request-id"]), "a text from meanwhile", 30)  # noqa: B023 - called at once


def _known(farthing: Installation, request_id: str) -> bool:
    return bool(query(farthing, "SELECT 1 FROM farthing.transcripts WHERE request_id = %s::uuid", request_id))


def test_the_command_line_turns_it_on_and_off_and_shows_a_request(outpost: Outpost) -> None:
    key = new_key(outpost, "terminal", user="tess")["key"]
    assert "for 43200 s" in outpost.cli("retention", "set", "terminal", "--ttl", "12h").stdout
    answer = eventually(lambda: one if _stores(outpost, key) and (one := ask(outpost, key, "by hand")) else None, "a text")
    request_of(outpost, answer)
    assert '"content": "by hand"' in outpost.cli("requests", "show", answer.headers["x-request-id"]).stdout
    done = json.loads(outpost.cli("retention", "off", "terminal", "--purge", "--json").stdout)
    assert (done["storing"], done["purged"] >= 1) == (False, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("PUT", "/tenants/acme/retention", {"enabled": True, "ttl": "1000w"}, "ttl"),
        ("PUT", "/tenants/acme/retention", {"enabled": True, "ttl": "59s"}, "ttl"),
        ("PUT", "/tenants/acme/retention", {"enabled": True, "ttl": "-1d"}, "ttl"),
        ("PUT", "/tenants/acme/retention", {"enabled": "yes"}, "enabled"),
        ("PUT", "/tenants/acme/retention", {"enable": True}, "enable"),
        ("PUT", "/tenants/acme/retention", {"enabled": True, "purge": True}, "purge"),
        ("PUT", "/tenants/%00/retention", {"enabled": True}, "tenant"),
        ("DELETE", "/tenants/acme/retention?purge=maybe", None, "purge"),
        ("DELETE", "/tenants/acme/users/a%00b/data", None, "user"),
        ("DELETE", f"/tenants/acme/users/{'u' * 257}/data", None, "user"),
        ("DELETE", "/tenants/acme/users/ann/data?flush=true", None, "flush_cache"),
        ("GET", "/requests?user=ann", None, "tenant"),
        ("GET", "/requests?limit=0", None, "limit"),
        ("GET", "/requests?limit=1001", None, "limit"),
        ("GET", "/requests?tenant=%00", None, "tenant"),
        ("GET", "/requests?since=yesterday", None, "since"),
    ],
)
def test_what_is_wrong_is_named(outpost: Outpost, method: str, path: str, body: object, says: str) -> None:
    assert says in admin(outpost, method, path, body, status=400)["error"]["message"]


def test_a_request_that_nobody_made_is_not_found(outpost: Outpost) -> None:
    for name in ("nonsense", "00000000-0000-0000-0000-000000000000", "019abcde-0000-7000-8000-000000000000"):
        assert name in admin(outpost, "GET", f"/requests/{name}", status=404)["error"]["message"]
    for path, allowed in (("/requests/x", "GET, HEAD"), ("/tenants/acme/users/a/b/data", "DELETE")):
        answer = httpx.post(f"{outpost.url}/admin/v1{path}", headers={"authorization": f"Bearer {outpost.key}"})
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_keys_can_be_changed_and_a_lost_one_stops_nobody(outpost: Outpost) -> None:
    key = turned_on(outpost, "rotated")
    old = ask(outpost, key, "under the first key")
    request_of(outpost, old)
    _reload(outpost, {"encryption_key": _SECOND_KEY, "old_encryption_keys": [_FIRST_KEY]})
    new = ask(outpost, key, "under the second key")
    for answer, text in ((old, "under the first key"), (new, "under the second key")):
        assert text in json.dumps(request_of(outpost, answer)["transcript"])
    _reload(outpost, {})
    for answer in (old, new):
        lost = admin(outpost, "GET", f"/requests/{answer.headers['x-request-id']}")
        assert (lost["transcript"], len(lost["attempts"])) == (None, 1)
        assert "retention.old_encryption_keys" in lost["problem"]
    after = ask(outpost, key, "without a key")
    assert after.status_code == 200
    settled(outpost, [after.headers["x-request-id"]])
    policy = admin(outpost, "GET", "/tenants/rotated/retention")
    assert (policy["enabled"], policy["storing"]) == (True, False)
    assert "openssl rand" in policy["problem"]
    eventually(lambda: "retention.encryption_key is not set" in outpost.log.read_text(encoding="utf-8"), "a word in the log")
    assert not _known(outpost, after.headers["x-request-id"])


def _reload(farthing: Outpost, retention: dict[str, object]) -> None:
    settings = yaml.safe_load(farthing.settings.read_text(encoding="utf-8"))
    rest = {name: value for name, value in settings["retention"].items() if "encryption" not in name}
    farthing.settings.write_text(yaml.safe_dump({**settings, "retention": {**rest, **retention}}), encoding="utf-8")
    assert json.loads(farthing.cli("reload", "--json").stdout.splitlines()[-1])["waiting"] == []
    both_workers(farthing)
