"""Keys never show: not in logs, metrics, answers, process lists, the database or the data folder. Prompts are not in logs either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from inside import ask, new_key, processes_of, query, settled

from farthing.testing.installation import Installation
from farthing.testing.upstream import RESET, Received, Reply, ScriptedUpstream, completion, error, stream

_PROVIDER_KEY = "sk-canary-PROVIDER-7d1f0c2a9b"
_PROVIDER_HEADER = "canary-HEADER-5e8a1b3c7d"
_COLLECTOR_HEADER = "canary-COLLECTOR-1f2e3d4c5b"
_WRONG_KEY = "fk-canary-WRONG-0a9b8c7d6e5f4a3b2c1d"
_PROMPT = "canary-PROMPT-6c5d4e3f2a"
_ANSWER = "canary-ANSWER-9f8e7d6c5b"


class Used:
    """An installation after all sorts of traffic, with everything that it said to its clients."""

    def __init__(self, farthing: Installation, upstream: ScriptedUpstream) -> None:
        self.farthing = farthing
        self.key = str(new_key(farthing, "secrets")["key"])
        self.said: list[httpx.Response] = []
        for number, reply in enumerate(_replies()):
            upstream.script("secret", reply)
            for streamed in (False, True):
                self.said.append(ask(farthing, self.key, f"{_PROMPT} {number} {streamed}", "secret", stream=streamed))
        upstream.script("secret", completion(_ANSWER))
        self.said.append(ask(farthing, _WRONG_KEY, _PROMPT, "secret"))
        self.said.append(ask(farthing, self.key, _PROMPT, "no-such-model"))
        self.said.append(ask(farthing, self.key, _PROMPT, "secret", temperature="hot"))
        with httpx.Client(base_url=farthing.url, timeout=10) as client:
            for key in (self.key, _WRONG_KEY):
                self.said.append(client.get("/v1/models", params={"api_key": key}))
                self.said.append(client.get(f"/v1/models/{key}", headers={"authorization": f"Bearer {self.key}"}))
                self.said.append(client.get(f"/{key}", headers={"authorization": f"Bearer {self.key}"}))
                self.said.append(client.get("/v1/models", headers={"authorization": f"Basic {key}"}))
                self.said.append(client.get("/metrics", headers={"authorization": f"Bearer {key}"}))
            self.said.append(client.get("/admin/v1/keys", headers={"authorization": f"Bearer {farthing.key}"}))
            self.said.append(client.get("/openapi.json", headers={"authorization": f"Bearer {self.key}"}))
        settled(farthing, [answer.headers["x-request-id"] for answer in self.said[:4]])


def _replies() -> list[Reply]:
    """Good ones, and providers that repeat in their errors the very key that they were given."""
    leak = f"Incorrect API key provided: {_PROVIDER_KEY}; header x-second: {_PROVIDER_HEADER}"
    whole = list(stream([_ANSWER]).parts or [])
    return [
        completion(_ANSWER),
        stream([_ANSWER, " and on"]),
        *(error(status, leak, code="invalid_api_key") for status in (400, 401, 403, 404, 429, 500, 503)),
        Reply(status=502, body=f"<html>{leak}</html>".encode()),
        Reply(body=f"<html>{leak}</html>".encode()),
        Reply(json={"error": {"message": leak, "type": "server_error", "code": leak, "param": leak}}),
        Reply(parts=[*whole[:2], b'data: {"error": {"message": "' + leak.encode() + b'"}}\n\n']),
        Reply(parts=[*whole[:2], f"data: {leak}\n\n".encode()]),
        Reply(parts=[*whole[:1], RESET]),
    ]


@pytest.fixture(scope="module")
def used(folders: Path, upstream: ScriptedUpstream) -> Iterator[Used]:
    provider = {
        "kind": "openai_compatible",
        "base_url": upstream.base_url,
        "api_key": "${CANARY_KEY}",
        "headers": {"x-second": _PROVIDER_HEADER},
        "retries": 0,
    }
    settings = {
        "local": {"enabled": False},
        "providers": {"up": provider},
        "models": {"secret": {"provider": "up", "upstream_model": "secret"}},
        "telemetry": {
            "log_level": "debug",
            "log_requests": True,
            "otlp_endpoint": "http://127.0.0.1:9",
            "otlp_headers": {"authorization": _COLLECTOR_HEADER},
            "sample_ratio": 1,
        },
    }
    with Installation(folders / "secrets", settings, environ={"CANARY_KEY": _PROVIDER_KEY}) as running:
        yield Used(running, upstream)
    upstream.script("secret")


def _secrets(used: Used) -> list[str]:
    return [_PROVIDER_KEY, _PROVIDER_HEADER, _COLLECTOR_HEADER, _WRONG_KEY, used.key]


def test_the_provider_does_get_its_key(used: Used, upstream: ScriptedUpstream) -> None:
    received: list[Received] = upstream.of("secret")
    assert received
    assert {one.headers["authorization"] for one in received} == {f"Bearer {_PROVIDER_KEY}"}
    assert {one.headers["x-second"] for one in received} == {_PROVIDER_HEADER}
    assert used.key not in str(received)


def test_no_answer_shows_a_key(used: Used) -> None:
    for answer in used.said:
        whole = f"{answer.headers}\n{answer.text}"
        for secret in _secrets(used):
            if secret not in str(answer.request.url):  # who puts a key into a path is told which path there is not
                assert secret not in whole, (answer.request.url, answer.status_code, whole)


def test_no_log_line_shows_a_key_a_prompt_or_an_answer(used: Used) -> None:
    log = used.farthing.log.read_text(encoding="utf-8")
    assert str(used.said[0].headers["x-request-id"]) in log  # requests are logged
    for secret in [*_secrets(used), _PROMPT, _ANSWER]:
        assert secret not in log, next(line for line in log.splitlines() if secret in line)


def test_no_metric_shows_a_key_or_a_prompt(used: Used) -> None:
    status, body = used.farthing.get("/metrics", key=used.farthing.key)
    assert status == 200
    for secret in [*_secrets(used), _PROMPT, _ANSWER]:
        assert secret not in body.decode()


def test_no_process_list_shows_a_key(used: Used) -> None:
    commands = " ".join(processes_of(used.farthing))
    assert commands
    for secret in [*_secrets(used), used.farthing.key]:
        assert secret not in commands


def test_no_table_holds_a_key_and_only_the_cache_holds_answers(used: Used) -> None:
    tables = [
        row["name"]
        for row in query(used.farthing, "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'farthing'", role="postgres")
    ]
    assert {"keys", "ledger", "ledger_daily", "answers"} <= set(tables)
    for table in tables:
        rows = query(used.farthing, f"SELECT t::text AS row FROM farthing.{table} AS t", role="postgres")  # noqa: S608 - its own names
        assert rows or table.startswith("_")
        for row in rows:
            for secret in [*_secrets(used), used.farthing.key, _PROMPT]:
                assert secret not in row["row"], (table, row)
                assert secret.encode().hex() not in row["row"], (table, row)
            if table != "answers":
                assert _ANSWER not in row["row"], (table, row)


def test_no_file_of_the_data_folder_holds_a_key_but_admin_key(used: Used) -> None:
    query(used.farthing, "CHECKPOINT", role="postgres")
    read = 0
    for file in used.farthing.data.rglob("*"):
        if not file.is_file():
            continue
        content = file.read_bytes()
        read += 1
        for secret in [*_secrets(used), used.farthing.key, _PROMPT]:
            if file.name != "admin.key":
                assert secret.encode() not in content, (file, secret)
    assert read > 100
    assert (used.farthing.data / "admin.key").read_text(encoding="utf-8").strip() == used.farthing.key
