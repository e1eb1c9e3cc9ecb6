"""The sections on the gateway itself: server, database, caches, keys, ledger, telemetry."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from farthing.budgets import parse
from farthing.errors import InvalidRequest
from farthing.settings.basic import Count, Seconds, Section
from farthing.settings.cloudwatch import CloudWatchSettings


class ServerSettings(Section):
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
    """After SIGTERM, how long answers under way may take to finish. What is left then is ended with an error."""
    ready_s: Seconds = 60
    """At a reload, how long the new workers may take to be ready. When they are not, they end and the old ones stay."""


class DatabaseSettings(Section):
    """PostgreSQL. Without a URL, the embedded one in the data folder."""

    url: SecretStr | None = None
    pool_size: Annotated[int, Field(ge=1, le=100)] = 4
    statement_timeout_s: Seconds = 10
    connect_timeout_s: Seconds = 3
    probe_interval_s: Seconds = 2
    """How often a worker looks whether the database is there, for /readyz."""


_REDIS_URL = re.compile(r"(rediss?://[^\s/?#]+/?(0)?|unix://(?:[^\s/?#@]*@)?/[^\s?#]+)(\?[^\s#]*)?")
_REDIS_OPTIONS = frozenset({"db", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
"""What may follow the `?`. Others of redis-py's would undo what the adapter rests on: its time-outs, the check of certificates."""


class RedisSettings(Section):
    """Redis or Valkey with vector search, for the semantic cache. See docs/redis.md. Without a URL there is none."""

    url: SecretStr | None = None
    """`rediss://user:password@host:6379` with TLS, `redis://…` without, or `unix:///path`."""
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 8
    """Connections of each worker at most."""
    connect_timeout_s: Seconds = 1
    timeout_s: Seconds = 0.1
    """How long a search may take; a slower one is a miss."""
    write_timeout_s: Seconds = 2
    """How long storing or deleting some hundred questions may take."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "farthing"
    """Of all keys and of the index, so that several installations may share a Redis."""
    vector_type: Literal["float32", "float16"] = "float32"
    """Of the vectors in Redis. `float16` takes half the memory and loses nothing; Valkey, ElastiCache and MemoryDB do not have it."""

    @field_validator("url")
    @classmethod
    def _is_one(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        given = value.get_secret_value()
        found = _REDIS_URL.fullmatch(given)
        if found is None:
            msg = "must be a rediss://, redis:// or unix:// URL, and of database 0, the only one that can be searched"
            raise ValueError(msg)
        try:
            _ = urlsplit(given).port
        except ValueError:
            msg = "has no valid port"
            raise ValueError(msg) from None
        options = dict(parse_qsl(urlsplit(given).query, keep_blank_values=True))
        if unknown := options.keys() - _REDIS_OPTIONS:
            msg = f"has options that are not allowed here: {', '.join(sorted(unknown))}; known: {', '.join(sorted(_REDIS_OPTIONS))}"
            raise ValueError(msg)
        if options.get("db", "0") != "0":
            msg = "must be of database 0, the only one that can be searched"
            raise ValueError(msg)
        return value


class KeySettings(Section):
    """Virtual keys."""

    refresh_s: Seconds = 10
    """Staleness bound: a revoked key stops working everywhere within this time (at once where LISTEN/NOTIFY works)."""
    max_cached: Count = 100_000


PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]


class KeyLimitSettings(Section):
    """Limits of one key on one host. What is not named is not limited."""

    requests_per_minute: PerMinute | None = None
    """As many at once, and from then on one every 60/n seconds."""
    tokens_per_minute: PerMinute | None = None
    """Input and output tokens of model calls. Answers from a cache use none."""
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests under way at the same time, streams included."""


