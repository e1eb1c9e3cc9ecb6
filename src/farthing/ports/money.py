"""Money: keys, the ledger, budgets, and the meter that turns what happened into entries. See `ports`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from farthing.budgets import Ask, Budget, BudgetUse, LeaseState
from farthing.errors import FarthingError
from farthing.types import (
    Answer,
    Attempt,
    KeyRecord,
    LedgerEntry,
    Price,
    Report,
    Request,
    Usage,
)


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


ReportBy = Literal["model", "tenant", "key", "source"]


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


class Meter(Protocol):
    """Turns what happened into money and ledger entries. Never blocks and never raises."""

    def attempt(self, request: Request, attempt: Attempt) -> tuple[int, int]:
        """Record a dispatch attempt. Returns (cost, saved) in micro-dollars; saved is negative when the fallback cost more.

        Of an attempt whose answer a check rejected, `saved` is what that answer would save if it were given after all; the ledger takes
        the cost off the savings until then.
        """

    def outcome(self, request: Request, answer: Answer | None, error: FarthingError | None) -> None:
        """Record a request that no attempt settled: a cache hit, an error before any dispatch, or an earlier attempt's answer."""


class RequestRecords(Protocol):
    """What the ledger has of single requests."""

    async def attempts(self, request_id: UUID) -> list[LedgerEntry]:
        """The entries of a request, oldest first; empty when there is none (yet)."""

    async def latest(self, *, since: datetime, until: datetime, tenant: str | None, user: str | None, limit: int) -> list[LedgerEntry]:
        """The final entries with since <= time < until, newest first, of one tenant or (None) of all, and of one user or all."""
