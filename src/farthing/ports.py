"""What the slices need from the world. Each port has an adapter in a pack and one in `inprocess`, and a contract suite in `testing`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from farthing.budgets import Ask, Budget, BudgetUse, LeaseState
from farthing.errors import FarthingError
from farthing.types import (
    Answer,
    Attempt,
    CacheScope,
    Completion,
    Json,
    KeyRecord,
    LedgerEntry,
    Neighbour,
    NewTranscript,
    Price,
    Question,
    Report,
    Request,
    RetentionPolicy,
    ServedHit,
    StoredAnswer,
    StoredResponse,
    StoredTranscript,
    Usage,
    Verdict,
)

EVERYTHING = CacheScope()
"""All that a tenant has."""

ReportBy = Literal["model", "tenant", "key", "source"]


class KeyStore(Protocol):
    """Durable virtual keys. Keys are never deleted, only revoked, so that ledger entries keep their owner."""

    async def find(self, digest: bytes) -> KeyRecord | None:
        """The key with this SHA-256 digest, revoked and expired ones included; None when there is none."""

    async def all(self, limit: int) -> list[KeyRecord]:
        """At most `limit` keys, newest first, revoked ones included. For snapshots and for the admin list."""

    async def add(self, record: KeyRecord) -> None:
        """Store a new key. A no-op when the digest is there already."""

    async def revoke(self, key_id: UUID, at: datetime) -> bool:
        """Revoke a key. True when it exists (again revoking keeps the first instant), False when there is none of that id."""


class LedgerStore(Protocol):
    """The durable ledger."""

    async def append(self, entries: Sequence[bytes]) -> int:
        """Store entries given as JSON objects with the fields of `LedgerEntry`, and add them to the daily rollups, in one transaction.

        Entries whose id is stored already are skipped and not added again, so a batch may be repeated after any failure. Returns how
        many were new. Raises `InvalidRequest` when an entry can never be stored (the caller then stores one by one and sets the bad
        one aside), and `Unavailable` when the store is away (the caller then keeps the batch).
        """

    async def report(self, *, since: datetime, until: datetime, by: ReportBy, tenant: str | None) -> Report:
        """Totals of the entries with since <= time < until, of one tenant or (None) of all."""


class BudgetStore(Protocol):
    """Durable budgets, what the ledger has spent of them, and the leases that workers hold. One ledger entry settles its worker's lease."""

    async def all(self, limit: int) -> list[Budget]:
        """At most `limit` budgets, oldest first."""

    async def put(self, budget: Budget) -> None:
        """Create, or change limit and hardness of the one with this id. What the ledger holds of its window counts from the start.

        Raises `InvalidRequest` when the id is taken by a budget of another scope, subject or window.
        """

    async def delete(self, budget_id: UUID) -> bool:
        """Delete a budget, its spend and its leases. False when there is none of that id."""

    async def sync_settings(self, budgets: Sequence[Budget]) -> None:
        """Make the budgets of origin `settings` be these: create, change, delete. Others stay as they are."""

    async def uses(self, budgets: Sequence[Budget], at: datetime) -> list[BudgetUse]:
        """How these stand. Budgets that are gone are left out."""

    async def lease(self, worker: str, asks: Sequence[Ask], ttl_s: float) -> list[LeaseState]:
        """Decide all asks in one transaction, and renew the leases until now + `ttl_s`.

        All leases and the spend of a budget together never exceed its limit, but for what was spent beyond leases: grants are cut to
        what there is, existing ones too when a limit was lowered. Of what is left a worker gets half at most, unless it asks for `least`.
        Asks for budgets that are gone are left out of the answer.
        """

    async def release(self, worker: str) -> None:
        """Forget all leases of a worker that has ended and whose entries are all in the ledger."""

    async def prune(self) -> None:
        """Delete what no window counts any more, and leases that lapsed long ago."""


class Reservation(Protocol):
    """Money and tokens kept for one attempt. `settle` is called exactly once, whatever becomes of the attempt; it never waits."""

    def settle(self, usage: Usage, cost_microusd: int) -> None:
        """Let go of what was kept and count what was used instead. A cost of 0 releases all."""


class Purse(Protocol):
    """Where dispatch gets leave to spend, before each attempt."""

    async def reserve(self, request: Request, upstream_model: str, price: Price) -> Reservation:
        """Keep the most that this attempt may cost.

        Raises `BudgetExceeded`, `BudgetUnverified`, `PriceUnknown`, or `RateLimited` (tokens per minute).
        """


