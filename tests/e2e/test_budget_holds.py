"""Budgets over real workers and a real database: the ledger's sum stays within the limit, and who is refused knows why."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import scripted
from inside import eventually, new_key, query
from openai import APIStatusError, AsyncOpenAI, BadRequestError, OpenAI, RateLimitError

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, completion, error, stream, usage_object

ANSWER_USD = 0.001
USAGE = usage_object(100, 450)  # at 1 and 2 dollars per million tokens: 1,000 micro-dollars
ROOM = 1_200  # tokens: more than an answer has


@pytest.fixture(scope="module")
def treasury(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    """Four workers without a cache; `gratis` costs nothing, `unpriced` nobody knows what, `risky` falls back to `dear`."""
    settings: dict[str, Any] = scripted(upstream)
    settings["cache"] = {"exact": {"enabled": False}}
    settings["budgets"] = {"tiers": {"trial": "0.002/day"}}
    model = {"provider": "up", "price": {"input_usd_per_1m": 1, "output_usd_per_1m": 2}}
    settings["models"] |= {
        "gratis": {"provider": "up", "upstream_model": "gratis", "price": {"input_usd_per_1m": 0}},
        "unpriced": {"provider": "up", "upstream_model": "a-model-that-nobody-sells"},
        "risky": {**model, "upstream_model": "broken", "fallbacks": ["dear"]},
        "dear": {"provider": "up", "upstream_model": "dear", "price": {"input_usd_per_1m": 1000, "output_usd_per_1m": 1000}},
        "saved": {**model, "upstream_model": "fast", "fallbacks": ["gratis"]},
    }
    with Installation(folders / "treasury", settings, workers=4) as running:
        yield running


def run(farthing: Installation, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(farthing.cli(*arguments, "--json").stdout.splitlines()[-1])
    return found


def spent(farthing: Installation, tenant: str) -> int:
    (row,) = query(farthing, "SELECT coalesce(sum(cost_microusd), 0)::bigint AS cost FROM farthing.ledger WHERE tenant = %s", tenant)
    return int(row["cost"])


def standing(farthing: Installation, tenant: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(farthing.get(f"/admin/v1/budgets?tenant={tenant}", key=farthing.key)[1])["data"]
    assert len(found) == 1
    return found[0]


def client(farthing: Installation, key: str, retries: int = 0) -> OpenAI:
    return OpenAI(base_url=farthing.base_url, api_key=key, max_retries=retries, timeout=30)


def say(sdk: OpenAI, model: str = "fast", **more: Any) -> str:
    answer = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], **more)
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize("bound", [{"max_tokens": 500}, {}], ids=["max_tokens", "of unknown length"])
async def test_a_crowd_cannot_overspend_a_hard_budget(treasury: Installation, up: ScriptedUpstream, bound: dict[str, int]) -> None:
    up.script("fast", completion("hello", usage=USAGE))
    tenant = f"crowd-{len(bound)}"
    key = new_key(treasury, tenant, budget_usd="0.05/day")["key"]

    async def call(http: httpx.AsyncClient, number: int) -> tuple[int, str | None, str | None]:
        body = {"model": "fast", "messages": [{"role": "user", "content": f"question {number}"}], **bound}
        answer = await http.post(f"{treasury.base_url}/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
        refusal = answer.json().get("error") or {}
        assert refusal.get("type") == refusal.get("code")
        return answer.status_code, refusal.get("code"), answer.headers.get("x-should-retry")

    limits = httpx.Limits(max_connections=300)
    async with httpx.AsyncClient(timeout=60, limits=limits) as http:
        outcomes = Counter(await asyncio.gather(*(call(http, number) for number in range(300))))
    answered = sum(count for (status, _, _), count in outcomes.items() if status == 200)
    assert {(status, code) for status, code, _ in outcomes} == {(200, None), (429, "insufficient_quota")}
    await asyncio.to_thread(eventually, lambda: spent(treasury, tenant) == answered * 1000, "the ledger")
    assert 40 <= answered <= 50
    assert standing(treasury, tenant)["spent_microusd"] == answered * 1000 <= 50_000


def test_a_budget_is_made_and_changed_by_command_line_and_holds_at_once(treasury: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", completion("hello", usage=USAGE))
    made = run(treasury, "key", "create", "--tenant", "cli", "--budget-usd", "0.0015/day")
    sdk = client(treasury, made["key"])
    assert say(sdk, max_tokens=460) == "hello"
    with pytest.raises(RateLimitError) as refused:
        say(sdk, max_tokens=460)
    assert (refused.value.type, refused.value.code) == ("insufficient_quota", "insufficient_quota")
    assert refused.value.response.headers["x-should-retry"] == "false"
    raised = run(treasury, "budget", "set", "0.0025/day", "--key", made["id"])
    assert (raised["spent_microusd"], raised["limit_microusd"]) == (1000, 2500)
    eventually(lambda: _answers(sdk), "the raised budget")
    listed = run(treasury, "budget", "list", "--tenant", "cli")["data"]
    assert [(row["scope"], row["subject"], row["window"]) for row in listed] == [("key", made["id"], "day")]
    assert run(treasury, "budget", "delete", raised["id"])["deleted"]
    eventually(lambda: _answers(sdk), "no budget any more")


def _answers(sdk: OpenAI) -> bool:
    try:
        return say(sdk, max_tokens=460) == "hello"
    except RateLimitError:
        return False


def test_users_tenants_and_tiers_have_budgets_of_their_own(treasury: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", completion("hello", usage=USAGE))
    run(treasury, "budget", "set", "0.0015/month", "--tenant", "house", "--user", "ann")
    run(treasury, "budget", "set", "0.0035/rolling-24h", "--tenant", "house")
    shared = client(treasury, new_key(treasury, "house", tier="pro")["key"])
    ann: dict[str, Any] = {"max_tokens": 460, "extra_body": {"farthing": {"user": "ann"}}}
    eventually(lambda: say(shared, **ann) == "hello", "the first")
    with pytest.raises(RateLimitError, match="user 'ann'"):
        say(shared, **ann)
    for _ in range(2):
        say(shared, max_tokens=460)
    with pytest.raises(RateLimitError, match="tenant 'house'"):
        say(shared, max_tokens=460)
    trial = client(treasury, new_key(treasury, "visitor", tier="trial")["key"])
    say(trial, max_tokens=460)
    with pytest.raises(RateLimitError) as refused:
        [say(trial, max_tokens=460) for _ in range(2)]
    assert "USD" not in refused.value.message


def test_a_key_of_a_user_cannot_spend_as_another(treasury: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", completion("hello", usage=USAGE))
    run(treasury, "budget", "set", "0.0001/day", "--tenant", "club", "--user", "bob")
    bob = client(treasury, new_key(treasury, "club", user="bob")["key"])
    eventually(lambda: not _answers(bob), "bob's budget")
    with pytest.raises(RateLimitError):
        say(bob, max_tokens=460, extra_body={"farthing": {"user": "ann"}})


def test_a_fallback_asks_for_leave_too(treasury: Installation, up: ScriptedUpstream) -> None:
    up.script("broken", error(500, "boom"))
    key = new_key(treasury, "careful", budget_usd="0.05/day")["key"]
    before = len(up.of("dear"))
    with pytest.raises(RateLimitError) as refused:
        say(client(treasury, key), "risky", max_tokens=ROOM)
    assert refused.value.code == "insufficient_quota"
    assert len(up.of("dear")) == before
    rows = eventually(lambda: query(treasury, "SELECT * FROM farthing.ledger WHERE tenant = 'careful' ORDER BY id"), "the ledger")
    eventually(lambda: len(query(treasury, "SELECT 1 FROM farthing.ledger WHERE tenant = 'careful'")) == 2, "both rows")
    assert rows[0]["status"] in (429, 502)


def test_who_has_spent_all_is_answered_by_what_costs_nothing(treasury: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", completion("paid", usage=USAGE))
    up.script("gratis", completion("free"))
    sdk = client(treasury, new_key(treasury, "frugal", budget_usd="0/day")["key"])
    raw = sdk.chat.completions.with_raw_response.create(model="saved", messages=[{"role": "user", "content": "hi"}])
    assert raw.parse().choices[0].message.content == "free"
    assert (raw.headers["x-farthing-route"], raw.headers["x-farthing-model"]) == ("budget", "gratis")
    assert say(sdk, "gratis") == "free"
    with pytest.raises(RateLimitError):
        say(sdk, "fast")


def test_a_model_without_a_price_says_how_to_give_it_one(treasury: Installation) -> None:
    sdk = client(treasury, new_key(treasury, "strict", budget_usd="5/day")["key"])
    with pytest.raises(BadRequestError, match="input_usd_per_1m") as refused:
        say(sdk, "unpriced")
    assert refused.value.code == "price_unknown"
    assert say(client(treasury, new_key(treasury, "easy")["key"]), "unpriced") != "None"


def test_a_soft_budget_only_says_so(treasury: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", completion("hello", usage=USAGE))
    sdk = client(treasury, new_key(treasury, "soft", budget_usd="0.0005/hour soft")["key"])

    def told() -> bool:
        raw = sdk.chat.completions.with_raw_response.create(model="fast", messages=[{"role": "user", "content": "hi"}])
        return raw.headers.get("x-farthing-budget") == "soft-exceeded"

    eventually(told, "the header")


@pytest.mark.parametrize("usage", [False, True], ids=["none", "a lie"])
def test_a_stream_without_usage_or_with_a_lie_is_billed_by_what_it_said(treasury: Installation, up: ScriptedUpstream, usage: bool) -> None:  # noqa: FBT001 - a table
    words = ["word "] * 2000
    up.script("fast", stream(words, usage=usage, counts=usage_object(5, 0)) if usage else stream(words, usage=False))
    tenant = f"liar-{usage}".lower()
    sdk = client(treasury, new_key(treasury, tenant, budget_usd="1/day")["key"])
    asked: list[dict[str, str]] = [{"role": "user", "content": "hi"}]
    chunks = list(sdk.chat.completions.create(model="fast", messages=asked, stream=True))  # type: ignore[arg-type]  # a plain dictionary
    assert len(chunks) >= 2000
    eventually(lambda: spent(treasury, tenant) >= 4000, "the ledger")
    (row,) = query(treasury, "SELECT * FROM farthing.ledger WHERE tenant = %s", tenant)
    assert row["usage_source"] == "estimated"


async def test_what_a_killed_worker_held_comes_back(treasury: Installation, up: ScriptedUpstream) -> None:
    """Its journal's lock says that it is dead; when its rows are in the ledger, its leases are nobody's."""
    up.script("fast", completion("late", usage=USAGE, delay=30))
    made = new_key(treasury, "phoenix", budget_usd="0.0013/day")
    async with AsyncOpenAI(base_url=treasury.base_url, api_key=made["key"], max_retries=0, timeout=40) as sdk:
        pending = asyncio.ensure_future(
            sdk.chat.completions.create(model="fast", messages=[{"role": "user", "content": "hi"}], max_tokens=500)
        )
        await asyncio.to_thread(eventually, lambda: standing(treasury, "phoenix")["held_microusd"] >= 1000, "the lease")
        for pid in treasury.worker_pids():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(Exception):  # noqa: B017, PT011 - the connection broke, as the SDK has it
            await pending
    up.script("fast", completion("hello", usage=USAGE))
    fresh = client(treasury, made["key"], retries=5)
    eventually(lambda: _answers_somehow(fresh), "the dead workers' leases", 30)


def _answers_somehow(sdk: OpenAI) -> bool:
    try:
        return say(sdk, max_tokens=500) == "hello"
    except (APIStatusError, OSError, httpx.HTTPError):
        return False


@pytest.mark.parametrize("text", ["-1/day", "NaN/day", "1e99/day", "5", "5/fortnight", ""])
def test_what_is_no_budget_is_refused(treasury: Installation, text: str) -> None:
    answer = httpx.post(
        f"{treasury.url}/admin/v1/keys",
        json={"tenant": "nobody", "budget_usd": text},
        headers={"authorization": f"Bearer {treasury.key}"},
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "budget_usd")


def test_budgets_of_the_settings_are_changed_there_only(treasury: Installation) -> None:
    listed = json.loads(treasury.get("/admin/v1/budgets", key=treasury.key)[1])["data"]
    (tier,) = [row for row in listed if row["origin"] == "settings"]
    headers = {"authorization": f"Bearer {treasury.key}"}
    gone = httpx.delete(f"{treasury.url}/admin/v1/budgets/{tier['id']}", headers=headers)
    again = httpx.post(f"{treasury.url}/admin/v1/budgets", json={"tier": "trial", "budget_usd": "9/day"}, headers=headers)
    assert (gone.status_code, again.status_code) == (400, 400)
    assert "settings file" in gone.json()["error"]["message"]
