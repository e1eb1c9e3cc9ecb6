"""The semantic cache with its index in Redis: shared by all workers at once, flushed at once, and missed by nobody while it is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from conftest import scripted
from inside import NO_TLS, ask, eventually, new_key

from farthing.testing.installation import Installation
from farthing.testing.redis import RUNS_HERE, RedisServer
from farthing.testing.upstream import ScriptedUpstream

pytestmark = pytest.mark.skipif(not RUNS_HERE, reason="there are no wheels of Redis for this machine")

RESET = "How do I reset my password?"
AGAIN = "How can I reset my password?"


@pytest.fixture(scope="module")
def server(folders: Path) -> Iterator[RedisServer]:
    server = RedisServer(folders / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def house(folders: Path, upstream: ScriptedUpstream, server: RedisServer) -> Iterator[Installation]:
    cache = {"semantic": {"backend": "redis", "search_timeout_s": 1, "encode_timeout_s": 1, "shadow": {"share": 0}}}
    settings = scripted(upstream, cache=cache, redis={"url": server.url, "timeout_s": 0.5})
    with Installation(folders / "semantic-redis", settings, workers=2) as running:
        yield running


def admin(house: Installation, path: str, body: dict[str, object]) -> dict[str, list[dict[str, str]]]:
    headers = {"authorization": f"Bearer {house.key}"}
    answer = httpx.post(f"{house.url}/admin/v1/cache/{path}", json=body, headers=headers, timeout=20, verify=NO_TLS)
    assert answer.status_code == 200, answer.text
    found: dict[str, list[dict[str, str]]] = answer.json()
    return found


def source(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-farthing-source"]


def seen(house: Installation, tenant: str, text: str) -> bool:
    """Whether a worker finds a question, without asking it."""
    request = {"model": "fast", "messages": [{"role": "user", "content": f"{text} please"}]}
    told = admin(house, "explain", {"tenant": tenant, "request": request})
    return any(one["asked"] == text for one in told.get("candidates", ()))


def test_a_question_is_answered_in_other_words_until_it_is_flushed(house: Installation) -> None:
    tenant, rival = f"tenant-{uuid4()}", f"tenant-{uuid4()}"
    key = str(new_key(house, tenant)["key"])
    assert source(ask(house, key, RESET)) == "model"
    eventually(lambda: seen(house, tenant, RESET), "the question is stored")
    assert source(ask(house, key, AGAIN)) == "semantic"
    assert source(ask(house, key, "How do I reset my entire database?")) == "model"
    assert source(ask(house, str(new_key(house, rival)["key"]), AGAIN)) == "model"
    admin(house, "flush", {"tenant": tenant})
    assert not seen(house, tenant, RESET)
    assert source(ask(house, key, AGAIN)) == "model"


def test_while_redis_is_away_the_model_answers_and_afterwards_the_cache_does_again(house: Installation, server: RedisServer) -> None:
    tenant = f"tenant-{uuid4()}"
    key = str(new_key(house, tenant)["key"])
    server.freeze()
    try:
        assert [source(ask(house, key, f"What is the capital of country number {n}?")) for n in range(6)] == ["model"] * 6
    finally:
        server.thaw()
    server.kill()
    assert source(ask(house, key, "Is the sky blue?")) == "model"
    server.start()
    assert source(ask(house, key, RESET)) == "model"
    eventually(lambda: all(seen(house, tenant, RESET) for _ in range(12)), "both workers find the question in the new Redis")
    assert source(ask(house, key, AGAIN)) == "semantic"
