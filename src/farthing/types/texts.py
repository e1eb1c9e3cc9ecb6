"""Texts that are kept. See `types`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


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
