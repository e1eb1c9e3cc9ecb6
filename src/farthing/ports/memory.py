"""What is remembered of users. See `ports`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from farthing.types import Fact, NewFact, Profile, Receipt, Turn

MOST_TURN_BYTES: Final = 4 * 2**20
"""Of payloads that are read at once: whoever has sent only the longest turns gets fewer of them."""


class FactStore(Protocol):
    """Facts of users, bi-temporal: nothing is overwritten, everything has a time at which it held and one at which it was believed."""

    async def profile(self, tenant: str, user: str) -> Profile | None:
        """What holds of a user now, in one read; None when nothing ever did. Expired facts are left out."""

    async def learn(self, tenant: str, user: str, facts: Sequence[NewFact], *, arrived: datetime) -> Profile:
        """Learn facts, atomically, in their order, and say what holds now. Idempotent: what is believed already only gains sources.

        Of a single-valued key, one that was valid earlier than what is believed goes into history and supersedes nothing. Facts from
        before (`arrived`) the user was forgotten are left out. Raises `InvalidRequest` for what the store cannot hold.
        """

    async def retract(self, tenant: str, user: str, fact: UUID, *, by: str) -> bool:
        """Believe a fact no more; it stays in history. False when there is no such fact."""

    async def history(self, tenant: str, user: str, *, key: str | None, limit: int) -> list[Fact]:
        """All that was ever believed, of one key or (None) all, newest first."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all facts and all history of a user, or (None) the tenant. Facts on their way are not stored any more."""

    async def prune(self, *, max_history: int) -> int:
        """Delete what has expired, and the oldest history beyond so many rows. Returns how many went."""


class TurnStore(Protocol):
    """Turns of conversations that clients leave to us. Payloads are opaque to it."""

    async def add(self, turns: Sequence[Turn]) -> None:
        """Store turns, all or none, in their order, each behind the latest of its conversation (of its tenant and user).

        One whose id its tenant has already is not stored again, but gains its vector. Those from before (`at`) their user was forgotten
        are left out. Raises `InvalidRequest` for what the store cannot hold.
        """

    async def of(self, tenant: str, user: str | None, conversation: str, *, limit: int) -> list[Turn]:
        """The latest turns of a conversation, in order; at most `MOST_TURN_BYTES` of payloads."""

    async def of_user(self, tenant: str, user: str, *, limit: int) -> list[Turn]:
        """The latest turns of a user in all conversations, in the order of their time; at most `MOST_TURN_BYTES` of payloads."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete the turns of a user, or (None) the tenant. Returns how many went. Turns on their way are not stored any more."""

    async def prune(self, before: datetime, *, per_conversation: int, per_user: int, max_rows: int) -> int:
        """Delete turns that are older, then the oldest beyond so many of a conversation, of a user and of all. Returns how many went."""


class Personal(Protocol):
    """A place that holds something of users, and can forget them."""

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """Delete all of a user, or (None) of the tenant. Returns how many went. Idempotent. Raises the store's errors."""


class ReceiptStore(Protocol):
    """Receipts of who was forgotten. They name nobody: users are told apart by `types.subject_of`."""

    async def add(self, receipt: Receipt) -> None:
        """Store a receipt. One that is there already is skipped."""

    async def of(self, tenant: str, user: str | None, *, limit: int) -> list[Receipt]:
        """At most `limit` receipts of a user, or (None) of the tenant as a whole, newest first."""

    async def prune(self, max_rows: int) -> int:
        """Delete the oldest beyond so many. Returns how many went."""


class Forgetter(Protocol):
    """Forgets people, everywhere. `places` are the names of the places that it knows."""

    async def forget(self, tenant: str, user: str | None, *, by: str, whole: Collection[str] = ()) -> Receipt:
        """Delete all of a user, or (None) of the tenant, in every place; in those of `whole` all of the tenant.

        A place that is away does not stop the others: see `Receipt.complete`. Idempotent: a repeat does what was not done.
        """

    async def receipts(self, tenant: str, user: str | None, *, limit: int) -> list[Receipt]:
        """See `ReceiptStore.of`."""
