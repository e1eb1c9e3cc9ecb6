"""The settings: one YAML file, each value overridable by an environment variable, nothing read at import."""

from farthing.settings.load import effective, load
from farthing.settings.providers import (
    AnthropicSettings,
    AnyProviderSettings,
    BedrockSettings,
    CooldownSettings,
    DeploymentSettings,
    LiteLLMSettings,
    LocalSettings,
    ModelSettings,
    OpenAICompatibleSettings,
    PriceSettings,
    ProviderSettings,
)
from farthing.settings.sections import (
    CacheSettings,
    DatabaseSettings,
    ExactCacheSettings,
    KeySettings,
    LedgerSettings,
    ServerSettings,
    TelemetrySettings,
)
from farthing.settings.tree import Settings

__all__ = [
    "AnthropicSettings",
    "AnyProviderSettings",
    "BedrockSettings",
    "CacheSettings",
    "CooldownSettings",
    "DatabaseSettings",
    "DeploymentSettings",
    "ExactCacheSettings",
    "KeySettings",
    "LedgerSettings",
    "LiteLLMSettings",
    "LocalSettings",
    "ModelSettings",
    "OpenAICompatibleSettings",
    "PriceSettings",
    "ProviderSettings",
    "ServerSettings",
    "Settings",
    "TelemetrySettings",
    "effective",
    "load",
]
