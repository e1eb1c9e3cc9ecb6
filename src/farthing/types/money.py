"""Tokens, prices, and what the ledger holds. See `types`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from farthing.types.basic import Json
from farthing.types.requests import ANSWER


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens, by OpenAI's convention.

    `input` counts all input tokens, those read from or written to a provider's prompt cache included; `output` all output tokens,
    reasoning included. `cache_write_1h` is the part of `cache_write` that is kept for an hour, which is dearer. `source` says whether the
    provider counted or we guessed.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    source: Literal["provider", "estimated", "none"] = "none"

    @classmethod
    def of(cls, raw: Any) -> Usage | None:
        """Read OpenAI's usage object; None when it is not one."""
        if not isinstance(raw, dict) or type(raw.get("prompt_tokens")) is not int:
            return None
        read = _details(raw, "prompt_tokens_details")
        written = _details(raw, "completion_tokens_details")
        return cls(
            input=_count(raw["prompt_tokens"]),
            output=_count(raw.get("completion_tokens")),
            cache_read=_count(read.get("cached_tokens")),
            cache_write=_count(read.get("cache_write_tokens")),
            cache_write_1h=_count(read.get("cache_write_1h_tokens")),
            reasoning=_count(written.get("reasoning_tokens")),
            source="estimated" if raw.get("estimated") is True else "provider",
        )

    def as_openai(self) -> Json:
        """OpenAI's usage object, with `estimated: true` when we guessed."""
        raw: Json = {"prompt_tokens": self.input, "completion_tokens": self.output, "total_tokens": self.input + self.output}
        return raw if self.source == "provider" else {**raw, "estimated": True}


_MAX_TOKENS = 1_000_000_000


def _details(raw: Json, name: str) -> Json:
    details = raw.get(name)
    return details if isinstance(details, dict) else {}


def _count(value: Any) -> int:
    return min(max(value, 0), _MAX_TOKENS) if type(value) is int else 0


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Micro-dollars per million tokens, and where they come from. `cache_write_1h` is as `cache_write` unless it is set.

    `notional`: a stand-in for a model that costs nothing per token. `none`: unknown, everything costs 0. `tiers` are (tokens, price):
    a request with more input tokens than that is billed at that price as a whole; the highest tier that applies counts.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int | None = None
    source: Literal["genai-prices", "settings", "notional", "none"] = "none"
    tiers: tuple[tuple[int, Price], ...] = ()

    @property
    def free(self) -> bool:
        """Whether nobody bills it: notional, or known to be nothing."""
        return self.source == "notional" or (self.source != "none" and not (self.input or self.output))


HEDGE_LOST = "hedge_lost"
"""The error of an attempt that was cut off because another one, made beside it, was faster."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one dispatch attempt was. `final`: no further attempt follows for this request. Durations in microseconds.

    `checks` is as in `Answer`. An attempt whose answer was not given because a check rejected it has no error and is not final.
    """

    number: int
    final: bool
    model_used: str
    provider: str
    upstream_model: str
    price: Price
    baseline: Price
    usage: Usage
    latency_us: int
    ttft_us: int | None
    status: int = 200
    error: str | None = None
    route: str = "direct"
    checks: str | None = None
    ended_early: bool = False

    @property
    def surplus(self) -> bool:
        """Whether it was made, and paid for, only because Farthing asks twice: what it cost is taken off the savings."""
        return not self.final and self.error in {None, HEDGE_LOST}


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One row of the ledger: one dispatch attempt, or one request that ended without any (cache hit, refusal).

    `id` is a UUIDv7, so it carries the time of the entry. `final` marks the one entry that settled its request: requests are counted by
    it. `purpose` is that of the request; what was not asked by anybody (`verify`: a second look at a cached answer, `refresh`: a new one
    for a stale one) is never final, and what it costs is taken off the savings. `baseline_microusd` is what the request would have cost
    without Farthing; `saved_microusd` is that less the cost of what was done instead. Prices are micro-dollars per million tokens;
    `price_source` says where they came from (`notional`: a stand-in price for a model that costs nothing per token, so that savings are
    visible). `worker` is the process that spent: whose budget leases the entry settles. `checks` is as in `Answer`, `memory`
    as in `Request.recalled`. `answer_key` is where the answer is in the exact cache, if it is there (64 hex digits). Encoded, fields at
    their defaults are left out; the store fills them in.
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
    purpose: str = ANSWER
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
    worker: str | None = None
    checks: str | None = None
    memory: str | None = None
    answer_key: str | None = None


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
