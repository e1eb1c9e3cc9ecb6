"""What the slices share: the request, its answer, and the facts that are recorded about them.

Money is integer micro-dollars (1 USD = 1,000,000). Durations are integer microseconds where recorded, float seconds where waited for.
Ids are UUIDv7: they sort by time.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import msgspec

Json = dict[str, Any]
"""A decoded JSON object."""


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    return uuid7_at(time.time_ns() // 1_000_000, os.urandom(10))


def uuid7_at(unix_ms: int, noise: bytes) -> UUID:
    """The UUIDv7 of a millisecond with ten given bytes of noise; ten zero bytes give the smallest id of that millisecond."""
    rand = int.from_bytes(noise, "big")
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | (rand >> 68) << 64 | 0b10 << 62 | rand & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=value)


class Source(StrEnum):
    """What answered a request. `NONE`: nothing did, it ended in an error."""

    EDGE = "edge"
    EXACT = "exact"
    SEMANTIC = "semantic"
    MODEL = "model"
    NONE = "none"


class Operation(StrEnum):
    """What was asked for, in OpenTelemetry's GenAI vocabulary (`gen_ai.operation.name`)."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `models` is the key's allow-list of catalogue names, None for all. An `admin` key opens the admin doors too."""

    key_id: UUID
    tenant: str
    user: str | None = None
    tier: str = "free"
    admin: bool = False
    models: frozenset[str] | None = None


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual key as it is stored. The key itself is never stored: `digest` is its SHA-256, `hint` its last four characters."""

    id: UUID
    tenant: str
    user: str | None = None
    tier: str = "free"
    name: str | None = None
    digest: bytes
    hint: str
    admin: bool = False
    models: tuple[str, ...] | None = None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class Extras(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body field `farthing`, or the headers `x-farthing-*`."""

    cache: Literal["on", "off", "refresh"] = "on"
    namespace: str = "default"
    user: str | None = None
    memory: bool | Literal["on", "off"] | None = None
    knowledge: bool | Literal["on", "off"] | None = None
    route: str | Json | None = None
    prompt: str | Json | None = None
    task_type: str | None = None
    dry_run: bool = False


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, by OpenAI's convention.

    `input` counts all input tokens, those read from or written to a provider's prompt cache included; `output` all output tokens,
    reasoning included. `source` says whether the provider counted or we guessed.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    source: Literal["provider", "estimated", "none"] = "none"


class Request(msgspec.Struct, kw_only=True):
    """One request on its way through the stages. Stages may replace `body`, never mutate what it holds.

    `body` is the request as the client sent it, less the field `farthing`: what we do not know passes through to the provider.
    `started_ns` is `time.perf_counter_ns()` at arrival. `recorded` says that a ledger entry for this request exists or is owed by a
    dispatch attempt under way, so that `account` adds none.
    """

    id: UUID
    principal: Principal
    operation: Operation
    body: Json
    model: str
    extras: Extras
    stream: bool = False
    include_usage: bool = False
    started_ns: int
    recorded: bool = False
    traceparent: str | None = None


class Completion(msgspec.Struct, kw_only=True):
    """The canonical whole answer: OpenAI's response object as `body`, what it used, and the chunks it came in where it was streamed.

    `chunks` are `chat.completion.chunk` objects without the usage chunk, in order, and None for an answer that came in one piece.
    """

    body: Json
    usage: Usage
    chunks: list[Json] | None = None


class Answer(msgspec.Struct, kw_only=True):
    """What a stage returns: whole (`body` holds JSON bytes) or as a stream (`stream` yields encoded JSON chunks, `body` is None).

    `stream` is an async iterator of `chat.completion.chunk` objects as JSON bytes; closing it (`aclose`) lets go of everything behind
    it, the upstream connection included. Cost and saving of a stream are known at its end; `cost_microusd` is then updated in place.
    """

    source: Source
    model: str | None
    body: bytes | None = None
    stream: AsyncIterator[bytes] | None = None
    cost_microusd: int = 0
    saved_microusd: int = 0
    route: str = "direct"
    mode: str = "normal"


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the ledger: one dispatch attempt, or one request that ended without any (cache hit, refusal).

    `id` is a UUIDv7, so it carries the time of the entry. `final` marks the one entry that settled its request: requests are counted by
    it. `baseline_microusd` is what the request would have cost without Farthing; `saved_microusd` is that less the cost of what was
    done instead. Prices are micro-dollars per million tokens; `price_source` says where they came from (`notional`: a stand-in price
    for a model that costs nothing per token, so that savings are visible).
    """

    id: UUID
    request_id: UUID
    attempt: int
    final: bool
    tenant: str
    key_id: UUID | None
    user_id: str | None
    tier: str | None
    operation: str
    purpose: str = "answer"
    source: str
    model_asked: str | None
    model_used: str | None
    provider: str | None
    upstream_model: str | None
    prompt_version: str | None = None
    route: str | None = None
    mode: str | None = None
    task_type: str | None = None
    stream: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cache_read: int = 0
    tokens_cache_write: int = 0
    tokens_reasoning: int = 0
    usage_source: str = "none"
    price_in_microusd_per_1m: int | None = None
    price_out_microusd_per_1m: int | None = None
    price_source: str = "none"
    cost_microusd: int = 0
    baseline_microusd: int = 0
    saved_microusd: int = 0
    latency_us: int = 0
    ttft_us: int | None = None
    status: int = 200
    error: str | None = None


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An exact-cache entry as the shared tier keeps it.

    `key` is a 32-byte digest that already covers tenant, namespace and the normalised request. `payload` is opaque to the store.
    `cost_microusd` is what the model call cost: the saving of each hit.
    """

    key: bytes
    tenant: str
    namespace: str
    model: str
    payload: bytes
    cost_microusd: int
    created_at: datetime
    expires_at: datetime


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over final requests and all attempts of a group."""

    requests: int = 0
    attempts: int = 0
    errors: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    spent_microusd: int = 0
    notional_microusd: int = 0
    saved_microusd: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent and saved between two instants. `rows` is grouped by what was asked for (`by`), costliest first.

    `notional_microusd` is the part of `spent_microusd` at prices that nobody bills; `notional_models` names the models priced so.
    """

    since: datetime
    until: datetime
    by: str
    total: Totals
    by_source: dict[str, Totals]
    rows: dict[str, Totals]
    notional_models: list[str]


def utc_now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)
