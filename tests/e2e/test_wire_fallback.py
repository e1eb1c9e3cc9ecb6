"""Several deployments behind one name, through the real server: who is asked, in which order, and who is left alone for a while."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any
from uuid import uuid4

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from probes import Probe

from farthing.testing import malformed
from farthing.testing.installation import Installation
from farthing.testing.replies import Reply, completion, error, rate_limited, stream, usage_object
from farthing.testing.upstream import ScriptedUpstream

FAILURES = {
    "500": error(500),
    "503": error(503),
    "429": rate_limited(retry_after_ms="1"),
    "401": error(401, "no", "invalid_request_error", "invalid_api_key"),
    "html": malformed.html_page(200),
    "reset": malformed.reset_before_headers(),
    "error_in_200": malformed.error_in_200(),
    "silence": malformed.stall_before_headers(),
}
BEFORE_CONTENT = {
    **FAILURES,
    "first_event": malformed.error_first_event(),
    "garbage": malformed.garbage_sse(),
    "role_only": Reply(parts=(*(malformed.broken_off().parts or ())[:1],)),
    "stalls": malformed.stall_after_headers(),
}


@pytest.fixture(autouse=True)
def _rested(fleet_sdk: OpenAI, fleet_probe: Probe) -> None:
    """Every test finds the deployments that it lets fail well and out of their cooldown."""
    fleet_probe.quiet()
    for model, deployment in (("pair", "first"), ("cheap", "frugal")):
        create(fleet_sdk, model)
        while fleet_probe.upstream.requests[-1].model != deployment:
            time.sleep(0.02)
            create(fleet_sdk, model)


def ask() -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"hello {uuid4()}"}]


def create(client: OpenAI, model: str = "pair", **more: Any) -> tuple[str | None, Any]:
    """The text of an answer and its headers."""
    raw = client.chat.completions.with_raw_response.create(model=model, messages=ask(), **more)
    return raw.parse().choices[0].message.content, raw.headers


@pytest.mark.parametrize("name", FAILURES)
def test_second_deployment_answers_when_the_first_fails(name: str, fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    up.script("first", FAILURES[name])
    up.script("second", completion("from the second"))
    with fleet_probe.adds(requests=1, attempts=2, errors=0):
        text, headers = create(fleet_sdk)
    assert (text, headers["x-farthing-route"], headers["x-farthing-model"]) == ("from the second", "fallback", "pair")


@pytest.mark.parametrize("name", BEFORE_CONTENT)
def test_stream_falls_back_unseen_before_its_first_content(name: str, fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    up.script("first", BEFORE_CONTENT[name])
    up.script("second", stream(("from ", "the ", "second")))
    with fleet_probe.adds(requests=1, attempts=2, errors=0):
        answer = fleet_sdk.chat.completions.create(model="pair", messages=ask(), stream=True)
        with answer:
            chunks = list(answer)
    assert answer.response.headers["x-farthing-route"] == "fallback"
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].delta.role for chunk in chunks].count("assistant") == 1
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "from the second"


def test_stream_does_not_change_horses_after_its_first_content(fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    up.script("first", malformed.close_mid_body())
    asked = len(up.of("second"))
    with fleet_probe.adds(requests=1, attempts=1, errors=1):
        answer = fleet_sdk.chat.completions.create(model="pair", messages=ask(), stream=True)
        with answer, pytest.raises(openai.APIError):
            list(answer)
    assert len(up.of("second")) == asked


def test_request_at_fault_is_not_tried_elsewhere(fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    up.script("first", error(400, "too long", "invalid_request_error", "context_length_exceeded"))
    asked = len(up.of("second"))
    with fleet_probe.adds(requests=1, attempts=1, errors=1), pytest.raises(openai.BadRequestError, match="too long"):
        create(fleet_sdk)
    assert len(up.of("second")) == asked


def test_last_failure_is_told_when_all_fail(fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    up.script("first", error(500, "first down"))
    up.script("second", rate_limited(retry_after_ms="40"))
    with fleet_probe.adds(requests=1, attempts=2, errors=1), pytest.raises(openai.RateLimitError) as caught:
        create(fleet_sdk)
    assert caught.value.response.headers["retry-after-ms"] == "40"


def test_deployment_of_weight_zero_is_a_reserve(fleet_sdk: OpenAI, up: ScriptedUpstream) -> None:
    asked = len(up.of("second"))
    for _ in range(20):
        assert create(fleet_sdk)[1]["x-farthing-route"] == "direct"
    assert len(up.of("second")) == asked


def test_weights_share_the_traffic(fleet_sdk: OpenAI, up: ScriptedUpstream) -> None:
    """Three to one: of 200 requests 150 on average; 120 to 180 is five standard deviations to each side."""
    before = Counter(received.model for received in up.requests)
    for _ in range(200):
        create(fleet_sdk, "shared")
    after = Counter(received.model for received in up.requests) - before
    assert after["often"] + after["seldom"] == 200
    assert 120 <= after["often"] <= 180


def test_rate_limited_deployment_is_left_alone_as_long_as_it_wishes(fleet_sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("first", rate_limited(retry_after_ms="400"), completion("first is back"))
    assert create(fleet_sdk)[1]["x-farthing-route"] == "fallback"
    asked = len(up.of("first"))
    for _ in range(3):
        create(fleet_sdk)
    assert len(up.of("first")) == asked
    time.sleep(0.45)
    assert create(fleet_sdk)[0] == "first is back"


def test_failing_deployment_is_left_alone_for_a_while(fleet_sdk: OpenAI, up: ScriptedUpstream) -> None:
    """Two failures in a row, half a second."""
    up.script("first", error(500), error(500), completion("first is back"))
    asked = len(up.of("first"))
    for _ in range(4):
        create(fleet_sdk)
    assert len(up.of("first")) == asked + 2
    time.sleep(0.55)
    assert create(fleet_sdk)[0] == "first is back"


def test_single_failures_do_not_add_up(fleet_sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("first", error(500), completion("good"), error(500), completion("good again"))
    assert [create(fleet_sdk)[1]["x-farthing-route"] for _ in range(4)] == ["fallback", "direct", "fallback", "direct"]


def test_deployment_that_rests_is_asked_when_nobody_else_is_left(fleet_sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("second", error(500))
    up.script("first", error(500), error(500), error(500), completion("a bad chance is better than none"))
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            create(fleet_sdk)
    assert create(fleet_sdk)[0] == "a bad chance is better than none"


def test_other_model_helps_and_costs_what_it_costs(fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    up.script("frugal", error(500))
    up.script("lavish", completion("dear", usage=usage_object(1000, 1000)))
    with fleet_probe.adds(requests=1, attempts=2, errors=0):
        text, headers = create(fleet_sdk, "cheap")
    assert (text, headers["x-farthing-model"], headers["x-farthing-route"]) == ("dear", "dear", "fallback")
    assert (headers["x-farthing-cost-usd"], headers["x-farthing-saved-usd"]) == ("0.020000", "-0.018000")


def test_unreachable_provider_falls_back_to_all_deployments_of_another_model(
    fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream
) -> None:
    up.script("first", error(500))
    with fleet_probe.adds(requests=1, attempts=3, errors=0):
        _, headers = create(fleet_sdk, "unreachable")
    assert (headers["x-farthing-model"], headers["x-farthing-route"]) == ("pair", "fallback")


def test_unreachable_provider_without_a_fallback(fleet_sdk: OpenAI, fleet_probe: Probe) -> None:
    with fleet_probe.adds(requests=1, attempts=1, errors=1), pytest.raises(openai.InternalServerError, match="cannot be reached") as caught:
        create(fleet_sdk, "away")
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unavailable")


def test_lost_connection_is_tried_again_where_there_is_no_other_deployment(
    fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream
) -> None:
    up.script("firm", malformed.reset_before_headers(), malformed.close_before_headers(), completion("third time"))
    with fleet_probe.adds(requests=1, attempts=3, errors=0, idle=9):
        assert create(fleet_sdk, "firm")[0] == "third time"


def test_provider_that_has_spoken_is_not_asked_again(fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    up.script("firm", error(500))
    with fleet_probe.adds(requests=1, attempts=1, errors=1), pytest.raises(openai.InternalServerError):
        create(fleet_sdk, "firm")


def test_connections_are_used_again(fleet_sdk: OpenAI, up: ScriptedUpstream) -> None:
    create(fleet_sdk)
    opened = up.connections
    for _ in range(10):
        create(fleet_sdk)
        with fleet_sdk.chat.completions.create(model="pair", messages=ask(), stream=True) as answer:
            list(answer)
    assert up.connections == opened


def test_stream_options_are_kept_from_a_server_that_refuses_them(fleet_sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("plain", stream(("hi",), usage=False))
    with fleet_sdk.chat.completions.create(model="plain", messages=ask(), stream=True, stream_options={"include_usage": True}) as answer:
        *_, last = list(answer)
    assert last.usage is not None
    assert "stream_options" not in up.requests[-1].body


async def test_full_provider_says_so_after_a_short_wait(fleet: Installation, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    up.script("narrow", completion("slow", delay=0.9))
    async with (
        fleet_probe.adds(requests=5, errors=3, idle=9),
        AsyncOpenAI(base_url=fleet.base_url, api_key=fleet.key, max_retries=0) as client,
    ):
        asking = [client.chat.completions.create(model="narrow", messages=ask()) for _ in range(5)]
        answers = await asyncio.gather(*asking, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, openai.InternalServerError)]
    assert [(one.status_code, one.code, one.response.headers["retry-after"]) for one in refused] == [(503, "overloaded", "1")] * 3
