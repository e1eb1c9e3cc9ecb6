"""The sections on providers and models."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from farthing.settings.basic import Count, Seconds, Section, Usd
from farthing.settings.hedging import HedgeSettings
from farthing.settings.shaping import ParameterSettings


class PriceSettings(Section):
    """US dollars per million tokens."""

    input_usd_per_1m: Usd
    output_usd_per_1m: Usd = Decimal(0)
    cache_read_usd_per_1m: Usd | None = None
    """Of input tokens that the provider read from its prompt cache; the input price unless set."""
    cache_write_usd_per_1m: Usd | None = None
    cache_write_1h_usd_per_1m: Usd | None = None
    """Of input tokens written to be kept for an hour (Anthropic); as `cache_write_usd_per_1m` unless set."""


class LocalSettings(Section):
    """The embedded models. `local` and `local-embeddings` join the catalogue unless it is off."""

    enabled: bool = True
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """Conversations that the chat model holds at the same time."""
    context_tokens: Annotated[int, Field(ge=256, le=8192)] = 2048
    """Of each of them."""
    threads: Annotated[int, Field(ge=1, le=64)] | None = None
    restart_wait_s: Seconds = 20
    """How long a request waits for a model process that is being restarted."""
    embed_threads: Annotated[int, Field(ge=1, le=16)] = 1
    embed_max_batch: Annotated[int, Field(ge=1, le=256)] = 16
    embed_max_queue: Annotated[int, Field(ge=1, le=100_000)] = 2048
    """Texts that may wait for the embedder; more are refused with 503."""
    price: PriceSettings = PriceSettings(input_usd_per_1m=Decimal("0.15"), output_usd_per_1m=Decimal("0.60"))
    """Notional: nobody bills it. It makes savings visible, and reports say that it is notional."""


class CooldownSettings(Section):
    """After `failures` failures in a row a deployment is left alone for `seconds`, if there is another one to turn to."""

    failures: Count = 3
    seconds: Seconds = 30


def _http_url(value: str) -> str:
    if not re.match(r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", value):
        msg = "must be an http:// or https:// URL without user, query or fragment, such as https://api.openai.com/v1"
        raise ValueError(msg)
    _ = urlsplit(value).port  # raises ValueError when there cannot be such a port
    return value.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]


AwsRegion = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]


class ProviderSettings(Section):
    """What every kind of provider has."""

    kind: str
    base_url: HttpUrl | None = None
    prices: str | None = None
    """The vendor's id in the genai-prices data; guessed from the model name and URL unless set."""
    connect_timeout_s: Seconds = 5
    first_token_timeout_s: Seconds = 120
    idle_timeout_s: Seconds = 60
    """Between two pieces of an answer."""
    total_timeout_s: Seconds = 900
    max_connections: Count = 512
    max_response_bytes: Count = 64 * 2**20
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """Further attempts, before the first token, at the same deployment when the connection fails and no other deployment is left."""
    cooldown: CooldownSettings = CooldownSettings()


class OpenAICompatibleSettings(ProviderSettings):
    """A vendor or server that speaks OpenAI's protocol."""

    kind: Literal["openai_compatible"]
    base_url: HttpUrl
    api_key: SecretStr | None = None
    headers: dict[str, SecretStr] = {}
    """Sent with each request, for vendors that want more than a bearer key."""
    stream_usage: bool = True
    """Ask for usage in streams (`stream_options.include_usage`). Off for servers that refuse the field."""
    anthropic_fields: bool | None = None
    """Hand on what only Anthropic's models understand (`cache_control`, `thinking`, `thinking_blocks`, …). Unless it is set, servers of
    OpenAI and Azure, which refuse such fields, do not get them, and all others do."""


class AnthropicSettings(ProviderSettings):
    """Anthropic's Messages API, or a server that speaks it."""

    kind: Literal["anthropic"]
    base_url: HttpUrl = "https://api.anthropic.com"
    api_key: SecretStr | None = None
    headers: dict[str, SecretStr] = {}
    """Sent with each request, such as `anthropic-beta`."""
    version: str = "2023-06-01"
    """The header `anthropic-version`."""
    max_tokens: Count = 4096
    """Sent when the caller names no `max_tokens`, which Anthropic requires."""