class Ledger(Protocol):
    """Where the request path drops its entries. Never blocks on a network and never raises."""

    def record(self, entry: LedgerEntry) -> None:
        """Keep an entry. It survives the death of this process from here on (not a power cut), and reaches the store exactly once."""


class AnswerStore(Protocol):
    """The shared, durable tier of the exact cache. Entries past `expires_at` count as absent."""

    async def get(self, tenant: str, key: bytes) -> StoredAnswer | None:
        """The entry of this tenant under this key; None when absent, expired, or another tenant's."""

    async def put(self, entries: Sequence[StoredAnswer]) -> None:
        """Store entries, replacing older ones of the same key, and tell other workers their keys. All or nothing."""

    async def keys(self, limit: int) -> list[bytes]:
        """At most `limit` keys of live entries of all tenants, newest first. A key says nothing about what is stored under it."""

    async def forget(self, tenant: str, scope: CacheScope = EVERYTHING) -> int:
        """Delete all entries of a tenant that are in the scope. Returns how many went.

        Entries of the scope that were created before this are not stored any more. An answer has no user: who asks the same is answered
        the same. A scope that names a user therefore fits none; delete his questions, or answers by their keys.
        """

    async def prune(self, max_rows: int) -> int:
        """Delete expired entries, then the oldest beyond `max_rows`. Returns how many went."""


class QuestionIndex(Protocol):
    """Finds questions that were answered before. Questions past `expires_at` count as absent. Nothing ever crosses a partition."""

    async def search(self, tenant: str, partition: bytes, vector: bytes, *, most: int) -> list[Neighbour]:
        """The nearest questions of a tenant's partition, nearest first, at most `most`; empty when there is none.

        Raises `Unavailable` when the index is away. The caller sets the deadline.
        """

    async def put(self, questions: Sequence[Question]) -> None:
        """Add questions, and tell other workers where there are any.

        One whose id is there already is skipped, so that a batch may be repeated after any failure. A vector of the wrong length, or one
        without direction (all zero), is skipped too.
        """

    async def remove(self, tenant: str, ids: Sequence[UUID]) -> int:
        """Delete questions of a tenant, at once and everywhere. Returns how many there were."""

    async def forget(self, tenant: str, scope: CacheScope) -> int:
        """Delete all questions of a tenant that are in the scope. Returns how many there were.

        Questions of the scope that were created until now are not stored any more: another worker may still have some on their way.
        """

    async def prune(self, max_rows: int) -> int:
        """Delete what has expired, then what is worth least (`types.question_worth`) beyond `max_rows`. Returns how many went."""

    async def size(self, tenant: str | None = None) -> int:
        """How many live questions there are, of one tenant or (None) of all. May be off by what expired a moment ago."""


class QuestionStore(QuestionIndex, Protocol):
    """A durable index that workers copy into their memory."""

    async def latest(self, limit: int) -> list[Question]:
        """At most `limit` live questions of all tenants, the most valuable first."""

    async def named(self, ids: Sequence[UUID]) -> list[Question]:
        """Those of these questions that are live. For news from other workers."""


class CacheRecords(Protocol):
    """What the semantic cache did, and what came of it. Everything is idempotent."""

    async def served(self, hits: Sequence[ServedHit]) -> None:
        """Note hits, and count them as reuse of their questions. A request that was noted already is skipped."""

    async def hits(self, tenant: str, question_id: UUID, limit: int) -> list[ServedHit]:
        """At most `limit` requests that a question's answer was given to, newest first."""

    async def hit(self, tenant: str, request_id: UUID) -> ServedHit | None:
        """What a request of this tenant was answered with; None when it was not a semantic hit, or is not known (any more)."""

    async def add_verdicts(self, verdicts: Sequence[Verdict]) -> list[UUID]:
        """Store verdicts and tell other workers. Returns the ids of those that are new."""

    async def verdicts(self, limit: int, tenant: str | None = None) -> list[Verdict]:
        """At most `limit` verdicts of one tenant or (None) of all, newest first."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all hits and verdicts of (None) a tenant, or of the questions of a user, while they are there. Returns how many went.

        Those of a tenant that happened before this are not stored any more.
        """

    async def prune(self, *, max_hits: int, max_verdicts: int) -> int:
        """Delete the oldest hits and verdicts beyond these numbers. Returns how many went."""


