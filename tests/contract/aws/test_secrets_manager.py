"""Secrets from an emulator of Secrets Manager that verifies who asks."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import REGION, client, someone

from farthing.app_secrets import fresh_secrets
from farthing.aws.credentials import Keys
from farthing.errors import SettingsError
from farthing.settings import OpenAICompatibleSettings, load_text
from farthing.testing.aws import Ministack

VALUE = "sk-in-the-vault-0123456789"
OTHERS = "belongs-to-another-field-0123456789"


@pytest.fixture(scope="module")
def aws() -> Iterator[Ministack]:
    with Ministack("secretsmanager,iam,sts", auth=True) as running:
        manager = client(running, "secretsmanager")
        manager.create_secret(Name="prod/openai", SecretString=VALUE)
        manager.create_secret(
            Name="prod/all", SecretString=f'{{"openai": "{VALUE}", "other": "{OTHERS}", "pin": 1234, "list": ["{OTHERS}"]}}'
        )
        manager.create_secret(Name="prod/binary", SecretBinary=b"\x00\x01")
        yield running


@pytest.fixture(scope="module")
def reader(aws: Ministack) -> Keys:
    return someone(aws, "secretsmanager:GetSecretValue")


@pytest.fixture(autouse=True)
def as_reader(reader: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", reader.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", reader.secret_access_key)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def key_from(reference: str, aws: dict[str, Any]) -> str:
    """The API key of a provider whose key is this reference."""
    text = f"aws: {aws}\nproviders: {{up: {{kind: openai_compatible, base_url: 'http://127.0.0.1:1/v1', api_key: '{reference}'}}}}"
    provider = load_text(text, {}, {}, fresh_secrets()).providers["up"]
    assert isinstance(provider, OpenAICompatibleSettings)
    assert provider.api_key is not None
    return provider.api_key.get_secret_value()


def here(aws: Ministack, **more: Any) -> dict[str, Any]:
    return {"region": REGION, "endpoint_url": aws.url, "timeout_s": 20, **more}


def complaint(reference: str, aws: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        key_from(reference, aws)
    said = caught.value.message
    assert said.startswith("providers.up.api_key: "), "it names the setting"
    assert not any(value in said for value in (VALUE, OTHERS)), "and never a value"
    return said


def arn_of(aws: Ministack, name: str) -> str:
    return str(client(aws, "secretsmanager").describe_secret(SecretId=name)["ARN"])


def test_a_secret_is_its_text(aws: Ministack) -> None:
    assert key_from("${aws-secret:prod/openai}", here(aws)) == VALUE


def test_a_field_of_a_secret_that_is_json(aws: Ministack) -> None:
    assert key_from("${aws-secret:prod/all#openai}", here(aws)) == VALUE
    assert key_from("${aws-secret:prod/all#pin}", here(aws)) == "1234"


def test_an_arn_brings_its_own_region(aws: Ministack) -> None:
    found = here(aws)
    del found["region"]
    assert key_from(f"${{aws-secret:{arn_of(aws, 'prod/openai')}}}", found) == VALUE


def test_a_rotated_secret_is_seen_by_the_next_load(aws: Ministack) -> None:
    manager = client(aws, "secretsmanager")
    manager.create_secret(Name="rotating", SecretString="first-value")
    assert key_from("${aws-secret:rotating}", here(aws)) == "first-value"
    manager.put_secret_value(SecretId="rotating", SecretString="second-value")
    assert key_from("${aws-secret:rotating}", here(aws)) == "second-value"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("prod/absent", "'prod/absent': ResourceNotFoundException"),
        ("prod/binary", "no text"),
        ("prod/openai#field", "is not a JSON object"),
        ("prod/all#absent", "no field 'absent' among its fields: list, openai, other, pin"),
        ("prod/all#list", "field 'list' that is no text"),
    ],
)
def test_a_secret_that_cannot_be_had_is_named_and_not_shown(aws: Ministack, reference: str, said: str) -> None:
    assert said in complaint(f"${{aws-secret:{reference}}}", here(aws))


def test_whoever_may_not_read_it_is_told_so(aws: Ministack, monkeypatch: pytest.MonkeyPatch) -> None:
    other = someone(aws, "sqs:*")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", other.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", other.secret_access_key)
    assert "AccessDeniedException" in complaint("${aws-secret:prod/openai}", here(aws))


def test_without_credentials_the_message_says_so(aws: Ministack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert "NoCredentialsError" in complaint("${aws-secret:prod/openai}", here(aws))


def test_without_a_region_the_message_says_where_to_set_it() -> None:
    assert "aws.region" in complaint("${aws-secret:prod/openai}", {})


def test_a_vault_that_is_away_is_an_error_at_once() -> None:
    assert "EndpointConnectionError" in complaint("${aws-secret:prod/openai}", {"region": REGION, "endpoint_url": "http://127.0.0.1:9"})


def test_a_vault_that_does_not_answer_is_an_error_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        said = complaint("${aws-secret:prod/openai}", {"region": REGION, "endpoint_url": url, "timeout_s": 1})
    assert "aws.timeout_s" in said or "Timeout" in said


def test_credentials_that_hang_are_an_error_within_the_deadline(aws: Ministack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    (tmp_path / "program.py").write_text("import time; time.sleep(3)", encoding="utf-8")
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {sys.executable} {tmp_path / 'program.py'}\n", encoding="utf-8")
    assert "aws.timeout_s" in complaint("${aws-secret:prod/openai}", here(aws, timeout_s=1))


def test_what_a_failing_program_prints_is_not_repeated(aws: Ministack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    (tmp_path / "program.py").write_text(f"raise SystemExit({VALUE!r})", encoding="utf-8")
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {sys.executable} {tmp_path / 'program.py'}\n", encoding="utf-8")
    assert "CredentialRetrievalError" in complaint("${aws-secret:prod/openai}", here(aws))


def test_nothing_is_logged_of_the_value_at_any_level(aws: Ministack, caplog: pytest.LogCaptureFixture, reader: Keys) -> None:
    with caplog.at_level(logging.DEBUG):
        key_from("${aws-secret:prod/openai}", here(aws))
    assert not any(value in caplog.text for value in (VALUE, reader.secret_access_key))
