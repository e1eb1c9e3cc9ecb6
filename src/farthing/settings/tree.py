"""All sections together."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import model_validator

from farthing.settings.basic import Section
from farthing.settings.cache import CacheSettings
from farthing.settings.checks import models_asked
from farthing.settings.config import ConfigSettings
from farthing.settings.contexts import check_context_fallbacks
from farthing.settings.events import EventSettings
from farthing.settings.feedback import FeedbackSettings
from farthing.settings.foresight import ForesightSettings
from farthing.settings.jobs import JobSettings
from farthing.settings.memory import MemorySettings
from farthing.settings.modes import ModesSettings
from farthing.settings.names import MODEL_NAME, must_be_one_of
from farthing.settings.prompts import PROMPT_NAME, PromptSettings
from farthing.settings.providers import WITHOUT_LOGPROBS, AnyProviderSettings, AwsSettings, LocalSettings, ModelSettings
from farthing.settings.routing import RoutingSettings
from farthing.settings.sections import (
    BudgetSettings,
    CompletionsSettings,
    DatabaseSettings,
    GenerateSettings,
    KeySettings,
    LedgerSettings,
    LimitsSettings,
    RedisSettings,
    ResponsesSettings,
    RetentionSettings,
    ServerSettings,
    TelemetrySettings,
)
from farthing.types import Mode


class Settings(Section):
    """All of them."""

    data: Path = Path(".farthing")
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    local: LocalSettings = LocalSettings()
    providers: dict[str, AnyProviderSettings] = {}
    models: dict[str, ModelSettings] = {}
    prompts: dict[str, PromptSettings] = {}
    cache: CacheSettings = CacheSettings()
    keys: KeySettings = KeySettings()
    ledger: LedgerSettings = LedgerSettings()
    limits: LimitsSettings = LimitsSettings()
    budgets: BudgetSettings = BudgetSettings()
    responses: ResponsesSettings = ResponsesSettings()
    completions: CompletionsSettings = CompletionsSettings()
    generate: GenerateSettings = GenerateSettings()
    routing: RoutingSettings = RoutingSettings()
    modes: ModesSettings = ModesSettings()
    config: ConfigSettings = ConfigSettings()
    retention: RetentionSettings = RetentionSettings()
    events: EventSettings = EventSettings()
    jobs: JobSettings = JobSettings()
    memory: MemorySettings = MemorySettings()
    foresight: ForesightSettings = ForesightSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    aws: AwsSettings = AwsSettings()

    def ladder(self) -> tuple[Mode, ...]:
        """The modes that there are, the best one first. At least one."""
        return self.modes.rungs(self.budgets.free_model or ("local" if self.local.enabled else None))

    @model_validator(mode="after")
    def _back_ends_are_there(self) -> Settings:
        if self.cache.semantic.backend == "redis" and self.redis.url is None:
            msg = "cache.semantic.backend: redis needs redis.url, such as rediss://user:password@host:6379"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _names_meet(self) -> Settings:
        local = {"local"} if self.local.enabled else set()
        for name, model in self.models.items():
            self._check_model(name, model, local)
        chat = {name for name, model in self.models.items() if model.kind == "chat"} | local
        if self.budgets.free_model is not None:
            must_be_one_of("budgets.free_model", self.budgets.free_model, chat)
        for where, chosen in self.generate.named().items():
            must_be_one_of(where, chosen, chat | set(self.routing.routers))
        judge = {} if self.cache.semantic.judge.model is None else {"cache.semantic.judge.model": self.cache.semantic.judge.model}
        ceilings = {f"modes.ladder.{name}.model": rung.model for name, rung in self.modes.ladder.items() if rung.model is not None}
        extractor = {} if self.memory.extractor.model is None else {"memory.extractor.model": self.memory.extractor.model}
        for where, chosen in {**ceilings, **judge, **extractor}.items():
            must_be_one_of(where, chosen, chat)
        self.foresight.check_models(chat | set(self.routing.routers))
        self.routing.check_names(chat, set(self.models) | local | ({"local-embeddings"} if local else set()))
        if "local" in self.providers:
            msg = "providers.local: the name belongs to the embedded models (see the section local)"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _log_probabilities_can_be_asked_for(self) -> Settings:
        silent = {name for name, provider in self.providers.items() if provider.kind in WITHOUT_LOGPROBS}
        for name, router in self.routing.routers.items():
            for place, asked in models_asked(router.cascade.checks if router.cascade else ()).items():
                model = self.models.get(asked)
                used = set() if model is None else {model.provider, *(one.provider for one in model.deployments)}
                if used & silent:
                    msg = f"routing.routers.{name}.cascade.checks.{place}: the provider of {asked!r} tells no log-probabilities"
                    raise ValueError(msg)
        return self

    def _check_model(self, name: str, model: ModelSettings, local: set[str]) -> None:
        if not MODEL_NAME.fullmatch(name):
            msg = f"models.{name}: a model name has 1 to 128 letters, digits and . _ : / @ -"
            raise ValueError(msg)
        for provider in [model.provider] if model.provider else [d.provider for d in model.deployments]:
            must_be_one_of(f"models.{name}.provider", provider, set(self.providers) | local)
        for fallback in model.fallbacks:
            must_be_one_of(f"models.{name}.fallbacks", fallback, set(self.models) | local)
            if fallback == name:
                msg = f"models.{name}.fallbacks: {name!r} cannot fall back to itself"
                raise ValueError(msg)
            kind = self.models[fallback].kind if fallback in self.models else "chat"
            if kind != model.kind:
                msg = f"models.{name}.fallbacks: {fallback!r} is for {kind}, {name!r} for {model.kind}"
                raise ValueError(msg)

    @model_validator(mode="after")
    def _long_requests_find_room(self) -> Settings:
        names = set(self.models) | ({"local"} if self.local.enabled else set())
        for name, model in self.models.items():
            for other in model.context_fallbacks:
                must_be_one_of(f"models.{name}.context_fallbacks", other, names)
        check_context_fallbacks(self.models, self.local)
        return self

    @model_validator(mode="after")
    def _prompts_can_be_named(self) -> Settings:
        for name in self.prompts:
            if not re.fullmatch(PROMPT_NAME, name):
                msg = f"prompts.{name[:64]}: a prompt's name has 1 to 64 letters, digits and . _ -"
                raise ValueError(msg)
        return self
