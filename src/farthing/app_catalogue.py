"""From the settings to the model catalogue: providers, prices, deployments. Part of the composition root."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from pydantic import SecretStr

from farthing.aws.credentials import Keys
from farthing.aws.signing import signer
from farthing.errors import SettingsError
from farthing.orders import LocalEndpoint
from farthing.ports import Embedder, Provider, Signer
from farthing.providers.anthropic import Anthropic
from farthing.providers.bedrock import Bedrock
from farthing.providers.bedrock import model_id as bedrock_model_id
from farthing.providers.litellm import load as load_litellm
from farthing.providers.openai_compatible import OpenAICompatible
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model, RouterName
from farthing.routing.families import family_of
from farthing.routing.hedging import Allowance, Hedge
from farthing.settings import (
    AnthropicSettings,
    BedrockSettings,
    CooldownSettings,
    DeploymentSettings,
    HedgeSettings,
    LiteLLMSettings,
    LocalSettings,
    ModelSettings,
    OpenAICompatibleSettings,
    ProviderSettings,
    Settings,
)
from farthing.spend.price_book import PriceBook, Question
from farthing.spend.prices import from_settings
from farthing.types import Operation, Price

LOCAL = "local"
LOCAL_CHAT = "local"
LOCAL_EMBEDDINGS = "local-embeddings"


def price_questions(settings: Settings) -> list[Question]:
    """What the price data must be asked for: every deployment without a price of its own."""
    return [
        _question(settings.providers[deployment.provider], deployment)
        for model in settings.models.values()
        for deployment in deployments_of(model)
        if deployment.provider != LOCAL and not (deployment.price or model.price)
    ]


def _question(provider: ProviderSettings, deployment: DeploymentSettings) -> Question:
    if isinstance(provider, BedrockSettings):
        return Question(upstream_model=bedrock_model_id(deployment.upstream_model), vendor=provider.prices or "aws")
    model = deployment.upstream_model
    if isinstance(provider, LiteLLMSettings):
        model = model.rpartition("/")[2]  # LiteLLM's names begin with the vendor's: anthropic/claude-sonnet-4-5
    return Question(upstream_model=model, vendor=provider.prices, base_url=provider.base_url)


def deployments_of(model: ModelSettings) -> list[DeploymentSettings]:
    """The deployments of a model, also when it has the short form."""
    if model.deployments:
        return model.deployments
    assert model.provider is not None
    assert model.upstream_model is not None
    return [DeploymentSettings(provider=model.provider, upstream_model=model.upstream_model, price=model.price)]


def providers_of(settings: Settings, local: LocalEndpoint | None, embedder: Embedder | None) -> dict[str, Provider]:
    """Every provider by name, the embedded one included."""
    providers = {name: provider_of(name, one) for name, one in settings.providers.items()}
    if local is not None and embedder is not None:
        providers[LOCAL] = _local_provider(settings.local, local, embedder)
    return providers


def check_providers(settings: Settings) -> None:
    """See that every provider can be made: its package is installed, its headers can be sent. Raises `SettingsError`."""
    for name, one in settings.providers.items():
        if not isinstance(one, LiteLLMSettings):
            provider_of(name, one)
        elif find_spec("litellm") is None:  # importing it to see takes seconds
            raise SettingsError(f"providers.{name}: kind 'litellm' needs the litellm package: pip install 'farthing[litellm]'")


def provider_of(name: str, settings: ProviderSettings) -> Provider:
    """One provider of the settings. Raises `SettingsError`."""
    match settings:
        case OpenAICompatibleSettings():
            return OpenAICompatible(name, settings)
        case AnthropicSettings():
            return Anthropic(name, settings)
        case LiteLLMSettings():
            return load_litellm(name, settings)
        case BedrockSettings():
            return Bedrock(name, settings, _aws_signer(name, settings))
        case _:
            raise SettingsError(f"providers.{name}: there is no provider of kind {settings.kind!r}")


def _aws_signer(name: str, settings: BedrockSettings) -> Signer | None:
    if settings.api_key is not None:
        return None
    given = None
    if settings.access_key_id is not None and settings.secret_access_key is not None:
        given = Keys(
            access_key_id=settings.access_key_id.get_secret_value(),
            secret_access_key=settings.secret_access_key.get_secret_value(),
            session_token=settings.session_token.get_secret_value() if settings.session_token else None,
        )
    deadline_s = settings.connect_timeout_s
    return signer(name, service="bedrock", region=settings.region, profile=settings.profile, keys=given, deadline_s=deadline_s)


def embedder_of(settings: Settings, local: LocalEndpoint | None) -> Embedder | None:
    """The embedder on this machine, for the local models, the semantic cache and learned routers; None when there is none of them."""
    learning = any(router.learned is not None for router in settings.routing.routers.values())
    if local is None and not learning and not (settings.cache.semantic.enabled and settings.cache.exact.enabled):
        return None
    # Imported here so that a gateway without it does not carry the tokenizer in memory.
    from farthing.providers.local.embedder import OnnxEmbedder  # noqa: PLC0415
    from farthing.providers.local.weights import MINILM, locate, locate_tokenizer  # noqa: PLC0415

    return OnnxEmbedder(
        model=locate(MINILM),
        tokenizer=locate_tokenizer(MINILM),
        threads=settings.local.embed_threads,
        max_batch=settings.local.embed_max_batch,
        max_queue=settings.local.embed_max_queue,
    )


def _local_provider(settings: LocalSettings, endpoint: LocalEndpoint, embedder: Embedder) -> Provider:
    # Imported here so that a gateway without local models does not carry the schema checker in memory.
    from farthing.providers.local.provider import LocalModels  # noqa: PLC0415

    chat = OpenAICompatibleSettings(
        kind="openai_compatible",
        base_url=endpoint.base_url,
        api_key=SecretStr(endpoint.api_key),
        max_connections=endpoint.connections,
    )
    return LocalModels(OpenAICompatible(LOCAL, chat), embedder, restart_wait_s=settings.restart_wait_s)


def models_of(settings: Settings) -> dict[str, ModelSettings]:
    """The models of the settings, and the embedded ones unless they are off or their names are taken."""
    models = dict(settings.models)
    if settings.local.enabled:
        chat = ModelSettings(
            provider=LOCAL, upstream_model="smollm2-135m", tags=["free", "cheap"], context_tokens=settings.local.context_tokens
        )
        models.setdefault(LOCAL_CHAT, chat)
        embeddings = ModelSettings(provider=LOCAL, upstream_model="all-minilm-l6-v2", tags=["free"], kind="embeddings", context_tokens=256)
        models.setdefault(LOCAL_EMBEDDINGS, embeddings)
    return models


def catalogue_of(settings: Settings, providers: Mapping[str, Provider], book: PriceBook, routers: Sequence[RouterName] = ()) -> Catalogue:
    """The catalogue."""
    models = [_model(name, model, settings, providers, book) for name, model in models_of(settings).items()]
    return Catalogue(models, random.Random(), routers)  # noqa: S311 - spreads load, guards nothing


def _model(name: str, model: ModelSettings, settings: Settings, providers: Mapping[str, Provider], book: PriceBook) -> Model:
    found = deployments_of(model)
    return Model(
        name=name,
        operation=Operation(model.kind),
        deployments=tuple(_deployment(name, model, one, settings, providers, book) for one in found),
        fallbacks=tuple(model.fallbacks),
        context_tokens=model.context_tokens,
        context_fallbacks=tuple(model.context_fallbacks),
        parameters=model.parameters,
        tags=tuple(model.tags),
        hedge=_hedge(model.hedge),
        owner=found[0].provider,
    )


def _hedge(settings: HedgeSettings | None) -> Hedge | None:
    if settings is None:
        return None
    return Hedge(after_s=settings.after_s, allowance=Allowance(settings.share), same=settings.same)


def _deployment(
    name: str, model: ModelSettings, one: DeploymentSettings, settings: Settings, providers: Mapping[str, Provider], book: PriceBook
) -> Deployment:
    provider = settings.providers.get(one.provider)
    cooldown = provider.cooldown if provider else CooldownSettings()
    return Deployment(
        model=name,
        provider=providers[one.provider],
        upstream_model=one.upstream_model,
        weight=one.weight,
        price=_price(model, one, provider, settings, book),
        retries=provider.retries if provider else 1,
        cooldown=Cooldown(cooldown.failures, cooldown.seconds, time.monotonic),
        family=model.family or family_of(one.upstream_model),
    )


def _price(model: ModelSettings, one: DeploymentSettings, provider: ProviderSettings | None, settings: Settings, book: PriceBook) -> Price:
    given = one.price or model.price
    if given is not None:
        return from_settings(given)
    if provider is None:
        return from_settings(settings.local.price, notional=True)
    return book.price(_question(provider, one))
