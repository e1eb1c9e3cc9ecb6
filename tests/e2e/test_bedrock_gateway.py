"""A gateway whose provider is Amazon Bedrock and whose keys are in AWS Secrets Manager and in files, in front of an emulator of both."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from inside import alive, eventually, query, settled
from openai import OpenAI

from farthing.testing.aws import Ministack
from farthing.testing.bedrock import BedrockVendor
from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, serve_in_thread

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
REGION = "us-east-1"
IN_THE_VAULT = "vault-key-0123456789abcdef"
ROTATED = "vault-key-fedcba9876543210"
IN_A_FILE = "file-key-0123456789abcdef"


@pytest.fixture(scope="module")
def aws() -> Iterator[Ministack]:
    with Ministack("bedrock-runtime,secretsmanager,sts,iam", auth=True) as running:
        manager(running).create_secret(Name="gateway/keys", SecretString=json.dumps({"titan": IN_THE_VAULT}))
        yield running


def manager(aws: Ministack) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("secretsmanager", endpoint_url=aws.url, region_name=REGION, **keys)


@pytest.fixture(scope="module")
def titan() -> Iterator[ScriptedUpstream]:
    """Bedrock's wire for embeddings, which the emulator does not have."""
    with serve_in_thread() as running:
        running.script("*", BedrockVendor().vectors(1, 3))
        yield running


@pytest.fixture(scope="module")
def farthing(folders: Path, aws: Ministack, titan: ScriptedUpstream) -> Iterator[Installation]:
    folder = folders / "bedrock"
    folder.mkdir()
    key_file = folder / "file-key"
    key_file.write_text(IN_A_FILE + "\n", encoding="utf-8")
    key_file.chmod(0o600)
    settings = {
        "local": {"enabled": False},
        "aws": {"region": REGION, "endpoint_url": aws.url},
        "telemetry": {"log_level": "debug"},
        "providers": {
            "aws": {"kind": "bedrock", "region": REGION, "base_url": aws.url},
            "titan": {
                "kind": "bedrock",
                "region": REGION,
                "base_url": titan.base_url.removesuffix("/v1"),
                "api_key": "${aws-secret:gateway/keys#titan}",
            },
            "filed": {
                "kind": "bedrock",
                "region": REGION,
                "base_url": titan.base_url.removesuffix("/v1"),
                "api_key": f"${{file:{key_file}}}",
            },
        },
        "models": {
            "claude": {"provider": "aws", "upstream_model": CLAUDE},
            "nova": {"provider": "aws", "upstream_model": f"arn:aws:bedrock:{REGION}::foundation-model/amazon.nova-lite-v1:0"},
            "absent": {"provider": "aws", "upstream_model": "arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-lite-v1:0"},
            "embed": {"provider": "titan", "upstream_model": "amazon.titan-embed-text-v2:0", "kind": "embeddings"},
            "filed": {"provider": "filed", "upstream_model": "amazon.titan-embed-text-v2:0", "kind": "embeddings"},
        },
    }
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(folder / "none")}
    environ = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", **nowhere}
    with Installation(folder, settings, environ=environ) as running:
        yield running


@pytest.fixture
def sdk(farthing: Installation) -> Iterator[OpenAI]:
    with OpenAI(base_url=farthing.base_url, api_key=farthing.key, max_retries=0, timeout=20) as client:
        yield client


def sent_by(titan: ScriptedUpstream) -> str:
    """The credentials of the last request."""
    return titan.requests[-1].headers["authorization"]


def test_the_openai_sdk_gets_an_answer_of_bedrock_at_bedrocks_price(sdk: OpenAI, farthing: Installation) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model="claude", messages=[{"role": "user", "content": "Hi there"}])
    body = raw.parse()
    assert "anthropic" in str(body.choices[0].message.content)
    assert body.usage is not None
    (row,) = settled(farthing, [raw.headers["x-request-id"]])[raw.headers["x-request-id"]]
    assert (row["provider"], row["upstream_model"], row["price_source"]) == ("aws", CLAUDE, "genai-prices")
    assert row["cost_microusd"] >= 3.3 * body.usage.prompt_tokens + 16.5 * body.usage.completion_tokens - 1


