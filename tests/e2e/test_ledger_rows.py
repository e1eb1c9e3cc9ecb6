"""What a row of the ledger says of streams, cancellations, failed attempts, fallbacks and prices."""

from __future__ import annotations

import httpx
import pytest
from inside import Row, add_up, ask, eventually, new_key, query, settled
from openai import OpenAI

from farthing.testing.installation import Installation
from farthing.testing.replies import UsagePlace
from farthing.testing.upstream import RESET, Reply, ScriptedUpstream, completion, error, sse, stream, usage_object

_USAGE = usage_object(1000, 100)


@pytest.fixture(scope="module")
def key(books: Installation) -> str:
    return str(new_key(books, "rows", user="ada", tier="pro")["key"])


def _rows(farthing: Installation, answer: httpx.Response) -> list[Row]:
    request_id = answer.headers["x-request-id"]
    return settled(farthing, [request_id])[request_id]


def _money(row: Row) -> tuple[int, int, int, str]:
    return row["tokens_in"], row["tokens_out"], row["cost_microusd"], row["usage_source"]


def test_a_row_says_who_asked_what_and_what_it_cost(books: Installation, key: str, up: ScriptedUpstream) -> None:
    up.script("cached", completion("From their cache.", usage=usage_object(1000, 100, cached=800, reasoning=40)))
    extras = {"user": "grace", "task_type": "naming"}
    (row,) = _rows(books, ask(books, key, "Who?", "cached", farthing=extras))
    said = {name: row[name] for name in ("tenant", "user_id", "tier", "operation", "purpose", "source", "route", "task_type", "stream")}
    assert said == {
        "tenant": "rows",
        "user_id": "ada",  # the key was made for her: it speaks for nobody else
        "tier": "pro",
        "operation": "chat",
        "purpose": "answer",
        "source": "model",
        "route": "direct",
        "task_type": "naming",
        "stream": False,
    }
    assert (row["model_asked"], row["model_used"], row["provider"], row["upstream_model"]) == ("cached", "cached", "up", "cached")
    assert (row["attempt"], row["final"], row["status"], row["error"]) == (1, True, 200, None)
    assert (row["tokens_cache_read"], row["tokens_reasoning"]) == (800, 40)
    assert _money(row) == (1000, 100, 600, "provider")  # 200 at 1, 800 at 0.25, 100 at 2 µ$
    assert (row["price_in_microusd_per_1m"], row["price_out_microusd_per_1m"], row["price_source"]) == (1_000_000, 2_000_000, "settings")
    assert row["latency_us"] > 0
    assert row["ttft_us"] is None
    assert row["id"].int >> 80 == int(row["at"].timestamp() * 1000 + 0.5)


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("place", [True, "on_last_choice_chunk"])
def test_the_providers_usage_wins_wherever_it_comes_in_a_stream(
    books: Installation, key: str, up: ScriptedUpstream, place: UsagePlace, *, include_usage: bool
) -> None:
    up.script("plain", stream(["Hel", "lo"], usage=place, counts=_USAGE))
    answer = ask(books, key, f"Usage {place} {include_usage}", "plain", stream=True, stream_options={"include_usage": include_usage})
    (row,) = _rows(books, answer)
    assert _money(row) == (1000, 100, 1200, "provider")
    assert (row["stream"], row["status"]) == (True, 200)
    assert 0 < row["ttft_us"] <= row["latency_us"]
    assert ": farthing cost-usd=0.001200 saved-usd=0.000000" in answer.text
    assert ('"prompt_tokens":1000' in answer.text) is include_usage


