from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import ValidationError

from farthing import app_catalogue
from farthing.app_catalogue import check_providers, price_questions, provider_of
from farthing.errors import SettingsError
from farthing.settings import BedrockSettings, Settings

KEYS = {"access_key_id": "AKIA1", "secret_access_key": "s"}


def bedrock(**more: Any) -> BedrockSettings:
    return BedrockSettings.model_validate({"kind": "bedrock", "region": "us-gov-west-1", **more})


@pytest.mark.parametrize("identity", [{}, KEYS, {**KEYS, "session_token": "t"}, {"profile": "ops"}, {"api_key": "b"}])
def test_one_identity_is_enough(identity: dict[str, str]) -> None:
    assert bedrock(**identity).region == "us-gov-west-1"


@pytest.mark.parametrize(
    "identity",
    [
        {"access_key_id": "AKIA1"},
        {"secret_access_key": "s"},
        {"session_token": "t"},
        {**KEYS, "profile": "ops"},
        {**KEYS, "api_key": "b"},
        {"profile": "ops", "api_key": "b"},
    ],
)
def test_half_an_identity_or_two_are_refused(identity: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        bedrock(**identity)


@pytest.mark.parametrize("region", ["", "useast1", "us-east", "us-east-1.evil.example", "US-EAST-1", "us-east-1\n"])
def test_a_region_is_a_region_and_not_part_of_another_host(region: str) -> None:
    with pytest.raises(ValidationError):
        bedrock(region=region)


@pytest.mark.parametrize("kind", ["bedrock", "litellm"])
def test_a_package_that_is_missing_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    monkeypatch.setattr(app_catalogue, "find_spec", lambda _: None)
    more = {"region": "us-east-1"} if kind == "bedrock" else {}
    with pytest.raises(SettingsError, match=r"providers\.up.*pip install 'farthing\["):
        check_providers(Settings.model_validate({"providers": {"up": {"kind": kind, **more}}}))


def test_an_api_key_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    check_providers(Settings.model_validate({"providers": {"up": bedrock(api_key="b").model_dump()}}))


def test_an_api_key_with_a_line_end_is_told_at_the_start() -> None:
    with pytest.raises(SettingsError, match="authorization"):
        provider_of("up", bedrock(api_key="b\r\nx-evil: 1"))


def test_the_price_of_an_arn_is_looked_up_by_the_model_in_it() -> None:
    model = {"provider": "up", "upstream_model": "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0"}
    settings = Settings.model_validate({"providers": {"up": bedrock().model_dump()}, "models": {"nova": model}})
    (question,) = price_questions(settings)
    assert (question.upstream_model, question.vendor, question.base_url) == ("us.amazon.nova-pro-v1:0", "aws", None)
