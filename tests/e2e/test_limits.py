"""Rate limits, concurrency and the line before them, as the official SDK meets them; two workers, one file of limits."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import openai
import pytest
from conftest import scripted
from inside import ask, both_workers, eventually, new_key, settled
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from farthing.testing.installation import Installation
from farthing.testing.replies import Reply, completion, usage_object
from farthing.testing.upstream import ScriptedUpstream, stream

_TIERS = {
    "few": {"requests_per_minute": 6},
    "brisk": {"requests_per_minute": 60},
    "single": {"concurrency": 1},
    "words": {"tokens_per_minute": 1000, "requests_per_minute": 100},
}


@pytest.fixture(scope="module")
def limited(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    limits = {"tiers": _TIERS, "max_wait_s": 2, "max_queue": 3, "max_calls": 4}
    with Installation(folders / "limited", scripted(upstream, limits=limits), workers=2) as running:
        both_workers(running)
        yield running


def key_of(farthing: Installation, tier: str) -> str:
    key: str = new_key(farthing, "limits", tier=tier)["key"]
    return key


def said(text: str | None = None) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text or f"hello {uuid4()}"}]


def client_of(farthing: Installation, tier: str, *, retries: int = 0) -> OpenAI:
    return OpenAI(base_url=farthing.base_url, api_key=key_of(farthing, tier), max_retries=retries, timeout=20)


@pytest.fixture
async def single(limited: Installation) -> AsyncIterator[AsyncOpenAI]:
    """A key with a concurrency of 1."""
    async with AsyncOpenAI(base_url=limited.base_url, api_key=key_of(limited, "single"), max_retries=0, timeout=20) as client:
        yield client


def slow(text: str = "so", *, seconds: float) -> Reply:
    """A stream that begins at once and ends later."""
    role, first, *others = stream([text, " it goes"]).parts or ()
    return Reply(headers={"content-type": "text/event-stream"}, parts=(role, first, seconds, *others))


def test_one_connection_may_use_all_of_a_minute_and_then_the_sdk_gets_a_rate_limit_error(limited: Installation) -> None:
    with client_of(limited, "few") as client:
        seen = [client.chat.completions.with_raw_response.create(model="fast", messages=said()) for _ in range(6)]
        left = [int(raw.headers["x-ratelimit-remaining-requests"]) for raw in seen]
        assert left == [5, 4, 3, 2, 1, 0]
        assert {raw.headers["x-ratelimit-limit-requests"] for raw in seen} == {"6"}
        assert seen[0].headers["x-ratelimit-reset-requests"].endswith("s")
        with pytest.raises(openai.RateLimitError, match="6 requests a minute, its limit at Farthing") as caught:
            client.chat.completions.create(model="fast", messages=said())
    headers = caught.value.response.headers
    assert (caught.value.type, caught.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert headers["x-farthing-limit"] == "requests"
    assert headers["x-should-retry"] == "true"
    assert 0 < float(headers["retry-after-ms"]) <= 10_002
    assert 0 < int(headers["retry-after"]) <= 11
    assert headers["x-ratelimit-remaining-requests"] == "0"
    rows = settled(limited, [str(caught.value.request_id)])[str(caught.value.request_id)]
    assert [(row["status"], row["error"], row["attempt"]) for row in rows] == [(429, "rate_limit_exceeded", 0)]


def test_connections_to_both_workers_share_the_minute(limited: Installation) -> None:
    key, began = key_of(limited, "few"), time.monotonic()
    found = [ask(limited, key, str(uuid4())).status_code for _ in range(12)]  # each on a connection of its own
    flowed = int((time.monotonic() - began) / 10) + 1
    assert 6 <= found.count(200) <= 6 + flowed
    assert set(found) == {200, 429}


def test_a_keys_own_limit_goes_before_its_tiers_at_every_door(limited: Installation) -> None:
    key = new_key(limited, "limits", tier="few", requests_per_minute=2)["key"]
    assert [ask(limited, key, str(uuid4())).headers["x-ratelimit-limit-requests"] for _ in range(2)] == ["2", "2"]
    body = {"model": "fast", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx.post(f"{limited.base_url}/messages", json=body, headers={"x-api-key": key}, timeout=20)
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert (answer.headers["x-farthing-limit"], answer.headers["x-ratelimit-remaining-requests"]) == ("requests", "0")
    assert 0 < float(answer.headers["retry-after-ms"]) <= 30_002


def test_the_sdks_own_retries_come_when_we_said(limited: Installation) -> None:
    with client_of(limited, "brisk", retries=2) as client:
        same = said()
        while int(client.chat.completions.with_raw_response.create(model="fast", messages=same).headers["x-ratelimit-remaining-requests"]):
            pass
        taken = [client.chat.completions.with_raw_response.create(model="fast", messages=same).retries_taken for _ in range(2)]
    assert set(taken) <= {0, 1}  # 0: on a busy machine a second may go by between two requests
    assert 1 in taken


def test_a_key_without_limits_is_not_affected(limited: Installation) -> None:
    key = key_of(limited, "free")
    with httpx.Client(base_url=limited.base_url, headers={"authorization": f"Bearer {key}"}, timeout=20) as client:
        for _ in range(70):
            answer = client.post("/chat/completions", json={"model": "fast", "messages": [{"role": "user", "content": "again"}]})
            assert answer.status_code == 200
            assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_tokens_of_a_minute_are_those_that_the_model_used_and_the_cache_uses_none(limited: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", completion("short", usage=usage_object(100, 200)), completion("long", usage=usage_object(400, 1000)))
    with client_of(limited, "words") as client:
        first = client.chat.completions.with_raw_response.create(model="fast", messages=said("one"), max_tokens=300)
        assert int(first.headers["x-ratelimit-limit-tokens"]) == 1000
        assert 700 <= int(first.headers["x-ratelimit-remaining-tokens"]) < 760
        cached = client.chat.completions.with_raw_response.create(model="fast", messages=said("one"), max_tokens=300)
        assert cached.headers["x-farthing-source"] == "exact"
        assert 700 <= int(cached.headers["x-ratelimit-remaining-tokens"]) < 800
        client.chat.completions.create(model="fast", messages=said(), max_tokens=300)
        with pytest.raises(openai.RateLimitError, match="1000 tokens a minute") as caught:
            client.chat.completions.create(model="fast", messages=said(), max_tokens=300)
        headers = caught.value.response.headers
        assert (headers["x-farthing-limit"], headers["x-ratelimit-remaining-tokens"]) == ("tokens", "0")
        assert 40 < float(headers["retry-after-ms"]) / 1000 < 90  # 700 tokens of debt, and what the next call may use
        assert client.chat.completions.create(model="fast", messages=said("one"), max_tokens=300).choices


async def test_a_stream_holds_its_place_and_the_next_one_waits_for_its_end(single: AsyncOpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", slow(seconds=1.2))
    up.script("strong", completion("after"))
    before = len(up.of("strong"))
    live = await single.chat.completions.create(model="fast", messages=said(), stream=True)
    chunks = aiter(live)
    await anext(chunks)
    waiting = [asyncio.create_task(single.chat.completions.create(model="strong", messages=said())) for _ in range(2)]
    await asyncio.sleep(0.3)
    assert len(up.of("strong")) == before
    rest = [chunk async for chunk in chunks]
    assert rest[-1].choices[0].finish_reason == "stop"
    for answer in await asyncio.gather(*waiting):
        assert answer.choices[0].message.content == "after"


async def test_a_wait_that_is_too_long_or_a_line_that_is_too_long_is_a_429(
    limited: Installation, single: AsyncOpenAI, up: ScriptedUpstream
) -> None:
    up.script("fast", slow(seconds=4))
    live = await single.chat.completions.create(model="fast", messages=said(), stream=True)
    asked = [asyncio.create_task(single.chat.completions.create(model="strong", messages=said())) for _ in range(10)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    await live.close()
    assert all(isinstance(one, openai.RateLimitError) for one in found)
    messages = " ".join(str(one) for one in found)
    assert "limits.max_wait_s" in messages
    assert "limits.max_queue" in messages
    assert {one.response.headers["x-farthing-limit"] for one in found if isinstance(one, openai.RateLimitError)} == {"concurrency"}
    answer = await single.chat.completions.create(model="strong", messages=said("free again"))
    assert answer.choices[0].message.content == "free again"
    status, text = limited.get("/metrics", key=limited.key)
    assert status == 200
    assert b'farthing_limited_total{farthing_limit="requests"}' in text
    assert b'farthing_waiting{farthing_limit="calls"}' in text


async def test_who_hangs_up_gives_his_place_back(single: AsyncOpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", slow(seconds=30))
    live = await single.chat.completions.create(model="fast", messages=said(), stream=True)
    waiting = asyncio.create_task(single.chat.completions.create(model="strong", messages=said("me")))
    gone = asyncio.create_task(single.chat.completions.create(model="strong", messages=said("never mind")))
    await asyncio.sleep(0.2)
    gone.cancel()
    await live.close()
    assert (await waiting).choices[0].message.content == "me"


async def test_a_worker_makes_so_many_calls_at_once_and_the_others_wait(limited: Installation, up: ScriptedUpstream) -> None:
    up.script("strong", completion("done", delay=0.2))
    key = key_of(limited, "free")
    async with httpx.AsyncClient(base_url=limited.base_url, headers={"authorization": f"Bearer {key}"}, timeout=20) as client:
        bodies = [{"model": "strong", "messages": [{"role": "user", "content": str(uuid4())}]} for _ in range(24)]
        found = await asyncio.gather(*[client.post("/chat/completions", json=body) for body in bodies])
    assert {one.status_code for one in found} == {200}
    came = [received.at for received in up.of("strong")][-24:]
    assert max(sum(at <= other < at + 0.19 for other in came) for at in came) <= 2 * 4


async def test_the_place_of_a_worker_that_is_killed_is_free_again(limited: Installation, single: AsyncOpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", slow(seconds=30))
    await single.chat.completions.create(model="fast", messages=said(), stream=True)
    for pid in both_workers(limited):
        os.kill(pid, signal.SIGKILL)

    def again() -> bool | None:
        try:
            return ask(limited, single.api_key, str(uuid4()), "strong").status_code == 200
        except httpx.TransportError:
            return None

    assert await asyncio.to_thread(eventually, again, "an answer")
