"""Keys never show: not in logs, metrics, traces, answers, process lists, the database, the data folder or the settings as they are shown.

Prompts are not in logs or traces either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from inside import ask, eventually, new_key, query, settled

from farthing.app_catalogue import provider_of
from farthing.errors import SettingsError
from farthing.settings import load
from farthing.testing import bedrock
from farthing.testing.installation import Installation
from farthing.testing.upstream import ANY_MODEL, RESET, Received, Reply, ScriptedUpstream, completion, error, serve_in_thread, stream
from farthing.testing.vendors import Said

_PROVIDER_KEY = "sk-canary-PROVIDER-7d1f0c2a9b"
_PROVIDER_HEADER = "canary-HEADER-5e8a1b3c7d"
_AWS_SECRET = "canary/AWSSECRET+3b2c1d0e9f8a7b6c5d4e"
_AWS_TOKEN = "canary/AWSTOKEN+9a8b7c6d5e4f3a2b1c0d=="
_AWS_ID = "AKIACANARY0123456789"
_IN_A_FILE = "canary-FILE-4d3c2b1a0f9e"
_COLLECTOR_HEADER = "canary-COLLECTOR-1f2e3d4c5b"
_WRONG_KEY = "fk-canary-WRONG-0a9b8c7d6e5f4a3b2c1d"
_PROMPT = "canary-PROMPT-6c5d4e3f2a"
_ANSWER = "canary-ANSWER-9f8e7d6c5b"


class Used:
    """An installation after all sorts of traffic, with everything that it said to its clients."""

    def __init__(self, farthing: Installation, upstream: ScriptedUpstream, aws: ScriptedUpstream) -> None:
        self.farthing = farthing
        self.key = str(new_key(farthing, "secrets")["key"])
        self.said: list[httpx.Response] = []
        for number, reply in enumerate(_replies()):
            upstream.script("secret", reply)
            for streamed in (False, True):
                self.said.append(ask(farthing, self.key, f"{_PROMPT} {number} {streamed}", "secret", stream=streamed))
            self.said += _at_the_other_doors(farthing, self.key, f"{_PROMPT} {number}")
        for number, reply in enumerate(_replies_of_aws()):
            aws.script(ANY_MODEL, reply)
            for streamed in (False, True):
                self.said.append(ask(farthing, self.key, f"{_PROMPT} {number} {streamed}", "aws", stream=streamed))
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


def _at_the_other_doors(farthing: Installation, key: str, text: str) -> list[httpx.Response]:
    said = []
    with httpx.Client(base_url=farthing.url, timeout=20, headers={"authorization": f"Bearer {key}"}) as client:
        messages = [{"role": "user", "content": text}]
        bodies: dict[str, dict[str, object]] = {
            "/v1/messages": {"model": "secret", "max_tokens": 9, "messages": messages},
            "/v1/responses": {"model": "secret", "input": text},
            "/v1/completions": {"model": "secret", "prompt": text},
        }
        for path, body in bodies.items():
            said += [client.post(path, json={**body, "stream": streamed}) for streamed in (False, True)]
    for given in (key, _WRONG_KEY):
        body = {"model": "secret", "max_tokens": 9, "messages": messages}
        said.append(httpx.post(f"{farthing.base_url}/messages", json=body, headers={"x-api-key": given}, timeout=20))
    return said


def _replies_of_aws() -> list[Reply]:
    """AWS repeats in its complaint about a signature what should have been signed: the session token is part of it."""
    leak = f"The Canonical String should have been 'POST x-amz-security-token:{_AWS_TOKEN}', by {_AWS_ID} with {_AWS_SECRET}"
    begun, rest = bedrock.BedrockVendor().events(Said(texts=(_ANSWER,)))
    return [
        Reply(parts=[*begun, *rest], headers={"content-type": "application/vnd.amazon.eventstream"}),
        *(bedrock.failure(status, name, leak) for status, name in ((403, "SignatureDoesNotMatch"), (400, "ValidationException"))),
        *(
            bedrock.failure(status, name, leak)
            for status, name in ((403, "ExpiredTokenException"), (500, None), (429, "ThrottlingException"))
        ),
        Reply(body=leak.encode()),
        Reply(
            parts=[*begun, bedrock.exception("modelStreamErrorException", leak)],
            headers={"content-type": "application/vnd.amazon.eventstream"},
        ),
    ]


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
def aws() -> Iterator[ScriptedUpstream]:
    with serve_in_thread() as running:
        yield running


@pytest.fixture(scope="module")
def collector() -> Iterator[ScriptedUpstream]:
    """Takes whatever is sent to it."""
    with serve_in_thread() as running:
        running.script(ANY_MODEL, Reply(body=b""))
        yield running


@pytest.fixture(scope="module")
def used(folders: Path, upstream: ScriptedUpstream, aws: ScriptedUpstream, collector: ScriptedUpstream) -> Iterator[Used]:
    key_file = folders / "canary-key"
    key_file.write_text(_IN_A_FILE + "\n", encoding="utf-8")
    key_file.chmod(0o600)
    provider = {
        "kind": "openai_compatible",
        "base_url": upstream.base_url,
        "api_key": "${CANARY_KEY}",
        "headers": {"x-second": _PROVIDER_HEADER, "x-third": f"${{file:{key_file}}}"},
        "retries": 0,
    }
    identity = {"access_key_id": _AWS_ID, "secret_access_key": _AWS_SECRET, "session_token": _AWS_TOKEN}
    cloud = {"kind": "bedrock", "region": "eu-west-1", "base_url": aws.base_url.removesuffix("/v1"), "retries": 0, **identity}
    settings = {
        "local": {"enabled": False},
        "providers": {"up": provider, "cloud": cloud},
        "models": {
            "secret": {"provider": "up", "upstream_model": "secret"},
            "aws": {"provider": "cloud", "upstream_model": "amazon.nova-lite-v1:0"},
        },
        "telemetry": {
            "log_level": "debug",
            "log_requests": True,
            "otlp_endpoint": collector.base_url.removesuffix("/v1"),
            "export_interval_s": 0.5,
            "otlp_headers": {"authorization": _COLLECTOR_HEADER},
            "sample_ratio": 1,
        },
    }
    with Installation(folders / "secrets", settings, environ={"CANARY_KEY": _PROVIDER_KEY}) as running:
        yield Used(running, upstream, aws)
    upstream.script("secret")


_OURS = [_PROVIDER_KEY, _PROVIDER_HEADER, _COLLECTOR_HEADER, _IN_A_FILE, _AWS_SECRET, _AWS_TOKEN]
"""Secrets of the settings. The id of an AWS key is none: AWS itself shows it."""


def _secrets(used: Used) -> list[str]:
    return [*_OURS, _WRONG_KEY, used.key]


def test_the_provider_does_get_its_key(used: Used, upstream: ScriptedUpstream) -> None:
    received: list[Received] = upstream.of("secret")
    assert received
    assert {one.headers["authorization"] for one in received} == {f"Bearer {_PROVIDER_KEY}"}
    assert {one.headers["x-second"] for one in received} == {_PROVIDER_HEADER}
    assert {one.headers["x-third"] for one in received} == {_IN_A_FILE}
    assert used.key not in str(received)


def test_aws_gets_a_signature_and_not_the_secret_that_made_it(used: Used, aws: ScriptedUpstream) -> None:
    assert len(aws.requests) >= 12
    assert all(bedrock.signed_by(one, _AWS_SECRET, service="bedrock", region="eu-west-1") for one in aws.requests)
    assert {one.headers["x-amz-security-token"] for one in aws.requests} == {_AWS_TOKEN}
    assert not any(secret in str(aws.requests) for secret in (_AWS_SECRET, used.key))


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


def test_no_trace_shows_a_key_a_prompt_or_an_answer(used: Used, collector: ScriptedUpstream) -> None:
    def exported() -> bytes:
        """The bodies of what was sent: protobuf, not compressed. Their headers do hold a key, the collector's own."""
        return b"".join(one.body for one in collector.requests if one.path == "/v1/traces" and isinstance(one.body, bytes))

    assert used.said
    eventually(lambda: b"amazon.nova-lite-v1:0" in exported(), "the spans")
    assert {one.headers["authorization"] for one in collector.requests} == {_COLLECTOR_HEADER}
    for one in collector.requests:
        for secret in [*_secrets(used), _PROMPT, _ANSWER]:
            assert secret.encode() not in bytes(one.body), one.path