def test_usage_that_comes_in_every_chunk_is_counted_once(books: Installation, key: str, up: ScriptedUpstream) -> None:
    def piece(text: str, tokens: int, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
        return sse(
            {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            | {"usage": usage_object(1000, tokens)}
        )

    up.script("plain", Reply(parts=[piece("a", 30), piece("b", 60), piece("c", 100, "stop"), sse(b"[DONE]")]))
    (row,) = _rows(books, ask(books, key, "Running usage", "plain", stream=True))
    assert _money(row) == (1000, 100, 1200, "provider")


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_without_usage_is_estimated_and_says_so(books: Installation, key: str, up: ScriptedUpstream, *, streamed: bool) -> None:
    up.script("plain", stream(["12345678"], usage=False) if streamed else completion("12345678", usage=False))
    answer = ask(
        books, key, f"No usage {streamed}", "plain", stream=streamed, **({"stream_options": {"include_usage": True}} if streamed else {})
    )
    (row,) = _rows(books, answer)
    assert row["usage_source"] == "estimated"
    assert row["tokens_in"] > 0
    assert row["tokens_out"] == 2
    assert row["cost_microusd"] == row["tokens_in"] + 2 * row["tokens_out"]
    assert '"estimated":true' in answer.text


def test_a_cancelled_stream_is_a_final_row_with_an_estimate(books: Installation, key: str, up: ScriptedUpstream) -> None:
    up.script("plain", stream([f"word{number:04} " for number in range(500)], delay=0.01))
    gone = up.disconnects
    with OpenAI(base_url=books.base_url, api_key=key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model="plain", messages=[{"role": "user", "content": "Go on."}], stream=True)
        chunks = raw.parse()
        for _ in range(6):
            next(chunks)
        chunks.close()
        request_id = raw.headers["x-request-id"]
        (row,) = settled(books, [request_id])[request_id]
    assert (row["status"], row["error"], row["final"], row["source"]) == (499, "client_disconnected", True, "model")
    assert row["usage_source"] == "estimated"
    assert 0 < row["tokens_out"] < 500
    assert row["cost_microusd"] == row["tokens_in"] + 2 * row["tokens_out"]
    up.wait_until(lambda up: up.disconnects > gone)


def test_a_stream_that_breaks_is_a_final_row_with_its_error(books: Installation, key: str, up: ScriptedUpstream) -> None:
    whole = list(stream(["some", " words", " come"]).parts or [])
    up.script("plain", Reply(parts=[*whole[:3], RESET]))
    answer = ask(books, key, "Break.", "plain", stream=True)
    (row,) = _rows(books, answer)
    assert (row["status"], row["error"], row["final"], row["usage_source"]) == (502, "upstream_unavailable", True, "estimated")
    assert row["cost_microusd"] > 0
    assert '"error":' in answer.text
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("streamed", [True, False])
def test_each_failed_attempt_is_a_row_and_the_last_one_is_final(
    books: Installation, key: str, up: ScriptedUpstream, *, streamed: bool
) -> None:
    up.script("broken", error(500, "out of order"))
    up.script("dear", stream(["Here."], counts=usage_object(100, 10)) if streamed else completion("Here.", usage=usage_object(100, 10)))
    answer = ask(books, key, f"Fall back {streamed}", "shaky", stream=streamed)
    assert (answer.status_code, answer.headers["x-farthing-model"], answer.headers["x-farthing-route"]) == (200, "dear", "fallback")
    rows = _rows(books, answer)
    told = [(row["attempt"], row["final"], row["provider"], row["upstream_model"], row["status"], row["error"]) for row in rows]
    assert told == [
        (1, False, "nowhere", "a", 502, "upstream_unavailable"),
        (2, False, "up", "broken", 502, "upstream_unavailable"),
        (3, True, "up", "dear", 200, None),
    ]
    assert [row["cost_microusd"] for row in rows] == [0, 0, 1300]
    # Asked for at 1 and 2 µ$ a token it would have cost 120: the fallback cost more, and the ledger says so.
    assert [(row["baseline_microusd"], row["saved_microusd"]) for row in rows][-1] == (120, -1180)
    assert {row["model_asked"] for row in rows} == {"shaky"}


def test_when_all_attempts_fail_the_last_one_is_final_and_nothing_is_charged(books: Installation, key: str, up: ScriptedUpstream) -> None:
    up.script("broken", error(500, "out of order"))
    up.script("dear", error(429, "slow down", "requests", "rate_limit_exceeded", {"retry-after": "1"}))
    answer = ask(books, key, "Fail.", "shaky")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    rows = _rows(books, answer)
    assert [(row["attempt"], row["final"], row["status"], row["cost_microusd"]) for row in rows] == [
        (1, False, 502, 0),
        (2, False, 502, 0),
        (3, True, 429, 0),
    ]
    assert {row["source"] for row in rows} == {"none"}


def test_prices_come_from_genai_prices_where_the_settings_have_none(books: Installation, key: str, up: ScriptedUpstream) -> None:
    up.script("gpt-4o-mini", completion("Hello.", usage=usage_object(1_000_000, 100_000)))
    (row,) = _rows(books, ask(books, key, "Price?", "known"))
    assert row["price_source"] == "genai-prices"
    assert (row["price_in_microusd_per_1m"], row["price_out_microusd_per_1m"]) == (150_000, 600_000)
    assert row["cost_microusd"] == 150_000 + 60_000


def test_a_model_that_nobody_prices_costs_nothing_and_says_why(books: Installation, key: str) -> None:
    (row,) = _rows(books, ask(books, key, "Price?", "unknown"))
    assert (row["price_source"], row["cost_microusd"]) == ("none", 0)
    assert row["tokens_in"] > 0


def test_embeddings_are_in_the_ledger_too(books: Installation, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "vectors", "input": ["a", "b", "c"]}
    first, again = (httpx.post(f"{books.base_url}/embeddings", json=body, headers=headers) for _ in range(2))
    (row,), (hit,) = _rows(books, first), _rows(books, again)
    assert (row["operation"], row["tokens_in"], row["tokens_out"], row["cost_microusd"]) == ("embeddings", 12, 0, 1200)
    assert (hit["operation"], hit["source"], hit["saved_microusd"], hit["attempt"]) == ("embeddings", "exact", 1200, 0)


def test_strangers_are_recorded_apart(books: Installation) -> None:
    before = query(books, "SELECT count(*) AS n FROM farthing.ledger WHERE tenant = 'unauthenticated'")[0]["n"]
    (row,) = _rows(books, ask(books, "fk-no-such-key-of-ours", "Who am I?", "plain"))
    assert (row["tenant"], row["key_id"], row["status"], row["error"]) == ("unauthenticated", None, 401, "invalid_api_key")
    eventually(lambda: query(books, "SELECT count(*) AS n FROM farthing.ledger WHERE tenant = 'unauthenticated'")[0]["n"] > before, "a row")


def test_local_models_are_marked_as_notional(local: Installation) -> None:
    tenant = "notional"
    key = new_key(local, tenant)["key"]
    first, again = (ask(local, key, "Name one coin.", "local", max_tokens=12) for _ in range(2))
    (row,), (hit,) = _rows(local, first), _rows(local, again)
    assert (row["price_source"], row["price_in_microusd_per_1m"], row["price_out_microusd_per_1m"]) == ("notional", 150_000, 600_000)
    cost = (row["tokens_in"] * 150_000 + row["tokens_out"] * 600_000 + 500_000) // 1_000_000
    assert row["cost_microusd"] == hit["saved_microusd"] == cost > 0
    found = local.report(tenant=tenant)
    assert (found["requests"], found["spent_microusd"], found["notional_microusd"], found["saved_microusd"]) == (2, cost, cost, cost)
    assert found["notional_models"] == ["local"]
    table = local.cli("report", "--since", "1h", "--tenant", tenant).stdout
    assert "is notional: nobody bills local." in table


def test_after_all_of_this_the_sums_agree(books: Installation) -> None:
    add_up(books)