class CacheControl(Protocol):
    """What people do with the caches: empty them, ask why, say that an answer was wrong. Results are plain JSON objects."""

    async def flush(self, tenant: str | None, scope: CacheScope) -> Json:
        """Delete cached answers and questions in a scope, of one tenant or (None) of all, in every worker. Says how many.

        Answers to requests under way are not kept. Raises the stores' errors; a second call does what the first could not.
        """

    async def explain(self, request: Request) -> Json:
        """What would be done with this request, and why, without doing it: no model is called, nothing is kept or counted."""

    async def hear(self, tenant: str, request_id: UUID, *, right: bool, by: Literal["thumb", "correction"]) -> Json:
        """What a person says of the answer that a request got from the semantic cache. Idempotent.

        Says what followed and, when the cached answer was found bad, which requests it went to. Raises `NotFound` when the request was
        not answered by the semantic cache.
        """

    async def hits(self, tenant: str, question_id: UUID, limit: int) -> Json:
        """The requests that the answer of a cached question went to, newest first."""

    async def stats(self) -> Json:
        """How much there is, and how the semantic cache does, tenant by tenant."""


class ResponseStore(Protocol):
    """Turns of conversations (/v1/responses). A turn past `expires_at` counts as absent, and so does another tenant's."""

    async def put(self, turns: Sequence[StoredResponse]) -> None:
        """Store new turns, all or none. A turn whose id is there already is skipped, so that a batch may be repeated after any failure."""

    async def chain(self, tenant: str, turn_id: UUID, *, most: int, most_bytes: int) -> list[StoredResponse]:
        """A turn, the one before it, and so on back: newest first, empty when the turn is absent.

        Ends before a turn that is absent; after `most` turns; and with the turn whose payload takes the sum beyond `most_bytes`.
        """

    async def renew(self, tenant: str, turn_ids: Sequence[UUID], expires_at: datetime) -> None:
        """Let turns live until then, those that live longer excepted. Absent ones stay absent."""

    async def delete(self, tenant: str, turn_id: UUID) -> bool:
        """Delete a turn. False when it is absent. Turns after it stay, but no longer lead back beyond it."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all turns of a user, or (None) of the whole tenant. Returns how many went.

        Turns of requests that arrived before this (by their ids) are not stored any more.
        """

    async def prune(self, *, rows_per_tenant: int, bytes_per_tenant: int, total_bytes: int) -> int:
        """Delete expired turns, then each tenant's oldest beyond its bounds, then the oldest of all. Returns how many went.

        Bounds in bytes count payloads.
        """