class LimitsSettings(Section):
    """Rate limits of keys, and how many requests wait where. See docs/limits.md."""

    default: KeyLimitSettings = KeyLimitSettings()
    tiers: dict[str, KeyLimitSettings] = {}
    """By the tier of the key. What a tier does not name is as in `default`; what a key says itself goes before both."""
    max_keys: Annotated[int, Field(ge=64, le=1_000_000)] = 16_384
    """Keys with limits that a host tells apart. Beyond it the one that was idle longest starts afresh."""
    max_wait_s: Seconds = 10
    """How long a request waits for its turn: for another one of its key to end, or for a model call of its worker to end."""
    max_queue: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Requests of one key that wait in one worker because of its concurrency; further ones are refused with 429."""
    max_calls: Count = 1024
    """Model calls under way in one worker."""
    max_queued_calls: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Requests that wait for one of them to end; further ones are refused with 503."""


class LedgerSettings(Section):
    """The ledger's way to PostgreSQL."""

    flush_interval_s: Seconds = 0.25
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    segment_bytes: Count = 8 * 2**20
    max_spool_bytes: Count = 512 * 2**20
    """On disk for each worker, while PostgreSQL is away. Beyond it, entries wait in memory."""
    max_in_memory: Count = 10_000
    """Entries of a worker for which the disk has no room. Beyond it, entries are dropped, counted and logged."""
    fsync: Literal["never", "batch"] = "never"
    """`batch`: what is on disk only is synced every `flush_interval_s`, so that a power cut loses no more than that."""
    unauthenticated_rows_per_minute: Annotated[int, Field(ge=0)] = 60
    """Requests without a valid key are recorded at most at this rate; all are counted in the metrics."""


class ResponsesSettings(Section):
    """What is kept of `/v1/responses`, so that `previous_response_id` works. See docs/responses.md."""

    enabled: bool = True
    """Off: nothing is kept, whatever `store` says, and conversations cannot be continued by id."""
    ttl_s: Annotated[float, Field(gt=0, le=31_536_000)] = 86_400
    """How long a turn lives. Continuing a conversation renews the turns before."""
    max_turns: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Of one conversation; a longer one cannot be continued by id."""
    max_conversation_bytes: Count = 16 * 2**20
    """Read to continue a conversation at most."""
    max_turn_bytes: Count = 8 * 2**20
    """A larger turn is answered but not kept."""
    rows_per_tenant: Count = 100_000
    bytes_per_tenant: Count = 2**30
    """Beyond these, a tenant's oldest turns go."""
    total_bytes: Count = 8 * 2**30
    """Beyond this, the oldest turns of all tenants go."""
    read_timeout_s: Seconds = 1
    write_timeout_s: Seconds = 1
    """How long the end of an answer waits for PostgreSQL to have its turn. After that the worker keeps it and writes it later."""
    max_pending_turns: Count = 10_000
    max_pending_bytes: Count = 32 * 2**20
    """Turns that a worker keeps until PostgreSQL is back. Beyond it the oldest are lost, counted and logged."""


class CompletionsSettings(Section):
    """`/v1/completions` with several prompts."""

    max_prompts: Annotated[int, Field(ge=1, le=2048)] = 128
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Prompts of one request that are answered at the same time."""


class SocketSettings(Section):
    """The WebSocket `/api/v1/generate/ws`. Messages are at most `server.max_body_bytes`."""

    max_connections: Count = 1024
    """Open in one worker; further ones are answered 503."""
    max_connections_per_key: Count = 128
    """The same for one key, so that no caller takes them all."""
    max_requests: Annotated[int, Field(ge=1, le=1000)] = 8
    """Under way on one connection; further ones get an error."""
    idle_s: Seconds = 300
    """A connection without requests is closed after this time."""
    ping_interval_s: Seconds = 20
    ping_timeout_s: Seconds = 20
    """A client that does not answer a ping, or does not read what was sent before it, within this time is cut off."""
    allowed_origins: list[str] = []
    """Pages that may connect, such as https://app.example.com; `*` for all. Pages from the gateway's own host may without."""


class GenerateSettings(Section):
    """`/api/v1/generate`: which model answers who names none. See docs/generate.md."""

    model: str | None = None
    """Unless it is set: the first chat model that the key may use."""
    task_types: dict[str, str] = {}
    """A model for each task type that should not get `model`."""
    socket: SocketSettings = SocketSettings()

    def named(self) -> dict[str, str]:
        """The models that are named, by the setting that names them."""
        found = {f"generate.task_types.{task_type}": model for task_type, model in self.task_types.items()}
        return found if self.model is None else {"generate.model": self.model, **found}


