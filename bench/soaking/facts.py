"""What is written down during a soak, and judged after it. Times are `time.monotonic()`, money is micro-dollars."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["under way", "answered", "refused", "exhausted", "told", "cut", "silent", "lost"]
"""How a question ended for the application that asked it through the SDK.

`refused`: by a budget or limit of its key. `exhausted`: by an error that the SDK repeats, once too often. `told`: a stream that broke and
said so. `cut`: the connection broke in the middle of a stream. `silent`: a stream that ended as if it were whole and was not.
`lost`: by anything else.
"""


class Try(msgspec.Struct, kw_only=True):
    """One HTTP request of the SDK. `request_id` is None when no head of an answer came; `complete` says that its body came to its end."""

    at: float
    ended: float | None = None
    request_id: str | None = None
    status: int | None = None
    source: str | None = None
    cost: int | None = None
    ours: bool = False
    """A limit of the key's own refused it, not a provider's."""
    retry: bool = False
    """Whether the SDK repeats what came."""
    complete: bool = False
    error: str | None = None


class Ask(msgspec.Struct, kw_only=True):
    """One question of an application. `id` is also the ledger's `task_type`, and the upstream sees it."""

    id: str
    tenant: str
    door: str
    stream: bool
    model: str
    question: str
    at: float
    ended: float | None = None
    tries: list[Try] = msgspec.field(default_factory=list)
    outcome: Outcome = "under way"
    code: str | None = None
    text: str = ""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One answer that the upstream began to send. `complete`: it meant to send all of it, and took `took_s` at least."""

    nonce: str
    ask_id: str
    model: str
    text: str
    tokens_in: int
    tokens_out: int
    cost: int
    complete: bool
    at: float
    took_s: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What counts of a row of the ledger."""

    request_id: str
    attempt: int
    final: bool
    tenant: str
    ask_id: str | None
    source: str
    upstream_model: str | None
    tokens_in: int
    tokens_out: int
    usage_source: str
    cost: int
    status: int
    error: str | None


class Window(msgspec.Struct, kw_only=True):
    """One injected fault: from `began` to `ended`, and until all was well again. `killed_at` are the moments of deaths."""

    fault: str
    began: float
    ended: float = 0.0
    recovered: float | None = None
    killed_at: list[float] = msgspec.field(default_factory=list)
    note: str = ""


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """`may` are the codes that its key's budget and limits may refuse it with."""

    name: str
    key: str
    may: frozenset[str] = frozenset()
    hard_limit: int | None = None
