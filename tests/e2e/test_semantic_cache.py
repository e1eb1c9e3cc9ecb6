"""The semantic cache as users meet it: the same question in other words is answered at once; another one, or another tenant's, never is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from conftest import scripted
from inside import NO_TLS, alive, ask, eventually, new_key, query, settled

from farthing.testing.installation import Installation
from farthing.testing.replies import completion
from farthing.testing.upstream import ScriptedUpstream

Json = dict[str, Any]
RESET = "How do I reset my password?"
FORGOT = "Forgot password help, please"


@pytest.fixture(scope="module")
def house(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    """Two workers. Nothing is looked at twice by chance; a judge reads near misses."""
    semantic = {"judge": {"model": "judge", "band": 0.02}, "shadow": {"share": 0}}
    settings = scripted(upstream, cache={"semantic": semantic, "namespaces": {"brief": {"ttl_s": 1}}})
    price = {"input_usd_per_1m": 1, "output_usd_per_1m": 2}
    settings["models"]["judge"] = {"provider": "up", "upstream_model": "judge", "price": price}  # type: ignore[index]  # as `scripted` makes it
    with Installation(folders / "semantic", settings, workers=2) as running:
        yield running


@pytest.fixture
def key(house: Installation) -> str:
    """Of a tenant of its own."""
    return str(new_key(house, f"tenant-{uuid4()}")["key"])


def admin(house: Installation, method: str, path: str, body: Json | None = None) -> Json:
    headers = {"authorization": f"Bearer {house.key}"}
    answer = httpx.request(method, f"{house.url}/admin/v1/cache/{path}", json=body, headers=headers, timeout=20, verify=NO_TLS)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def tenant_of(house: Installation, key: str) -> str:
    return str(query(house, "SELECT tenant FROM farthing.keys WHERE hint = %s ORDER BY created_at DESC LIMIT 1", key[-4:])[0]["tenant"])


def source(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-farthing-source"]


def converse(house: Installation, key: str, messages: list[Json], **more: Any) -> httpx.Response:
    body = {"model": "fast", "messages": messages, **more}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{house.base_url}/chat/completions", json=body, headers=headers, timeout=20, verify=NO_TLS)


def known(house: Installation, key: str, text: str, **more: Any) -> None:
    """Ask, and wait until every worker knows the question: `explain` shows what a worker sees, and is answered by either of the two."""
    before = more.pop("before", [])
    assert source(converse(house, key, [*before, {"role": "user", "content": text}], **more)) == "model"
    eventually(lambda: all(sees(house, key, text, before=before, **more) for _ in range(12)), f"{text!r} known to all workers")


def sees(house: Installation, key: str, text: str, **more: Any) -> bool:
    """Whether one of the workers knows the question."""
    messages = [*more.pop("before", []), {"role": "user", "content": f"{text} please"}]
    request = {"model": "fast", "messages": messages, **more}
    told = admin(house, "POST", "explain", {"tenant": tenant_of(house, key), "request": request})
    return any(one["asked"] == text for one in told.get("candidates", ()))


def test_the_same_question_in_other_words_is_answered_from_the_cache(house: Installation, key: str) -> None:
    known(house, key, RESET)
    first = ask(house, key, RESET)
    again = ask(house, key, FORGOT)
    assert (source(first), source(again)) == ("exact", "semantic")
    assert again.json()["choices"] == first.json()["choices"]
    assert again.headers["x-farthing-cost-usd"] == "0.000000"
    assert float(again.headers["x-farthing-saved-usd"]) > 0
    rows = settled(house, [again.headers["x-request-id"]])[again.headers["x-request-id"]]
    assert [(row["source"], row["cost_microusd"], row["saved_microusd"] > 0) for row in rows] == [("semantic", 0, True)]


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        (RESET, "How do I reset my entire database?"),
        ("Find flights from Oslo to Rome", "Find flights from Rome to Oslo"),
        ("Can dogs eat chocolate?", "Can cats eat chocolate?"),
        ("What is 15% of 80?", "What is 25% of 80?"),
        ("How do I enable notifications?", "How do I disable notifications?"),
        ("Is Python faster than Java?", "Is Java faster than Python?"),
        ("List three reasons to learn French", "List five reasons to learn French"),
        ("What happened in 1914?", "What happened in 1941?"),
        ("Explain recursion in one sentence", "Explain recursion in detail, as JSON"),
        ("What is the opposite of hot?", "Was ist das Gegenteil von heiß?"),
    ],
)
def test_another_question_is_not(house: Installation, key: str, asked: str, other: str) -> None:
    known(house, key, asked)
    assert source(ask(house, key, other)) == "model"


def test_other_tenants_and_other_contexts_never_meet(house: Installation, key: str) -> None:
    known(house, key, RESET)
    other = str(new_key(house, f"other-{uuid4()}")["key"])
    assert source(ask(house, other, FORGOT)) == "model"
    for more in (
        {"farthing": {"namespace": "docs"}},
        {"temperature": 0.2},
        {"response_format": {"type": "json_object"}},
        {"farthing": {"cache": "off"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    ):
        assert source(ask(house, key, FORGOT, **more)) == "model", more
    assert source(ask(house, key, FORGOT, model="strong")) == "model"


def test_a_follow_up_belongs_to_its_conversation(house: Installation, key: str) -> None:
    def about(thing: str) -> list[Json]:
        return [{"role": "user", "content": f"Do you sell {thing}?"}, {"role": "assistant", "content": "Yes."}]

    known(house, key, "And do you have it in blue?", before=about("shirts"))
    again = {"role": "user", "content": "and do you have it in blue"}
    assert source(converse(house, key, [*about("cars"), again])) == "model"
    assert source(converse(house, key, [again])) == "model"
    assert source(converse(house, key, [*about("shirts"), again])) == "semantic"


def test_a_flush_reaches_every_worker(house: Installation, key: str) -> None:
    docs: Json = {"farthing": {"namespace": "docs", "tags": ["returns-policy"]}}
    known(house, key, RESET, **docs)
    known(house, key, "What is your returns policy?", farthing={"namespace": "shop", "tags": ["returns-policy"]})
    command = [sys.executable, "-m", "farthing.cli.main", "cache", "flush", "--namespace", "docs", "--data", str(house.data), "--json"]
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert min(done["answers"], done["questions"]) >= 1
    assert not any(sees(house, key, RESET, **docs) for _ in range(8))
    assert source(ask(house, key, RESET, **docs)) == "model"
    shop: Json = {"farthing": {"namespace": "shop"}}
    assert source(ask(house, key, "What's your returns policy?", **shop)) == "semantic"
    assert admin(house, "POST", "flush", {"tenant": tenant_of(house, key), "tag": "returns-policy"})["questions"] >= 1
    assert source(ask(house, key, "What is your returns policy", **shop)) == "model"


def test_a_personal_question_is_shared_with_nobody(house: Installation, key: str) -> None:
    mine = "What is my current account balance?"
    assert source(ask(house, key, mine)) == "model"
    known(house, key, f"{mine[:-1]} now?", farthing={"user": "ada"})
    assert source(ask(house, key, "what is my current account balance now", farthing={"user": "ada"})) == "semantic"
    assert source(ask(house, key, "what is my current account balance now", farthing={"user": "bob"})) == "model"


def test_a_streamed_hit_is_the_answer_again(house: Installation, key: str) -> None:
    known(house, key, RESET)
    whole = ask(house, key, FORGOT).json()["choices"][0]["message"]["content"]
    answer = ask(house, key, FORGOT, stream=True)
    assert source(answer) == "semantic"
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]) == whole
    assert answer.text.rstrip().endswith("data: [DONE]") or "data: [DONE]" in answer.text


def test_a_correction_kills_the_answer_and_lists_whom_it_reached(house: Installation, key: str) -> None:
    known(house, key, RESET)
    hit = ask(house, key, FORGOT)
    assert source(hit) == "semantic"
    told = {"tenant": tenant_of(house, key), "request_id": hit.headers["x-request-id"], "right": False, "by": "correction"}

    def said() -> Json | None:
        headers = {"authorization": f"Bearer {house.key}"}
        answer = httpx.post(f"{house.url}/admin/v1/cache/verdicts", json=told, headers=headers, timeout=20, verify=NO_TLS)
        return answer.json() if answer.status_code == 200 else None

    followed = eventually(said, "the hit known to the store")
    assert (followed["consequence"], followed["answered"]) == ("dead", [hit.headers["x-request-id"]])
    assert admin(house, "POST", "verdicts", told)["new"] is False
    assert [source(ask(house, key, text)) for text in (FORGOT, RESET)] == ["model", "model"]
    elsewhere = {**told, "tenant": "somebody-else"}
    headers = {"authorization": f"Bearer {house.key}"}
    refused = httpx.post(f"{house.url}/admin/v1/cache/verdicts", json=elsewhere, headers=headers, timeout=20, verify=NO_TLS)
    assert refused.status_code == 404


def test_a_judge_is_asked_about_a_near_miss_and_paid_for(house: Installation, key: str, up: ScriptedUpstream) -> None:
    up.script("judge", completion("No."))
    known(house, key, "How can I improve my English speaking skills?")
    asked = ask(house, key, "What are good ways to speak English more fluently?")
    if source(asked) != "model":
        pytest.skip("it was no near miss")
    tenant = tenant_of(house, key)
    rows = eventually(
        lambda: query(house, "SELECT * FROM farthing.ledger WHERE tenant = %s AND purpose = 'verify'", tenant),
        "the judge's call in the ledger",
    )
    assert [(row["model_used"], row["final"], row["cost_microusd"] > 0, row["saved_microusd"] < 0) for row in rows] == [
        ("judge", False, True, True)
    ]
    verdicts = eventually(lambda: query(house, "SELECT * FROM farthing.cache_verdicts WHERE tenant = %s", tenant), "its verdict")
    assert [(row["same"], row["by"], row["served"]) for row in verdicts] == [(False, "judge", False)]


def test_a_killed_worker_knows_the_questions_again(house: Installation, key: str) -> None:
    known(house, key, RESET)
    pids = house.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, pids)) and house.get("/readyz")[0] == 200, "new workers")
    # A worker takes no requests before it knows what there is.
    assert [source(ask(house, key, FORGOT)) for _ in range(8)] == ["semantic"] * 8