class RetentionStore(Protocol):
    """Which tenants want their prompts and answers kept, and those texts, sealed. A text past `expires_at` counts as absent."""

    async def policy(self, tenant: str) -> RetentionPolicy | None:
        """What was last set for a tenant; None when nothing ever was: nothing is kept then."""

    async def enabled(self, limit: int) -> tuple[frozenset[str], datetime | None]:
        """At most `limit` tenants that want texts kept; and when cached answers were last flushed, None when not lately."""

    async def set_policy(self, policy: RetentionPolicy) -> None:
        """Set a tenant's policy and tell other workers. Texts that would live longer than its `ttl_s` live no longer than that."""

    async def put(self, transcripts: Sequence[NewTranscript]) -> int:
        """Store texts, to live as long as their tenant's policy says now. Returns how many were stored.

        All or none, but for those that are left out: of tenants that do not want them (any more), stored already, or arrived before
        what `forget` has deleted.
        """

    async def get(self, request_id: UUID) -> StoredTranscript | None:
        """The text of a request, of whatever tenant; None when absent."""

    async def kept(self, request_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Those of these requests whose text is there."""

    async def forget(self, tenant: str, user: str | None) -> int:
        """Delete all texts of a user, or (None) of the whole tenant. Returns how many went.

        What arrived before this, and is still on its way in any worker, is not stored any more.
        """

    async def prune(self, max_rows: int) -> int:
        """Delete what has expired, then the oldest beyond `max_rows`. Returns how many went."""


class RequestRecords(Protocol):
    """What the ledger has of single requests."""

    async def attempts(self, request_id: UUID) -> list[LedgerEntry]:
        """The entries of a request, oldest first; empty when there is none (yet)."""

    async def latest(self, *, since: datetime, until: datetime, tenant: str | None, user: str | None, limit: int) -> list[LedgerEntry]:
        """The final entries with since <= time < until, newest first, of one tenant or (None) of all, and of one user or all."""


class Changes(Protocol):
    """News from other workers on the same database."""

    def watch(self) -> AsyncIterator[tuple[str, str]]:
        """Yield (channel, payload) as it happens.

        `answers` (payload: keys in hex, comma-separated); `keys`, `budgets`, `retention` (payload: nothing; reload); `questions` (payload:
        ids in hex, comma-separated, or a `QuestionsGone` as a JSON object; what was pruned is not told); `verdicts` (payload: a JSON array
        of `Verdict`). Nothing, on any of them: reload.
        Ends or raises when the connection is lost; the caller waits, watches again, and reloads what it may have missed.
        """


class Meter(Protocol):
    """Turns what happened into money and ledger entries. Never blocks and never raises."""

    def attempt(self, request: Request, attempt: Attempt) -> tuple[int, int]:
        """Record a dispatch attempt. Returns (cost, saved) in micro-dollars; saved is negative when the fallback cost more."""

    def outcome(self, request: Request, answer: Answer | None, error: FarthingError | None) -> None:
        """Record a request that no attempt settled: a cache hit, or an error before any dispatch."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one deployment, as a provider sees it.

    `body` is the client's; the provider puts its own model name in. `last`: there is nowhere else to turn, so that waiting for something
    that is coming back is better than an error. `foreign`: see `types.Request`.
    """

    upstream_model: str
    body: Json
    request_id: UUID
    traceparent: str | None = None
    last: bool = True
    foreign: bool = False


class Provider(Protocol):
    """A model vendor or server.

    Every failure is raised as one of the `Upstream…` errors, as `Overloaded` when a bounded queue of ours is full, or as
    `InvalidRequest` when the request can be seen to be wrong before it is sent.

    A provider keeps its connections open between calls and limits their number. Cancelling a call, or closing the iterator of a
    stream, ends the exchange with the vendor: nothing is generated, or billed, for nobody.
    """

    name: str
    kind: str

    @property
    def open_connections(self) -> int:
        """Sockets to the vendor, in use or idle."""

    async def healthy(self) -> bool:
        """Whether the vendor's server says that it is up. Costs nothing; never raises an `UpstreamError`."""

    async def chat(self, call: Call) -> Completion:
        """A whole chat completion (`chunks` is None)."""

    def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        """A streamed chat completion: (chunk, usage) pairs in order, at least one of the two set.

        Usage is OpenAI's usage object, taken out of the chunk wherever the vendor put it: on a chunk with choices, or on one of its own.
        Ends after the vendor's end mark; raises `UpstreamUnavailable` when the vendor broke off before it.
        """

    async def embed(self, call: Call) -> Completion:
        """An embeddings response object."""

    async def aclose(self) -> None:
        """Let go of connections."""


class Signer(Protocol):
    """Signs requests for a vendor that takes signatures instead of a key, as AWS does."""

    async def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """What to send beside `headers`, which are signed too (names in lower case, `host` among them).

        Raises `UpstreamRefusedUs`, `UpstreamUnavailable` or `UpstreamTimeout` when there are no credentials.
        """

    def renew(self, signed: Mapping[str, str]) -> bool:
        """The vendor said that what signed these headers has expired: use something newer from now on.

        False when there is nothing newer to be had. A no-op, and True, when it is replaced already.
        """

    def secrets(self) -> Sequence[str]:
        """What must not show in any message."""


class Encoded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A text as the semantic cache reads it.

    `vector` is the sentence's embedding, int8, one byte for each dimension, scaled so that the largest component is 127 or -127: cosines
    do not see the scale. `words` holds one row for each token, [CLS] and [SEP] left out: a byte that says how rare the token is (0 to 255),
    then its vector, projected to few dimensions, int8, scaled likewise. `spans` says where each of these tokens is in the text (start and
    end, in characters). `cut`: the text was longer than the model reads.
    """

    vector: bytes
    words: bytes
    spans: tuple[tuple[int, int], ...]
    cut: bool = False


class Embedder(Protocol):
    """Turns texts into unit-length vectors on this machine.

    `version` names model, quantisation and projection: vectors of different versions cannot be compared.
    """

    dimensions: int
    version: str

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Texts as the semantic cache reads them, in order. Raises as `embed` does."""

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """One vector per text, in order, and the number of tokens read. Longer texts are cut at the model's limit.

        Raises `Overloaded` when the queue is full. Cancelling a call takes its texts out of the queue.
        """

    async def aclose(self) -> None:
        """Stop the threads and let go of the model. Calls under way are cancelled."""
