"""What the slices share: the request, its answer, and the facts that are recorded about them.

Money is integer micro-dollars (1 USD = 1,000,000). Durations are integer microseconds where recorded, float seconds where waited for.
Ids are UUIDv7: they sort by time.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Protocol
from uuid import UUID, SafeUUID

import msgspec

from farthing.errors import FarthingError

Json = dict[str, Any]
"""A decoded JSON object."""


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    return uuid7_at(time.time_ns() // 1_000_000, os.urandom(10))


def uuid7_at(unix_ms: int, noise: bytes) -> UUID:
    """The UUIDv7 of a millisecond with ten given bytes of noise; ten zero bytes give the smallest id of that millisecond."""
    rand = int.from_bytes(noise, "big")
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7000_8000_0000_0000_0000 | (rand >> 68) << 64 | rand & 0x3FFF_FFFF_FFFF_FFFF
    made = object.__new__(UUID)  # UUID(int=value) takes three times as long, and two are made for each request
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


def time_of(entry_id: UUID) -> datetime:
    """The time in a UUIDv7."""
    return datetime.fromtimestamp((entry_id.int >> 80) / 1000, UTC)


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


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Rate limits of a key. None: as the settings say for the key's tier, else unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `models` is the key's allow-list of catalogue names, None for all. An `admin` key opens the admin doors too."""

    key_id: UUID
    tenant: str
    user: str | None = None
    tier: str = "free"
    admin: bool = False
    models: frozenset[str] | None = None
    limits: Limits = Limits()


