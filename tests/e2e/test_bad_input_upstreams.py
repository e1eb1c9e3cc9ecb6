"""Upstreams that answer what no upstream should: the caller gets a proper error, the ledger one row, and nothing stays behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from probes import Probe

from farthing.testing import malformed
from farthing.testing.installation import Installation
from farthing.testing.raw_client import RawClient
from farthing.testing.replies import Reply, completion, error
from farthing.testing.upstream import ScriptedUpstream

# The reply; the status and code that the caller of a whole answer gets; those that the caller of a stream gets.
WHOLE: dict[str, tuple[Callable[[], Reply], int, str]] = {
    "html_page": (malformed.html_page, 502, "upstream_unavailable"),
    "html_page_200": (lambda: malformed.html_page(200), 502, "upstream_malformed"),
    "html_page_302": (lambda: malformed.html_page(302), 502, "upstream_malformed"),
    "empty_200": (malformed.empty, 502, "upstream_malformed"),
    "empty_204": (lambda: malformed.empty(204), 502, "upstream_malformed"),
    "empty_500": (lambda: malformed.empty(500), 502, "upstream_unavailable"),
    "empty_404": (lambda: malformed.empty(404), 404, "invalid_request"),
    "truncated_json": (malformed.truncated_json, 502, "upstream_malformed"),
    "short_body": (malformed.short_body, 502, "upstream_unavailable"),
    "invalid_utf8_json": (malformed.invalid_utf8_json, 502, "upstream_malformed"),
    "error_in_200": (malformed.error_in_200, 502, "upstream_unavailable"),
    "garbage_sse": (malformed.garbage_sse, 502, "upstream_malformed"),
    "stall_before_headers": (malformed.stall_before_headers, 504, "upstream_timeout"),
    "stall_after_headers": (malformed.stall_after_headers, 504, "upstream_timeout"),
    "reset_before_headers": (malformed.reset_before_headers, 502, "upstream_unavailable"),
    "close_before_headers": (malformed.close_before_headers, 502, "upstream_unavailable"),
    "close_mid_body": (malformed.close_mid_body, 502, "upstream_unavailable"),
    "reset_mid_body": (malformed.reset_mid_body, 502, "upstream_unavailable"),
    "stall_mid_body": (malformed.stall_mid_body, 504, "upstream_timeout"),
    "not_http": (malformed.not_http, 502, "upstream_malformed"),
    "endless_body": (malformed.endless_body, 502, "upstream_malformed"),
    "gigantic_body": (malformed.gigantic_body, 502, "upstream_malformed"),
    "deep_json": (malformed.deep_json, 502, "upstream_malformed"),
    "wrong_shape": (malformed.wrong_shape, 502, "upstream_malformed"),
    "refused_key": (lambda: error(401, "no", "invalid_request_error", "invalid_api_key"), 502, "upstream_credentials"),
}
BEFORE_CONTENT: dict[str, tuple[Callable[[], Reply], int, str]] = {
    **{name: case for name, case in WHOLE.items() if name not in {"close_mid_body", "reset_mid_body", "stall_mid_body"}},
    "stream_stalls_after_headers": (malformed.stall_after_headers, 504, "upstream_timeout"),
    "error_first_event": (malformed.error_first_event, 502, "upstream_unavailable"),
    "gigantic_line": (malformed.gigantic_line, 502, "upstream_malformed"),
    "unfinished_utf8": (malformed.unfinished_utf8, 502, "upstream_malformed"),
    "stream_without_content": (lambda: malformed.broken_off(()), 502, "upstream_unavailable"),
    "only_done": (lambda: Reply(parts=(b"data: [DONE]\n\n",)), 502, "upstream_malformed"),
}
IN_MID_STREAM: dict[str, tuple[Callable[[], Reply], str]] = {
    "error_mid_stream": (malformed.error_mid_stream, "upstream_unavailable"),
    "broken_off": (malformed.broken_off, "upstream_unavailable"),
    "missing_done": (malformed.missing_done, "upstream_unavailable"),
    "close_mid_body": (malformed.close_mid_body, "upstream_unavailable"),
    "reset_mid_body": (malformed.reset_mid_body, "upstream_unavailable"),
    "stall_mid_body": (malformed.stall_mid_body, "upstream_timeout"),
    "endless_stream": (malformed.endless_stream, "upstream_malformed"),
}


def question(*, stream: bool = False) -> dict[str, Any]:
    return {"model": "fast", "stream": stream, "messages": [{"role": "user", "content": f"hello {uuid4()}"}]}


def caller(farthing: Installation) -> RawClient:
    return RawClient(farthing.port, headers={"authorization": f"Bearer {farthing.key}"}, timeout=15)


async def ask(farthing: Installation, *, stream: bool = False) -> tuple[int, dict[str, str], bytes]:
    async with caller(farthing) as client:
        await client.post(question(stream=stream))
        return await client.answer()


def check_error(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> None:
    seen, headers, body = answer
    found = json.loads(body)["error"]
    assert (seen, found["code"]) == (status, code), body
    assert set(found) == {"message", "type", "param", "code"}
    assert found["message"]
    assert headers["x-request-id"]
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", WHOLE)
async def test_malformed_whole_answer_is_an_error_with_a_status(
    name: str, strict: Installation, strict_probe: Probe, up: ScriptedUpstream
) -> None:
    reply, status, code = WHOLE[name]
    async with strict_probe.adds(requests=1, attempts=1, errors=1):
        up.script("fast", reply())
        check_error(await ask(strict), status, code)
    up.script("fast")
    assert (await ask(strict))[0] == 200


@pytest.mark.parametrize("name", BEFORE_CONTENT)
async def test_stream_that_fails_before_its_first_content_is_an_error_with_a_status(
    name: str, strict: Installation, strict_probe: Probe, up: ScriptedUpstream
) -> None:
    reply, status, code = BEFORE_CONTENT[name]
    async with strict_probe.adds(requests=1, attempts=1, errors=1):
        up.script("fast", reply())
        check_error(await ask(strict, stream=True), status, code)
    up.script("fast")
    assert (await ask(strict, stream=True))[0] == 200


@pytest.mark.parametrize("name", IN_MID_STREAM)
async def test_stream_that_breaks_after_content_ends_in_an_error_event(
    name: str, strict: Installation, strict_probe: Probe, up: ScriptedUpstream
) -> None:
    reply, code = IN_MID_STREAM[name]
    async with strict_probe.adds(requests=1, attempts=1, errors=1):
        up.script("fast", reply())
        status, headers, body = await ask(strict, stream=True)
        events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
        assert (status, headers["x-farthing-source"]) == (200, "model")
        assert json.loads(events[0])["choices"][0]["delta"]["role"] == "assistant"
        assert json.loads(events[-1])["error"]["code"] == code
        assert b"data: [DONE]" not in body
    up.script("fast")
    assert (await ask(strict, stream=True))[0] == 200


@pytest.mark.parametrize("name", ["split_utf8", "slow_drip"])
async def test_stream_in_odd_pieces_is_a_good_stream(name: str, strict: Installation, strict_probe: Probe, up: ScriptedUpstream) -> None:
    reply, text = {
        "split_utf8": (malformed.split_utf8(), "Grüße, 世界 🌍"),
        "slow_drip": (malformed.slow_drip(delay=0.001), "Hello"),
    }[name]
    async with strict_probe.adds(requests=1, attempts=1, errors=0):
        up.script("fast", reply)
        async with caller(strict) as client:
            await client.post(question(stream=True))
            chunks = await client.events()
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == text


async def test_broken_answers_are_not_kept_for_the_next_one(strict: Installation, up: ScriptedUpstream) -> None:
    asked = question(stream=True)
    up.script("fast", malformed.close_mid_body(), malformed.error_mid_stream(), completion("whole"))
    async with caller(strict) as client:
        for _ in range(2):
            await client.post(asked)
            status, headers, body = await client.answer()
            assert (status, headers["x-farthing-source"]) == (200, "model")
            assert b'"error"' in body
        await client.post({**asked, "stream": False})
        status, headers, body = await client.answer()
    assert (status, headers["x-farthing-source"]) == (200, "model")


async def test_credentials_that_the_upstream_refuses_are_not_told_to_the_caller(strict: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", error(401, "Incorrect API key provided: sk-upstream", "invalid_request_error", "invalid_api_key"))
    status, headers, body = await ask(strict)
    assert (status, headers["x-should-retry"]) == (502, "false")
    assert b"sk-upstream" not in body
