"""Who asks, and what they may. See `types`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec


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


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """How a limit of a key stands: what of this minute's `limit` is left, and the seconds until all of it would be there again."""

    name: Literal["requests", "tokens"]
    limit: int
    remaining: int
    reset_s: float