class BedrockSettings(ProviderSettings):
    """Amazon Bedrock's Converse API. Credentials come from where AWS SDKs look (environment, profile, role) unless they are given."""

    kind: Literal["bedrock"]
    region: AwsRegion
    """Its endpoint is called unless `base_url` names another, such as a VPC endpoint or an emulator."""
    profile: str | None = None
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    api_key: SecretStr | None = None
    """A Bedrock API key, sent instead of a signature. Without the others, boto3 is not needed."""

    @model_validator(mode="after")
    def _one_identity(self) -> BedrockSettings:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            msg = "access_key_id and secret_access_key go together"
            raise ValueError(msg)
        if self.session_token and not self.access_key_id:
            msg = "session_token goes with access_key_id and secret_access_key"
            raise ValueError(msg)
        if sum(map(bool, (self.profile, self.access_key_id, self.api_key))) > 1:
            msg = "one of profile, access_key_id and api_key says who we are, not several"
            raise ValueError(msg)
        return self


class AwsSettings(Section):
    """Where `${aws-secret:NAME}` in this file is looked up: AWS Secrets Manager. Providers have settings of their own."""

    region: AwsRegion | None = None
    """Unless it is set, the region that AWS's own tools would take. An ARN names its own."""
    profile: str | None = None
    """In the user's AWS files. Unless it is set, credentials come from where AWS's own tools look."""
    endpoint_url: HttpUrl | None = None
    """Such as a VPC endpoint, or an emulator."""
    timeout_s: Seconds = 10
    """For all secrets of one load together."""


class LiteLLMSettings(ProviderSettings):
    """Anything that the `litellm` package can reach (`pip install farthing[litellm]`)."""

    kind: Literal["litellm"]
    api_key: SecretStr | None = None
    options: dict[str, str | int | float | bool] = {}
    """Handed to `litellm.acompletion` with each call, such as `api_version`."""


WITHOUT_LOGPROBS = frozenset({"anthropic", "bedrock"})
"""Kinds of providers that refuse to be asked for log-probabilities."""

AnyProviderSettings = Annotated[
    OpenAICompatibleSettings | AnthropicSettings | BedrockSettings | LiteLLMSettings, Field(discriminator="kind")
]


class DeploymentSettings(Section):
    """One way to reach a model."""

    provider: str
    upstream_model: Annotated[str, Field(min_length=1, max_length=256)]
    weight: Annotated[int, Field(ge=0, le=1000)] = 1
    """Share of the traffic. Zero: only a fallback."""
    price: PriceSettings | None = None


class ModelSettings(Section):
    """A name that callers use. Either `provider` and `upstream_model`, or several `deployments`."""

    provider: str | None = None
    upstream_model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    deployments: list[DeploymentSettings] = []
    fallbacks: list[str] = []
    """Other catalogue names, tried in order when every deployment has failed before its first token."""
    kind: Literal["chat", "embeddings"] = "chat"
    context_tokens: Count | None = None
    context_fallbacks: list[str] = []
    """Other catalogue names, with larger contexts, in order: a request that is too long for this model goes to the first that it fits."""
    family: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,32}$")] | None = None
    """Which variant of a prompt it gets. Guessed from the upstream model's name unless set: claude, gpt, llama, gemma, mistral, …"""
    parameters: ParameterSettings | None = None
    """What is sent to it instead of what the caller sent."""
    tags: list[str] = []
    price: PriceSettings | None = None
    hedge: HedgeSettings | None = None

    @model_validator(mode="after")
    def _parameters_fit(self) -> ModelSettings:
        if self.kind == "embeddings" and self.parameters is not None and self.parameters.only_for_chat:
            msg = "parameters: embeddings have only `drop` and `set`"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _one_way(self) -> ModelSettings:
        if bool(self.provider) == bool(self.deployments):
            msg = "needs either provider and upstream_model, or deployments"
            raise ValueError(msg)
        if self.provider and not self.upstream_model:
            msg = "upstream_model is missing: the provider's own name for the model"
            raise ValueError(msg)
        return self