def test_the_openai_sdk_streams_from_an_arn(sdk: OpenAI, farthing: Installation) -> None:
    with sdk.chat.completions.with_streaming_response.create(
        model="nova", messages=[{"role": "user", "content": "Hi there"}], stream=True, stream_options={"include_usage": True}
    ) as raw:
        lines = [json.loads(line.removeprefix("data: ")) for line in raw.iter_lines() if line.startswith("data: {")]
        request = raw.headers["x-request-id"]
    text = "".join(choice["delta"].get("content") or "" for line in lines for choice in line["choices"])
    assert "nova" in text
    assert (lines[-1]["choices"], lines[-1]["usage"]["completion_tokens"] > 0) == ([], True)
    (row,) = settled(farthing, [request])[request]
    assert (row["usage_source"], row["price_source"]) == ("provider", "genai-prices")


def test_a_rejection_is_openais_error_with_bedrocks_words(farthing: Installation) -> None:
    body = {"model": "absent", "messages": [{"role": "user", "content": "Hi"}]}
    answer = httpx.post(f"{farthing.base_url}/chat/completions", json=body, headers={"authorization": f"Bearer {farthing.key}"}, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "ValidationException"
    assert answer.headers["x-should-retry"] == "false"


def test_embeddings_use_the_key_in_the_vault_and_the_key_in_the_file(sdk: OpenAI, titan: ScriptedUpstream) -> None:
    assert sdk.embeddings.create(model="embed", input="one").data[0].embedding == [1.0, 0.0, 0.0]
    assert sent_by(titan) == f"Bearer {IN_THE_VAULT}"
    sdk.embeddings.create(model="filed", input="two")
    assert sent_by(titan) == f"Bearer {IN_A_FILE}"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_the_settings_are_shown_without_the_secrets(farthing: Installation, as_json: list[str]) -> None:
    shown = farthing.cli("settings", "check", *as_json)
    assert "**********" in shown.stdout
    assert not any(secret in shown.stdout + shown.stderr for secret in (IN_THE_VAULT, IN_A_FILE))


def test_a_secret_from_a_vault_or_a_file_is_nowhere_but_at_the_provider(farthing: Installation) -> None:
    query(farthing, "CHECKPOINT", role="postgres")
    places = {str(file): file.read_bytes() for file in (*farthing.data.rglob("*"), farthing.log) if file.is_file()}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and alive(int(process.name)):
            try:
                places[str(process)] = process.joinpath("cmdline").read_bytes()
            except OSError:
                continue
    for secret in (IN_THE_VAULT, IN_A_FILE):
        assert [place for place, content in places.items() if secret.encode() in content] == []


def test_a_rotated_secret_comes_into_force_at_a_reload(
    farthing: Installation, sdk: OpenAI, aws: Ministack, titan: ScriptedUpstream
) -> None:
    manager(aws).put_secret_value(SecretId="gateway/keys", SecretString=json.dumps({"titan": ROTATED}))
    outcome = reloaded(farthing)
    assert outcome["ok"], outcome
    tries = itertools.count()

    def rotated() -> bool:
        """The old worker may still take a connection in its last moment."""
        sdk.with_options(default_headers={"connection": "close"}).embeddings.create(model="embed", input=f"after the reload {next(tries)}")
        return sent_by(titan) == f"Bearer {ROTATED}"

    eventually(rotated, "the new key")


def reloaded(farthing: Installation) -> dict[str, Any]:
    """Reload, and tell what came of it."""
    asked = time.time()
    os.kill(farthing.pid, signal.SIGHUP)

    def look() -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((farthing.data / "reload.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found if found["began"] >= asked else None

    return eventually(look, "the outcome of the reload", 40)


def test_a_vault_that_is_away_changes_nothing_at_a_reload_nor_for_a_worker_that_is_started_again(
    farthing: Installation, sdk: OpenAI, aws: Ministack, titan: ScriptedUpstream
) -> None:
    aws.stop()
    outcome = reloaded(farthing)
    assert not outcome["ok"]
    assert outcome["message"].startswith("providers.titan.api_key: the secret 'gateway/keys' cannot be had from AWS Secrets Manager")
    (worker,) = eventually(lambda: pids if len(pids := farthing.worker_pids()) == 1 else None, "the old worker's end")
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: [pid for pid in farthing.worker_pids() if pid != worker], "another worker")
    eventually(lambda: farthing.get("/readyz")[0] == 200, "ready again")
    sdk.embeddings.create(model="embed", input="after the crash")
    assert sent_by(titan) == f"Bearer {ROTATED}"


def test_a_gateway_that_cannot_read_its_secrets_does_not_start_and_says_which(farthing: Installation) -> None:
    done = farthing.cli("settings", "check", check=False)
    assert done.returncode != 0
    assert "providers.titan.api_key" in done.stderr
    assert "gateway/keys" in done.stderr
    assert "Traceback" not in done.stderr
