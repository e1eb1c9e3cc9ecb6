"""Amazon Bedrock under the contract of all providers, over a server that speaks its wire."""

from __future__ import annotations

from typing import Any

from farthing.app_catalogue import provider_of
from farthing.ports import Provider
from farthing.settings import BedrockSettings
from farthing.testing.bedrock import BedrockVendor
from farthing.testing.providers import ProviderContract


class TestBedrock(ProviderContract):
    vendor = BedrockVendor()

    def provider(self, url: str, **settings: Any) -> Provider:
        given = {
            "kind": "bedrock",
            "region": "eu-central-1",
            "base_url": url,
            "access_key_id": "AKIACONTRACT00000000",
            "secret_access_key": self.secret,
            "session_token": f"token-{self.secret}",
        }
        return provider_of("up", BedrockSettings.model_validate({**given, **settings}))