ANONYMOUS = Principal(key_id=UUID(int=0), tenant="unauthenticated", tier="none")
"""Whoever comes without a valid key. Owns ledger entries of refused requests, nothing else."""


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
    limits: Limits = Limits()
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class Extras(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body field `farthing`, or the headers `x-farthing-*`."""

    cache: Literal["on", "off", "refresh"] = "on"
    namespace: str = "default"
    tags: tuple[str, ...] = ()
    user: str | None = None
    personal: bool | None = None
    memory: bool | Literal["on", "off"] | None = None
    knowledge: bool | Literal["on", "off"] | None = None
    route: str | Json | None = None
    prompt: str | Json | None = None
    task_type: str | None = None
    dry_run: bool = False
    store: bool = True


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


class Lifeline:
    """Who still wants the work of a task. When the last holder lets go, the task is cancelled.

    The client holds it from the start; requests that wait for the same answer hold it too, so that a client that goes away does not
    take down those who wait for what it asked for. `cut_by` is why it was cut, if it was.
    """

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self._task = task
        self._holders = 1
        self.cut_by: FarthingError | None = None

    @property
    def dropped(self) -> bool:
        """Whether nobody holds it any more."""
        return self._holders == 0

    def hold(self) -> None:
        """Join."""
        self._holders += 1

    def release(self) -> None:
        """Let go."""
        self._holders -= 1
        if self._holders == 0 and self._task is not None:
            self._task.cancel()

    def cut(self, error: FarthingError) -> None:
        """End the work although somebody waits: with this error, where somebody can be told."""
        if self.cut_by is None and self._task is not None:
            self.cut_by = error
            self._task.cancel()

    def told(self, error: asyncio.CancelledError) -> BaseException:
        """What to raise for a cancellation that came up in the task: the error that cut it, and the task goes on to tell; else itself."""
        if self.cut_by is None or self._task is None:
            return error
        self._task.uncancel()
        return self.cut_by


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """How a limit of a key stands: what of this minute's `limit` is left, and the seconds until all of it would be there again."""

    name: Literal["requests", "tokens"]
    limit: int
    remaining: int
    reset_s: float


ANSWER = "answer"
"""The purpose of a request that somebody sent."""


class Request(msgspec.Struct, kw_only=True):
    """One request on its way through the stages. Stages may replace `body`, never mutate what it holds.

    `body` is the request as the client sent it, less the field `farthing`: what we do not know passes through to the provider.
    `size` is how many bytes the body had on the wire: an upper bound for what it may cost that costs nothing to know.
    `fingerprint` changes whenever the settings map `model` to something else. `started_ns` is `time.perf_counter_ns()` at arrival.
    `recorded` says that a ledger entry for this request exists or is owed by a dispatch attempt under way, so that `account` adds none.
    `over_budget`: a soft budget of the caller is spent. `lifeline` says who still waits. `foreign`: a door translated `body` from another
    vendor's format, so that the caller never chose OpenAI's names for its fields. `purpose`: `answer`, or what we ask on our own account.
    `asked` is what the semantic cache has made of it, for when its answer is kept.
    `quotas` reads how the limits of the caller's key stand; None: it has none.
    """

    id: UUID
    principal: Principal
    operation: Operation
    body: Json
    size: int = 0
    model: str
    fingerprint: str = ""
    extras: Extras
    stream: bool = False
    include_usage: bool = False
    started_ns: int
    recorded: bool = False
    over_budget: bool = False
    foreign: bool = False
    purpose: str = ANSWER
    asked: Any = None
    traceparent: str | None = None
    lifeline: Lifeline
    quotas: Callable[[], Sequence[Quota]] | None = None

    @property
    def user(self) -> str | None:
        """On whose behalf. A key that was made for a user speaks for that user only."""
        return self.principal.user or self.extras.user


class Completion(msgspec.Struct, kw_only=True):
    """The canonical whole answer: OpenAI's response object, and the chunks it came in where it was streamed.

    `chunks` are `chat.completion.chunk` objects without the usage chunk, in order, and None for an answer that came in one piece.
    """

    body: Json
    chunks: list[Json] | None = None


class ChunkStream(Protocol):
    """`chat.completion.chunk` objects without usage, in order. `aclose` is always called, also on a stream that was never begun."""

    def __aiter__(self) -> ChunkStream:
        """Itself."""

    async def __anext__(self) -> Json:
        """The next chunk."""

    async def aclose(self) -> None:
        """Let go of everything behind the stream, the upstream connection included. A no-op the second time."""


class Answer(msgspec.Struct, kw_only=True):
    """What a stage returns: whole (`body`, encoded) or as a stream (`stream`).

    `usage`, cost and saving of a stream are set in place when it has ended. `completion` is the whole answer for
    stages that read it: from the start where there is a `body`, at its end where there is a stream.
    """

    source: Source
    model: str | None
    body: bytes | None = None
    completion: Completion | None = None
    stream: ChunkStream | None = None
    usage: Json | None = None
    cost_microusd: int = 0
    saved_microusd: int = 0
    route: str = "direct"
    mode: str = "normal"


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one dispatch attempt was. `final`: no further attempt follows for this request. Durations in microseconds."""

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
    ended_early: bool = False


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One row of the ledger: one dispatch attempt, or one request that ended without any (cache hit, refusal).

    `id` is a UUIDv7, so it carries the time of the entry. `final` marks the one entry that settled its request: requests are counted by
    it. `purpose` is that of the request; what was not asked by anybody (`verify`: a second look at a cached answer, `refresh`: a new one
    for a stale one) is never final, and what it costs is taken off the savings. `baseline_microusd` is what the request would have cost
    without Farthing; `saved_microusd` is that less the cost of what was done instead. Prices are micro-dollars per million tokens;
    `price_source` says where they came from (`notional`: a stand-in price for a model that costs nothing per token, so that savings are
    visible). `worker` is the process that spent: whose budget leases the entry settles. Encoded, fields at their defaults are left out;
    the store fills them in.
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


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An exact-cache entry as the shared tier keeps it.

    `key` is a 32-byte digest that already covers tenant, namespace and the normalised request. `payload` is opaque to the store.
    `cost_microusd` is what the model call cost: the saving of each hit.
    """

    key: bytes
    tenant: str
    namespace: str
    tags: tuple[str, ...] = ()
    model: str
    payload: bytes
    cost_microusd: int
    created_at: datetime
    expires_at: datetime


class Question(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A question that was answered, as the semantic cache keeps it, and where its answer is.

    `partition` is a 32-byte digest of all that must be equal before two questions may be compared: tenant, namespace, user where the
    question is personal, the context around it, the version of the embedder. `vector` is its embedding, one signed byte for each
    dimension (see `ports.Encoded`). `payload` is opaque to stores and may be sealed: the text and what is known of its words.
    `answer_key` is the `StoredAnswer.key` of its answer, `request_id` the request that brought it. `id` is a UUIDv7.
    """

    id: UUID
    tenant: str
    partition: bytes
    namespace: str
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    vector: bytes
    payload: bytes
    answer_key: bytes
    request_id: UUID
    cost_microusd: int
    created_at: datetime
    expires_at: datetime


_WORTH_HALVES_IN_S = 7 * 86_400


def question_worth(cost_microusd: int, reuse: int, created_at: datetime) -> float:
    """How much a cached question is worth keeping: the cost that it saves times (1 + reuse), halved with each week of its age.

    On a scale of logarithms to base 2, where fading is the same for all: who is worth more now is worth more at any time, so that stores
    may keep the figure and sort by it. Reuse counts in whole doublings, so that they need not sort again at each hit.
    """
    return math.log2(max(cost_microusd, 1)) + (1 + reuse).bit_length() - 1 + created_at.timestamp() / _WORTH_HALVES_IN_S


class Neighbour(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A question that is near another one. `similarity` is the cosine of their vectors, -1 to 1."""

    question: Question
    similarity: float


class CacheScope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which cached answers and questions of a tenant are meant: those that fit everything that is named. Nothing named: all of them."""

    namespace: str | None = None
    tag: str | None = None
    user_id: str | None = None
    answer_key: bytes | None = None

    def covers(self, *, namespace: str, tags: Sequence[str], user_id: str | None, answer_key: bytes) -> bool:
        """Whether something with these facts is meant."""
        return (
            self.namespace in {None, namespace}
            and (self.tag is None or self.tag in tags)
            and (self.user_id is None or self.user_id == user_id)
            and self.answer_key in {None, answer_key}
        )


class QuestionsGone(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A note to other workers: these questions of a tenant were deleted. `ids`, or (None) all in the scope that were created until `at`."""

    tenant: str
    ids: tuple[UUID, ...] | None = None
    scope: CacheScope = CacheScope()
    at: datetime


class ServedHit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request that was answered with the answer to another question.

    `score` is the verifier's log-odds, before calibration, that both ask for the same. `request_id` identifies the hit; `answer_key` is
    that of the question.
    """

    request_id: UUID
    question_id: UUID
    answer_key: bytes
    tenant: str
    score: float
    saved_microusd: int
    at: datetime


VerdictBy = Literal["thumb", "correction", "shadow", "judge"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whether the answer to one question is right for another one that was asked.

    `question_id` is the cached one, `request_id` the request that asked, `score` as in `ServedHit`. `served`: the cached answer was
    given; else it was only compared afterwards. `audit`: how likely the hit was to be chosen at random to be looked at, relative to an
    average hit of its time; the estimate of the error weighs by it. 0: it was not chosen at random. A second verdict with the same `id` is
    the same one.
    """

    id: UUID
    tenant: str
    question_id: UUID
    request_id: UUID
    same: bool
    by: VerdictBy
    score: float
    served: bool
    audit: float = 0.0
    at: datetime


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One turn of a conversation as the store keeps it. `previous` is the turn before it; None for the first.

    `payload` is opaque to the store, and sealed. `id` is a UUIDv7: newest first is by id.
    """

    id: UUID
    tenant: str
    user_id: str | None = None
    previous: UUID | None = None
    payload: bytes
    created_at: datetime
    expires_at: datetime


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a tenant wants its prompts and answers kept, for how long, and which key said so when."""

    tenant: str
    enabled: bool
    ttl_s: int
    set_by: UUID | None
    set_at: datetime


class NewTranscript(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The texts of one request on their way to the store, sealed. `arrived_ns`: `time.perf_counter_ns()` of this process at its arrival."""

    request_id: UUID
    tenant: str
    user_id: str | None = None
    model: str
    source: str
    payload: bytes
    arrived_ns: int


class StoredTranscript(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The texts of one request as the store keeps them. `at` is when it arrived."""

    request_id: UUID
    tenant: str
    user_id: str | None = None
    model: str
    source: str
    payload: bytes
    at: datetime
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


def dollars(microusd: int) -> str:
    """Micro-dollars as dollars with six places, without a float on the way."""
    sign = "-" if microusd < 0 else ""
    return f"{sign}{abs(microusd) // 1_000_000}.{abs(microusd) % 1_000_000:06d}"