def test_no_process_list_shows_a_key(used: Used) -> None:
    """Of all processes: whoever looks at the list sees them all."""
    commands = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            commands.append(process.joinpath("cmdline").read_bytes() if process.name.isdigit() else b"")
    whole = b" ".join(commands)
    assert b"farthing.worker" in whole
    for secret in [*_secrets(used), used.farthing.key]:
        assert secret.encode() not in whole


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["yaml", "json"])
def test_the_settings_as_they_are_shown_hold_no_key(used: Used, as_json: list[str]) -> None:
    shown = used.farthing.cli("settings", "check", *as_json)
    assert "amazon.nova-lite-v1:0" in shown.stdout
    for secret in _secrets(used):
        assert secret not in shown.stdout + shown.stderr


def test_the_settings_and_the_providers_made_of_them_do_not_show_a_key_to_a_debugger(used: Used) -> None:
    settings = load(used.farthing.settings, {"CANARY_KEY": _PROVIDER_KEY})
    shown = [repr(settings), str(settings), f"{settings.providers}", settings.model_dump_json(), repr(settings.model_dump())]
    for name, one in settings.providers.items():
        provider = provider_of(name, one)
        shown += [repr(provider), repr(one), str(one)]
    for secret in _OURS:
        assert not any(secret in text for text in shown), secret


def test_a_mistake_in_the_settings_is_told_without_a_key(used: Used) -> None:
    text = used.farthing.settings.read_text(encoding="utf-8")
    wrong = [
        text.replace("amazon.nova-lite-v1:0", "["),
        text.replace("retries: 0", "retries: many"),
        text.replace("retries: 0", "retrys: 0"),
        text.replace("session_token", "sesion_token"),
        text.replace(f"access_key_id: {_AWS_ID}", "access_key_id: null"),
        text.replace("eu-west-1", _AWS_SECRET),
        text.replace("sample_ratio: 1", f"sample_ratio: {_PROVIDER_KEY}"),
        text + f"\n{_PROVIDER_KEY}: [\n",
    ]
    for one in wrong:
        assert one != text
        (used.farthing.folder / "wrong.yaml").write_text(one, encoding="utf-8")
        with pytest.raises(SettingsError) as caught:
            load(used.farthing.folder / "wrong.yaml", {"CANARY_KEY": _PROVIDER_KEY})
        said = f"{caught.value} {vars(caught.value)}"
        for secret in _OURS:
            assert secret not in said, said


def test_no_table_holds_a_key_and_only_the_cache_holds_answers(used: Used) -> None:
    tables = [
        row["name"]
        for row in query(used.farthing, "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'farthing'", role="postgres")
    ]
    assert {"keys", "ledger", "ledger_daily", "answers"} <= set(tables)
    for table in tables:
        rows = query(used.farthing, f"SELECT t::text AS row FROM farthing.{table} AS t", role="postgres")  # noqa: S608 - its own names
        assert rows or table not in {"keys", "ledger", "ledger_daily", "answers"}
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