class RetentionSettings(Section):
    """What is kept of prompts and answers: under which key, and how much of it. See docs/retention.md."""

    encryption_key: SecretStr | None = None
    """32 bytes in base64, or a passphrase. Unless it is set, a key for responses is made once in DATA/secret.key, and no
    transcripts are kept. Several hosts on one database need the same one."""
    old_encryption_keys: list[SecretStr] = []
    """Keys used before: what they sealed can still be read."""
    default_ttl_s: Annotated[int, Field(ge=60, le=315_360_000)] = 2_592_000
    """How long texts are kept for a tenant that does not say (30 days)."""
    max_ttl_s: Annotated[int, Field(ge=60, le=315_360_000)] = 31_536_000
    """The longest that a tenant may have its texts kept (a year)."""
    max_bytes: Annotated[int, Field(ge=1024, le=2**26)] = 256 * 1024
    """Of prompt and answer of one request together; what is longer is cut, and says so."""
    max_rows: Count = 1_000_000
    """Requests whose texts are kept, of all tenants; beyond it the oldest go."""
    max_pending: Count = 2000
    max_pending_bytes: Count = 32 * 2**20
    """Texts that a worker holds until PostgreSQL has them. Beyond these, new ones are dropped, counted and logged."""
    max_pending_s: Seconds = 300
    """How long a worker holds a text while PostgreSQL is away."""
    flush_interval_s: Seconds = 0.25


class TelemetrySettings(Section):
    """Metrics are always at /metrics. Nothing is sent anywhere unless `otlp_endpoint` or `cloudwatch.mode` is set."""

    otlp_endpoint: str | None = None
    otlp_headers: dict[str, SecretStr] = {}
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the requests that get spans, unless the caller's `traceparent` says that it is sampled."""
    export_interval_s: Seconds = 15
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_requests: bool = False
    """One log line a request. Never holds prompt or answer text."""
    cloudwatch: CloudWatchSettings = CloudWatchSettings()


class BudgetSettings(Section):
    """What may be spent: dollars per window, as `5/day`, `0.5/hour`, `100/month`, `5/rolling-24h`, `5/lifetime`; ` soft` only warns."""

    total: str | None = None
    tiers: dict[str, str] = {}
    tenants: dict[str, str] = {}
    """Budgets of keys and users, and more of tenants, are made with `farthing budget` or the admin API."""
    fail: Literal["closed", "free-model"] = "closed"
    """While PostgreSQL is away and a worker's grants are used up: refuse (503), or answer from `free_model`."""
    free_model: str | None = None
    """A model that costs nothing, such as `local`: who has spent a hard budget is answered by it instead of being refused."""
    unknown_price: Literal["refuse", "allow"] = "refuse"
    """A model without a price, where a hard budget holds."""
    wait_s: Seconds = 5
    """How long a request waits for calls under way to give back what they reserved, before it is refused."""
    grant_share: Annotated[float, Field(gt=0, le=0.25)] = 0.02
    """Of a budget's limit, how much each worker holds so that no request waits for the database."""
    lease_ttl_s: Annotated[float, Field(ge=5, le=86_400)] = 300
    """After this time a worker that cannot reach PostgreSQL stops spending its grants, and those of a lost host return."""
    store_timeout_s: Seconds = 2
    assumed_output_tokens: Count = 1024
    """Reserved for a request that names no `max_tokens`, until the model has been seen to answer."""
    max_cached: Count = 100_000

    @field_validator("total", "tiers", "tenants")
    @classmethod
    def _are_budgets(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for text in value.values() if isinstance(value, dict) else [value] if value is not None else []:
            try:
                parse(text)
            except InvalidRequest as error:
                raise ValueError(error.message) from None
        return value

    @model_validator(mode="after")
    def _has_a_free_model(self) -> BudgetSettings:
        if self.fail == "free-model" and self.free_model is None:
            msg = "fail: free-model needs free_model, such as local"
            raise ValueError(msg)
        return self
