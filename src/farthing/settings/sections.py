"""The sections on the gateway itself: server, database, caches, keys, ledger, telemetry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from farthing.settings.basic import Count, Seconds, Section


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
    """After SIGTERM, how long answers under way may take to finish."""


class DatabaseSettings(Section):
    """PostgreSQL. Without a URL, the embedded one in the data folder."""

    url: SecretStr | None = None
    pool_size: Annotated[int, Field(ge=1, le=100)] = 4
    statement_timeout_s: Seconds = 10
    connect_timeout_s: Seconds = 3


class ExactCacheSettings(Section):
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


class CacheSettings(Section):
    """The caches."""

    exact: ExactCacheSettings = ExactCacheSettings()


class KeySettings(Section):
    """Virtual keys."""

    refresh_s: Seconds = 10
    """Staleness bound: a revoked key stops working everywhere within this time (at once where LISTEN/NOTIFY works)."""
    max_cached: Count = 100_000


class LedgerSettings(Section):
    """The ledger's way to PostgreSQL."""

    flush_interval_s: Seconds = 0.25
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    segment_bytes: Count = 8 * 2**20
    max_spool_bytes: Count = 512 * 2**20
    """On disk, while PostgreSQL is away. Beyond it, entries are dropped, counted and logged."""
    unauthenticated_rows_per_minute: Annotated[int, Field(ge=0)] = 60
    """Requests without a valid key are recorded at most at this rate; all are counted in the metrics."""


class TelemetrySettings(Section):
    """Metrics are always at /metrics. Nothing is sent anywhere unless `otlp_endpoint` is set."""

    otlp_endpoint: str | None = None
    otlp_headers: dict[str, SecretStr] = {}
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the requests that get spans, unless the caller's `traceparent` says that it is sampled."""
    export_interval_s: Seconds = 15
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_requests: bool = False
    """One log line a request. Never holds prompt or answer text."""
