from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import InvalidRequest, ModelNotFound, Overloaded, UpstreamRejected
from farthing.inprocess.stores import InProcessLedger
from farthing.spend.meter import LedgerMeter
from farthing.types import (
    ANONYMOUS,
    HEDGE_LOST,
    Answer,
    Attempt,
    Extras,
    LedgerEntry,
    Lifeline,
    Operation,
    Price,
    Principal,
    Request,
    Source,
    Usage,
    new_id,
)

WHO = Principal(key_id=UUID(int=7), tenant="acme", user="key-user", tier="pro")
DEAR = Price(input=10_000_000, output=30_000_000, source="settings")
CHEAP = Price(input=1_000_000, output=2_000_000, source="genai-prices")


class Kept:
    """A ledger that keeps what it gets."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []

    def record(self, entry: LedgerEntry) -> None:
        self.entries.append(entry)


def request(principal: Principal = WHO, **more: Any) -> Request:
    given_ = {"model": "fast", "body": {}, "extras": Extras(), "operation": Operation.CHAT, **more}
    return Request(id=new_id(), principal=principal, started_ns=time.perf_counter_ns(), lifeline=Lifeline(None), **given_)


def attempt(**more: Any) -> Attempt:
    facts: dict[str, Any] = {
        "number": 1,
        "final": True,
        "model_used": "fast",
        "provider": "openai",
        "upstream_model": "gpt-4o-mini",
        "price": CHEAP,
        "baseline": CHEAP,
        "usage": Usage(input=1000, output=100, cache_read=10, reasoning=5, source="provider"),
        "latency_us": 1500,
        "ttft_us": 700,
    }
    return Attempt(**{**facts, **more})


def metered(*, per_minute: int = 60) -> tuple[LedgerMeter, Kept, list[LedgerEntry]]:
    kept, observed = Kept(), list[LedgerEntry]()
    return LedgerMeter(kept, [lambda entry, _: observed.append(entry)], anonymous_per_minute=per_minute), kept, observed


def test_an_attempt_becomes_an_entry_with_everything_that_is_known() -> None:
    meter, kept, observed = metered()
    asked = request(stream=True, extras=Extras(user="u-1", task_type="chat"))
    assert meter.attempt(asked, attempt(route="fallback", number=2)) == (1000 + 200 - 10, 0)
    (entry,) = kept.entries
    assert observed == [entry]
    assert (entry.request_id, entry.tenant, entry.key_id, entry.user_id, entry.tier) == (asked.id, "acme", WHO.key_id, "key-user", "pro")
    assert (entry.attempt, entry.final, entry.source, entry.status, entry.error) == (2, True, "model", 200, None)
    assert (entry.model_asked, entry.model_used, entry.provider, entry.upstream_model) == ("fast", "fast", "openai", "gpt-4o-mini")
    assert (entry.tokens_in, entry.tokens_out, entry.tokens_cache_read, entry.tokens_reasoning) == (1000, 100, 10, 5)
    assert (entry.usage_source, entry.price_source) == ("provider", "genai-prices")
    assert (entry.price_in_microusd_per_1m, entry.price_out_microusd_per_1m) == (1_000_000, 2_000_000)
    assert (entry.cost_microusd, entry.baseline_microusd, entry.saved_microusd) == (1190, 1190, 0)
    assert (entry.latency_us, entry.ttft_us, entry.stream, entry.route, entry.task_type) == (1500, 700, True, "fallback", "chat")
    assert entry.id.version == 7


def test_a_cheaper_deployment_saves_and_a_dearer_fallback_costs() -> None:
    meter, kept, _ = metered()
    usage = Usage(input=1000, output=0, source="provider")
    assert meter.attempt(request(), attempt(baseline=DEAR, usage=usage)) == (1000, 9000)
    assert meter.attempt(request(), attempt(price=DEAR, usage=usage)) == (10_000, -9000)
    assert [entry.baseline_microusd for entry in kept.entries] == [10_000, 1000]


@pytest.mark.parametrize(
    ("more", "source"),
    [
        ({"final": False, "error": "upstream_timeout", "status": 504}, "none"),
        ({"final": True, "error": "upstream_timeout", "status": 504}, "none"),
        ({"final": True, "error": "client_disconnected", "status": 499, "ended_early": True}, "model"),
    ],
)
def test_a_failed_attempt_saves_nothing(more: dict[str, Any], source: str) -> None:
    meter, kept, _ = metered()
    _, saved = meter.attempt(request(), attempt(baseline=DEAR, **more))
    assert saved == kept.entries[0].saved_microusd == 0
    assert kept.entries[0].source == source


def test_a_hit_saves_what_the_miss_cost() -> None:
    meter, kept, _ = metered()
    meter.outcome(request(), Answer(source=Source.EXACT, model="fast", saved_microusd=1234), None)
    (entry,) = kept.entries
    assert (entry.attempt, entry.final, entry.source, entry.model_used) == (0, True, "exact", "fast")
    assert (entry.cost_microusd, entry.baseline_microusd, entry.saved_microusd) == (0, 1234, 1234)
    assert entry.latency_us >= 0


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidRequest("no"), 400, "invalid_request"),
        (ModelNotFound("no"), 404, "model_not_found"),
        (Overloaded("no"), 503, "overloaded"),
        (UpstreamRejected("no", upstream_status=422, upstream_code="too_long"), 422, "too_long"),
    ],
)
def test_a_refusal_is_an_entry_with_status_and_code(error: Any, status: int, code: str) -> None:
    meter, kept, _ = metered()
    meter.outcome(request(model=""), None, error)
    (entry,) = kept.entries
    assert (entry.source, entry.status, entry.error, entry.model_asked, entry.saved_microusd) == ("none", status, code, None, 0)


def test_refusals_without_a_key_are_bounded_by_the_minute_and_all_observed() -> None:
    meter, kept, observed = metered(per_minute=3)
    for _ in range(20):
        meter.outcome(request(ANONYMOUS), None, InvalidRequest("no"))
    assert 3 <= len(kept.entries) <= 6  # 6: the minute turned in between
    assert len(observed) == 20
    assert {(entry.tenant, entry.key_id) for entry in kept.entries} == {("unauthenticated", None)}


def test_zero_a_minute_records_none_of_them_and_callers_with_a_key_are_not_bounded() -> None:
    meter, kept, _ = metered(per_minute=0)
    meter.outcome(request(ANONYMOUS), None, InvalidRequest("no"))
    for _ in range(5):
        meter.outcome(request(), None, InvalidRequest("no"))
    assert [entry.tenant for entry in kept.entries] == ["acme"] * 5


@given(st.text(st.characters(codec="utf-8"), max_size=400), st.text(st.characters(codec="utf-8"), max_size=400))
async def test_the_store_takes_whatever_callers_and_providers_name(named: str, code: str) -> None:
    meter, kept, _ = metered()
    meter.attempt(request(model=named, extras=Extras(user=named, task_type=named)), attempt(error=code, status=400))
    meter.outcome(request(model=named), None, UpstreamRejected("no", upstream_code=code))
    assert await InProcessLedger().append([msgspec.json.encode(entry) for entry in kept.entries]) == 2
    assert all(len(entry.error or "") <= 256 for entry in kept.entries)


@pytest.mark.parametrize("purpose", ["answer", "refresh"])
def test_a_rejected_answer_s_cost_is_taken_off_the_savings_until_it_is_given_after_all(purpose: str) -> None:
    meter, kept, _ = metered()
    asked = request(purpose=purpose)
    spent, saved = meter.attempt(asked, attempt(final=False, price=CHEAP, baseline=DEAR, checks="failed:schema"))
    (entry,) = kept.entries
    assert (entry.final, entry.status, entry.error, entry.checks) == (False, 200, None, "failed:schema")
    assert (entry.cost_microusd, entry.baseline_microusd, entry.saved_microusd) == (spent, 0, -spent)
    worth = spent + saved
    assert worth == (12_900 if purpose == "answer" else 0), "what the baseline costs: 990 in at 10, 100 out at 30"
    given_ = Answer(source=Source.MODEL, model="fast", saved_microusd=worth, route="rule:r", checks="failed:schema")
    meter.outcome(asked, given_, None)
    outcome = kept.entries[1]
    assert (outcome.attempt, outcome.source, outcome.route, outcome.checks) == (0, "model", "rule:r", "failed:schema")
    assert sum(one.saved_microusd for one in kept.entries) == worth - spent
    assert [one.final for one in kept.entries] == [False, purpose == "answer"]


def test_a_lost_hedge_is_paid_for_out_of_the_savings_and_a_failed_attempt_is_not() -> None:
    meter, kept, _ = metered()
    meter.attempt(request(), attempt(final=False, status=499, error=HEDGE_LOST))
    meter.attempt(request(), attempt(final=False, status=504, error="upstream_timeout"))
    lost, failed = kept.entries
    assert (lost.source, lost.saved_microusd, lost.baseline_microusd) == ("none", -lost.cost_microusd, 0)
    assert failed.saved_microusd == 0, "without Farthing somebody would have paid for that too"


def test_the_entry_of_an_answer_says_where_the_exact_cache_keeps_it() -> None:
    meter, kept, _ = metered()
    key = bytes(range(32))
    meter.attempt(request(answer_key=key), attempt())
    meter.outcome(request(answer_key=key), Answer(source=Source.EXACT, model="fast"), None)
    assert [entry.answer_key for entry in kept.entries] == [key.hex(), key.hex()]
    kept.entries.clear()
    meter.attempt(request(answer_key=key), attempt(final=False))
    meter.attempt(request(answer_key=key), attempt(error="upstream_timeout"))
    meter.attempt(request(answer_key=key, purpose="refresh"), attempt())
    meter.attempt(request(), attempt())
    meter.outcome(request(answer_key=key), Answer(source=Source.SEMANTIC, model="fast"), None)
    meter.outcome(request(answer_key=key), None, Overloaded("full"))
    assert [entry.answer_key for entry in kept.entries] == [None] * 6
