"""kill -9 of the local model's process: what comes next is answered, by its next life or by another deployment."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import openai
import pytest
from inside import add_up, ask, eventually, new_key, once_each, settled
from openai import OpenAI

from farthing.testing.installation import Installation


def _kill(farthing: Installation) -> int:
    (pid,) = eventually(farthing.chat_pids, "a local model to kill")
    os.kill(pid, signal.SIGKILL)
    return pid


def test_requests_wait_for_the_next_life_of_the_model_when_there_is_no_other(local: Installation) -> None:
    key = new_key(local, "kill-local")["key"]
    killed: list[int] = []
    with OpenAI(base_url=local.base_url, api_key=key, max_retries=0, timeout=60) as client:
        streamed = client.chat.completions.with_raw_response.create(
            model="local", messages=[{"role": "user", "content": "Tell a very long story about a coin."}], stream=True, max_tokens=600
        )
        broken = streamed.headers["x-request-id"]
        with streamed.parse() as chunks, pytest.raises(openai.APIError):
            killed.extend(_kill(local) for at, _ in enumerate(chunks) if at == 5)
        raw = client.chat.completions.with_raw_response.create(
            model="local", messages=[{"role": "user", "content": "Say hello to the next life."}], max_tokens=8
        )
        assert raw.headers["x-farthing-source"] == "model"
        assert raw.parse().choices[0].message.content
    assert local.chat_pids() != killed
    once_each(local, [raw.headers["x-request-id"]])
    (row,) = settled(local, [broken])[broken]
    assert (row["status"], row["error"], row["usage_source"], row["price_source"]) == (502, "upstream_unavailable", "estimated", "notional")
    assert row["tokens_out"] > 0
    assert row["cost_microusd"] > 0
    add_up(local)


@pytest.mark.usefixtures("up")
def test_requests_under_way_and_next_ones_are_answered_by_the_deployment_behind_it(crowd: Installation) -> None:
    key = new_key(crowd, "kill-either")["key"]
    eventually(lambda: ask(crowd, key, "warm up", model="either", max_tokens=2).headers["x-farthing-route"] == "direct", "the local model")
    with ThreadPoolExecutor(8) as pool:
        under_way = [pool.submit(ask, crowd, key, f"Tell story {number}.", model="either", max_tokens=300) for number in range(4)]
        eventually(lambda: b"farthing_requests_in_flight 5" in crowd.get("/metrics", key=crowd.key)[1], "four requests under way")
        _kill(crowd)
        following = [pool.submit(ask, crowd, key, f"What next {number}?", model="either", max_tokens=300) for number in range(4)]
        answers = [future.result() for future in under_way + following]
    assert [answer.status_code for answer in answers] == [HTTPStatus.OK] * 8
    ids = [answer.headers["x-request-id"] for answer in answers]
    once_each(crowd, ids)
    rows = settled(crowd, ids)
    for answer, request_id in zip(answers[:4], ids[:4], strict=True):
        assert answer.headers["x-farthing-route"] == "fallback"
        first, second = rows[request_id]
        assert (first["attempt"], first["final"], first["provider"], first["error"]) == (1, False, "local", "upstream_unavailable")
        assert (second["attempt"], second["final"], second["provider"], second["route"]) == (2, True, "up", "fallback")
    assert "up" in {rows[request_id][-1]["provider"] for request_id in ids[4:]}
    eventually(lambda: ask(crowd, key, "Back again?", model="local", max_tokens=2).is_success, "the next life of the local model")
    add_up(crowd)
