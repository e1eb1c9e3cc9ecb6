from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from farthing.types import ANONYMOUS, Extras, LedgerEntry, Lifeline, Operation, Principal, Request, Source, new_id

SOMEONE = Principal(key_id=new_id(), tenant="acme")

MakeRequest = Callable[..., Request]
MakeEntry = Callable[..., LedgerEntry]


@pytest.fixture
def make_request() -> MakeRequest:
    def make(**fields: Any) -> Request:
        given: dict[str, Any] = {
            "id": new_id(),
            "principal": SOMEONE,
            "operation": Operation.CHAT,
            "body": {"messages": [{"role": "user", "content": "the secret plan"}]},
            "model": "fast",
            "extras": Extras(),
            "started_ns": time.perf_counter_ns(),
            "lifeline": Lifeline(None),
        }
        return Request(**{**given, **fields})

    return make


@pytest.fixture
def make_entry() -> MakeEntry:
    """A paid call to a provider, unless told otherwise; with `provider=None` nothing of a call is left."""

    def make(request: Request, **fields: Any) -> LedgerEntry:
        anonymous = request.principal is ANONYMOUS
        given: dict[str, Any] = {
            "id": new_id(),
            "request_id": request.id,
            "attempt": 1,
            "final": True,
            "tenant": request.principal.tenant,
            "key_id": None if anonymous else request.principal.key_id,
            "user_id": None,
            "tier": request.principal.tier,
            "operation": request.operation,
            "source": Source.MODEL,
            "model_asked": request.model,
            "model_used": "fast",
            "provider": "openai",
            "upstream_model": "gpt-4o-mini",
            "route": "direct",
            "tokens_in": 100,
            "tokens_out": 50,
            "usage_source": "provider",
            "price_source": "settings",
            "cost_microusd": 45,
            "latency_us": 30_000,
        }
        if "provider" in fields and fields["provider"] is None:
            given |= {"attempt": 0, "upstream_model": None, "route": None, "tokens_in": 0, "tokens_out": 0}
            given |= {"usage_source": "none", "price_source": "none", "cost_microusd": 0}
        return LedgerEntry(**{**given, **fields})

    return make
