"""The settings: one YAML file, each value overridable by an environment variable, nothing read at import.

`FARTHING_SERVER__PORT=9000` overrides `server.port`: the prefix, then the path in capitals, levels joined by two underscores; the value is
YAML. `${NAME}` inside a value of the file stands for an environment variable. A name that no setting has is an error that proposes the
nearest one: a misspelt budget must not be a missing budget.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from farthing.errors import SettingsError
from farthing.types import Json

PREFIX = "FARTHING_"
RESERVED = frozenset({"FARTHING_DATA", "FARTHING_SETTINGS"})
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]
Usd = Annotated[Decimal, Field(ge=0, le=1_000_000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(_Section):
    """The HTTP door."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    max_body_bytes: Count = 20 * 2**20
    max_in_flight: Count = 4096
    """Requests under way in one worker; further ones are answered 503."""
    header_timeout_s: Seconds = 10
    body_timeout_s: Seconds = 30
    drain_s: Seconds = 30
    """After SIGTERM, how long answers under way may take to finish."""


class DatabaseSettings(_Section):
    """PostgreSQL. Without a URL, the embedded one in the data folder."""

    url: SecretStr | None = None
    pool_size: Annotated[int, Field(ge=1, le=100)] = 4
    statement_timeout_s: Seconds = 10
    connect_timeout_s: Seconds = 3


class PriceSettings(_Section):
    """US dollars per million tokens."""

    input_usd_per_1m: Usd
    output_usd_per_1m: Usd = Decimal(0)
    cache_read_usd_per_1m: Usd | None = None
    """Of input tokens that the provider read from its prompt cache; the input price unless set."""
    cache_write_usd_per_1m: Usd | None = None


class LocalSettings(_Section):
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


class CooldownSettings(_Section):
    """After `failures` failures in a row a deployment is left alone for `seconds`, if there is another one to turn to."""

    failures: Count = 3
    seconds: Seconds = 30


class ProviderSettings(_Section):
    """A vendor or server that speaks OpenAI's protocol."""

    kind: Literal["openai_compatible"]
    base_url: str
    api_key: SecretStr | None = None
    headers: dict[str, SecretStr] = {}
    """Sent with each request, for vendors that want more than a bearer key."""
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
    stream_usage: bool = True
    """Ask for usage in streams (`stream_options.include_usage`). Off for servers that refuse the field."""
    cooldown: CooldownSettings = CooldownSettings()

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not re.match(r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", value):
            msg = "must be an http:// or https:// URL without user, query or fragment, such as https://api.openai.com/v1"
            raise ValueError(msg)
        _ = urlsplit(value).port  # raises ValueError when there cannot be such a port
        return value.rstrip("/")


class DeploymentSettings(_Section):
    """One way to reach a model."""

    provider: str
    upstream_model: Annotated[str, Field(min_length=1, max_length=256)]
    weight: Annotated[int, Field(ge=0, le=1000)] = 1
    """Share of the traffic. Zero: only a fallback."""
    price: PriceSettings | None = None


class ModelSettings(_Section):
    """A name that callers use. Either `provider` and `upstream_model`, or several `deployments`."""

    provider: str | None = None
    upstream_model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    deployments: list[DeploymentSettings] = []
    fallbacks: list[str] = []
    """Other catalogue names, tried in order when every deployment has failed before its first token."""
    kind: Literal["chat", "embeddings"] = "chat"
    context_tokens: Count | None = None
    tags: list[str] = []
    price: PriceSettings | None = None

    @model_validator(mode="after")
    def _one_way(self) -> ModelSettings:
        if bool(self.provider) == bool(self.deployments):
            msg = "needs either provider and upstream_model, or deployments"
            raise ValueError(msg)
        if self.provider and not self.upstream_model:
            msg = "upstream_model is missing: the provider's own name for the model"
            raise ValueError(msg)
        return self


class ExactCacheSettings(_Section):
    """The exact cache. See docs/cache.md for what is part of its key."""

    enabled: bool = True
    ttl_s: Annotated[float, Field(gt=0, le=31_536_000)] = 86_400
    max_temperature: Annotated[float, Field(ge=0, le=2)] = 2
    """Requests hotter than this are not cached; a request that names no temperature counts as 1."""
    max_bytes: Count = 16 * 2**20
    """Answers kept in a worker's memory."""
    max_entry_bytes: Count = 2**20
    max_chunks: Count = 20_000
    """A stream of more chunks is not kept."""
    follow_timeout_s: Seconds = 60
    """How long a request waits for an identical one that is under way, before it asks the model itself."""
    max_rows: Count = 200_000
    """Answers kept in PostgreSQL."""
    max_known_keys: Count = 100_000
    """Keys of answers in PostgreSQL that a worker remembers; a miss among them asks nobody."""
    read_timeout_s: Seconds = 0.1
    write_queue: Count = 2048
    """Answers that wait to be written to PostgreSQL. When it is full, new ones stay in this worker's memory only."""
    write_rate: Count = 100
    """Answers a second that a worker writes to PostgreSQL at most: under a flood of new questions the database is not the victim."""


class CacheSettings(_Section):
    """The caches."""

    exact: ExactCacheSettings = ExactCacheSettings()


class KeySettings(_Section):
    """Virtual keys."""

    refresh_s: Seconds = 10
    """Staleness bound: a revoked key stops working everywhere within this time (at once where LISTEN/NOTIFY works)."""
    max_cached: Count = 100_000


class LedgerSettings(_Section):
    """The ledger's way to PostgreSQL."""

    flush_interval_s: Seconds = 0.25
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    segment_bytes: Count = 8 * 2**20
    max_spool_bytes: Count = 512 * 2**20
    """On disk, while PostgreSQL is away. Beyond it, entries are dropped, counted and logged."""
    unauthenticated_rows_per_minute: Annotated[int, Field(ge=0)] = 60
    """Requests without a valid key are recorded at most at this rate; all are counted in the metrics."""


class TelemetrySettings(_Section):
    """Metrics are always at /metrics. Nothing is sent anywhere unless `otlp_endpoint` is set."""

    otlp_endpoint: str | None = None
    otlp_headers: dict[str, SecretStr] = {}
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the requests that get spans, unless the caller's `traceparent` says that it is sampled."""
    export_interval_s: Seconds = 15
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_requests: bool = False
    """One log line a request. Never holds prompt or answer text."""


class Settings(_Section):
    """All of them."""

    data: Path = Path(".farthing")
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    local: LocalSettings = LocalSettings()
    providers: dict[str, ProviderSettings] = {}
    models: dict[str, ModelSettings] = {}
    cache: CacheSettings = CacheSettings()
    keys: KeySettings = KeySettings()
    ledger: LedgerSettings = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _names_meet(self) -> Settings:
        local = {"local"} if self.local.enabled else set()
        for name, model in self.models.items():
            if not re.fullmatch(r"[A-Za-z0-9._:/@-]{1,128}", name):
                msg = f"models.{name}: a model name has 1 to 128 letters, digits and . _ : / @ -"
                raise ValueError(msg)
            used = [model.provider] if model.provider else [d.provider for d in model.deployments]
            for provider in used:
                _must_be_one_of(f"models.{name}.provider", provider, set(self.providers) | local)
            for fallback in model.fallbacks:
                _must_be_one_of(f"models.{name}.fallbacks", fallback, set(self.models) | ({"local"} if local else set()))
                kind = self.models[fallback].kind if fallback in self.models else "chat"
                if kind != model.kind:
                    msg = f"models.{name}.fallbacks: {fallback!r} is for {kind}, {name!r} for {model.kind}"
                    raise ValueError(msg)
        if "local" in self.providers:
            msg = "providers.local: the name belongs to the embedded models (see the section local)"
            raise ValueError(msg)
        return self


def _must_be_one_of(where: str, name: str | None, names: set[str]) -> None:
    if name not in names:
        msg = f"{where}: there is no {name!r}{_nearest(str(name), names)}"
        raise ValueError(msg)


def _nearest(name: str, names: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(names)) or 'none'}"


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the file (none: defaults), lay the environment over it, then `overrides` ({"server.port": 1}), and validate.

    Raises `SettingsError` that names each wrong key.
    """
    tree = _interpolate(_read(path), environ, "") if path else {}
    if "FARTHING_DATA" in environ:
        tree["data"] = environ["FARTHING_DATA"]
    for name, text in environ.items():
        if name.startswith(PREFIX) and name not in RESERVED:
            _put(tree, name.removeprefix(PREFIX).lower().split("__"), _value(name, text), name)
    for dotted, value in (overrides or {}).items():
        _put(tree, dotted.split("."), value, dotted)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(item) for item in error.errors())) from None


def _read(path: Path) -> Json:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"the settings file {path} must hold named sections (a YAML mapping), not a {type(tree).__name__}")
    return tree


def _value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"{name}: the value is not YAML; put it in quotes") from None


def _interpolate(value: Any, environ: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(item, environ, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolate(item, environ, f"{where}[{at}]") for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise SettingsError(f"{where}: the environment variable {match[1]} is not set")
        return environ[match[1]]

    return _REFERENCE.sub(look_up, value)


def _put(tree: Json, path: list[str], value: Any, name: str) -> None:
    for part in path[:-1]:
        below = tree.setdefault(part, {})
        if not isinstance(below, dict):
            raise SettingsError(f"{name}: {part!r} is a value, not a section")
        tree = below
    tree[path[-1]] = value


def _explain(item: ErrorDetails) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{where}: there is no such setting{_nearest(str(item['loc'][-1]), _names_at(item['loc'][:-1]))}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _names_at(loc: tuple[int | str, ...]) -> set[str]:
    """The names that are valid at a place in the tree. Below a dict or list, the next part of the place is any key or index."""
    here: Any = Settings
    for part in loc:
        if get_origin(here) in (Union, UnionType):  # an optional section
            here = get_args(here)[0]
        if get_origin(here) in (dict, list):
            here = get_args(here)[-1]
        elif isinstance(here, type) and issubclass(here, BaseModel) and str(part) in here.model_fields:
            here = here.model_fields[str(part)].annotation
    if get_origin(here) in (Union, UnionType):
        here = get_args(here)[0]
    return set(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else set()


def effective(settings: Settings) -> str:
    """The settings as YAML, secrets masked."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
