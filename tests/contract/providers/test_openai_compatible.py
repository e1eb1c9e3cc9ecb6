"""The provider adapter against a scripted server: what it asks, what it makes of answers, and what it does when they are none."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from farthing.errors import (
    FarthingError,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.pipeline.stream import Fold
from farthing.ports import Call, Provider
from farthing.providers.openai_compatible import OpenAICompatible
from farthing.settings import OpenAICompatibleSettings
from farthing.testing import malformed
from farthing.testing.providers import ProviderContract
from farthing.testing.providers_trouble import BROKEN
from farthing.testing.replies import chunks
from farthing.testing.upstream import (
    ANY_MODEL,
    CLOSE,
    STALL,
    Reply,
    ScriptedUpstream,
    embeddings,
    error,
    sse,
    stream,
    usage_object,
)
from farthing.testing.vendors import OpenAIVendor
from farthing.types import Json, new_id

Make = Callable[..., OpenAICompatible]
QUICK = {"first_token_timeout_s": 0.15, "idle_timeout_s": 0.15, "total_timeout_s": 2}


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def make(up: ScriptedUpstream) -> AsyncIterator[Make]:
    """Makes providers of the upstream, and sees at the end that none of them leaks."""
    made: list[OpenAICompatible] = []

    def provider(**more: Any) -> OpenAICompatible:
        settings = {"kind": "openai_compatible", "base_url": up.base_url, **more}
        made.append(OpenAICompatible("up", OpenAICompatibleSettings.model_validate(settings)))
        return made[-1]

    yield provider
    for one in made:
        assert not one._endpoint._http._waiting
        assert one.open_connections == len(one._endpoint._http._idle)
        await one.aclose()
    await up.wait_for(lambda up: up.open_connections == 0)


def call(text: str = "Say hi", *, traceparent: str | None = None, **more: Any) -> Call:
    body = {"model": "the caller's name for it", "messages": [{"role": "user", "content": text}], **more}
    return Call(upstream_model="m", body=body, request_id=new_id(), traceparent=traceparent)


async def streamed(provider: OpenAICompatible, one: Call | None = None) -> tuple[list[Json], list[Json]]:
    """Chunks and usages of a whole stream."""
    seen: list[Json] = []
    usages: list[Json] = []
    async for chunk, usage in provider.stream(one or call()):
        if chunk is not None:
            seen.append(chunk)
        if usage is not None:
            usages.append(usage)
    return seen, usages


def text_of(seen: list[Json]) -> str:
    fold = Fold()
    for chunk in seen:
        fold.add(chunk)
    return fold.text()


class TestContract(ProviderContract):
    """What all providers must do. The tests below are about OpenAI's protocol alone."""

    vendor = OpenAIVendor()

    def provider(self, url: str, **settings: Any) -> Provider:
        given = {"kind": "openai_compatible", "base_url": f"{url}/v1", "api_key": self.secret, **settings}
        return OpenAICompatible("up", OpenAICompatibleSettings.model_validate(given))


# What is asked


async def test_the_body_passes_with_the_upstreams_name_of_the_model(up: ScriptedUpstream, make: Make) -> None:
    provider = make(api_key="sk-1", headers={"X-Org": "o"})
    body = call("Hi", temperature=0.5, x_unknown={"deep": [None]}, stream=False, traceparent="00-aa-bb-01")
    await provider.chat(body)
    (got,) = up.requests
    assert got.path == "/v1/chat/completions"
    sent = {key: value for key, value in body.body.items() if key != "stream"}
    assert got.body == {**sent, "model": "m"}
    assert got.headers["authorization"] == "Bearer sk-1"
    assert (got.headers["x-org"], got.headers["traceparent"]) == ("o", "00-aa-bb-01")


async def test_a_given_authorization_header_wins_over_the_key(up: ScriptedUpstream, make: Make) -> None:
    await make(api_key="sk-1", headers={"Authorization": "Basic abc"}).chat(call())
    assert up.requests[0].headers["authorization"] == "Basic abc"


async def test_without_a_key_none_is_sent(up: ScriptedUpstream, make: Make) -> None:
    await make().chat(call())
    assert "authorization" not in up.requests[0].headers


async def test_a_stream_asks_for_usage_whatever_the_caller_asked(up: ScriptedUpstream, make: Make) -> None:
    provider = make()
    await streamed(provider, call(stream_options={"include_usage": False, "include_obfuscation": False}))
    assert up.requests[0].body["stream"] is True
    assert up.requests[0].body["stream_options"] == {"include_usage": True, "include_obfuscation": False}


async def test_a_server_that_refuses_stream_options_is_never_sent_any(up: ScriptedUpstream, make: Make) -> None:
    seen, usages = await streamed(make(stream_usage=False), call(stream_options={"include_usage": True}))
    assert "stream_options" not in up.requests[0].body
    assert text_of(seen) == "Say hi"
    assert usages == []


async def test_a_whole_answer_is_asked_for_without_stream_fields(up: ScriptedUpstream, make: Make) -> None:
    await make().chat(call(stream=True, stream_options={"include_usage": True}))
    assert {"stream", "stream_options"}.isdisjoint(up.requests[0].body)


async def test_the_callers_body_is_not_changed(make: Make) -> None:
    one = call(stream=True, stream_options={"x": 1})
    before = copy.deepcopy(one.body)
    await streamed(make(), one)
    await make().chat(one)
    assert one.body == before


# Answers


async def test_a_whole_answer_comes_normalised(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(json={"choices": [{"message": {"content": "Hi"}}], "usage": usage_object(), "x": 1}))
    body = (await make().chat(call())).body
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hi", "refusal": None}
    assert (body["usage"], body["x"]) == (usage_object(), 1)


@pytest.mark.parametrize("place", [True, "on_last_choice_chunk", False])
async def test_usage_is_found_wherever_the_server_puts_it(up: ScriptedUpstream, make: Make, place: Any) -> None:
    up.script("m", stream(["Hel", "lo"], usage=place, counts=usage_object(3, 4)))
    seen, usages = await streamed(make())
    assert text_of(seen) == "Hello"
    assert usages == ([usage_object(3, 4)] if place else [])
    assert all("usage" not in chunk for chunk in seen)


async def test_choices_and_tool_calls_come_in_order(up: ScriptedUpstream, make: Make) -> None:
    calls = [("lookup", '{"city": "Zürich", "days": 3}'), ("stop", "{}")]
    up.script("m", stream([], tool_calls=calls, n=2))
    seen, _ = await streamed(make(), call(n=2))
    fold = Fold()
    for chunk in seen:
        fold.add(chunk)
    for choice in fold.body(None)["choices"]:
        functions = [(one["function"]["name"], one["function"]["arguments"]) for one in choice["message"]["tool_calls"]]
        assert functions == calls
        assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
async def test_every_style_of_line_ends_and_comments_is_read(up: ScriptedUpstream, make: Make, end: bytes) -> None:
    events = [sse(chunk).rstrip(b"\n") + end for chunk in chunks(["Hel", "lo"])]
    parts = (b": ping" + end, *events[:2], b": ping" + end, b"event: message" + end[: len(end) // 2] + events[2], *events[3:])
    up.script("m", Reply(parts=(*parts, b"data: [DONE]" + end)))
    assert text_of((await streamed(make()))[0]) == "Hello"


async def test_a_stream_in_drips_is_whole(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", malformed.slow_drip(delay=0.001))
    assert text_of((await streamed(make(**QUICK)))[0]) == "Hello"


async def test_embeddings_pass(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", embeddings(2, 3))
    body = (await make().embed(Call(upstream_model="m", body={"input": ["a", "b"], "dimensions": 3}, request_id=new_id()))).body
    assert [item["embedding"] for item in body["data"]] == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert up.requests[0].body == {"input": ["a", "b"], "dimensions": 3, "model": "m"}
    assert up.requests[0].path == "/v1/embeddings"


# Connections


async def test_what_a_server_says_after_the_end_mark_reaches_nobody(up: ScriptedUpstream, make: Make) -> None:
    surplus = sse({"choices": [{"index": 0, "delta": {"content": "surplus"}}]})
    for pause in (0.0, 0.01, 0.2):
        up.script("m", Reply(parts=(*(stream(["Hi"]).parts or ()), pause, *[surplus] * 10)))
        provider = make()
        for _ in range(2):
            assert text_of((await streamed(provider))[0]) == "Hi"


async def test_a_server_that_dawdles_after_the_end_mark_does_not_hold_the_stream(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(parts=(*(stream(["Hi"]).parts or ()), STALL)))
    provider = make()
    async with asyncio.timeout(2):
        assert text_of((await streamed(provider))[0]) == "Hi"
    assert provider.open_connections == 0


# Trouble

WHOLE: dict[str, tuple[Reply, type[FarthingError]]] = {
    "empty 204": (malformed.empty(204), UpstreamMalformed),
    "error in 200": (malformed.error_in_200(), UpstreamUnavailable),
    "silence after the head": (malformed.stall_after_headers(), UpstreamTimeout),
    "rejected": (error(422, "no such tool", "invalid_request_error", "bad_tool"), UpstreamRejected),
    "redirect": (Reply(status=302, headers={"location": "http://127.0.0.1:1/"}, body=b""), UpstreamMalformed),
    "stalled error": (Reply(status=429, headers={"retry-after": "7"}, parts=(b'{"error"', STALL)), UpstreamRateLimited),
    "broken error": (Reply(status=503, headers={"content-length": "90"}, parts=(b'{"error"', CLOSE)), UpstreamUnavailable),
    "gigantic error": (Reply(status=400, body=b"x" * 3_000_000), UpstreamRejected),
}
STREAM: dict[str, tuple[Reply, type[FarthingError]]] = {
    **{name: WHOLE[name] for name in WHOLE if name != "silence after the head"},
    "garbage events": (malformed.garbage_sse(), UpstreamMalformed),
    "half a character": (malformed.unfinished_utf8(), UpstreamMalformed),
    "no end mark": (malformed.missing_done(), UpstreamUnavailable),
    "gigantic line": (malformed.gigantic_line(8_000_000), UpstreamMalformed),
    "only comments": (Reply(parts=(b": x\n\n",) * 3), UpstreamUnavailable),
    "empty stream": (Reply(parts=()), UpstreamUnavailable),
}
BOUNDED = {**QUICK, "max_response_bytes": 2**20}


async def settles(up: ScriptedUpstream, provider: OpenAICompatible) -> None:
    """After trouble: no socket but idle ones, and the next call is answered."""
    assert provider.open_connections == len(provider._endpoint._http._idle)
    up.script("m")
    assert (await provider.chat(call("still there"))).body["choices"][0]["message"]["content"] == "still there"


@pytest.mark.parametrize("what", WHOLE)
async def test_trouble_with_a_whole_answer_is_the_right_error(up: ScriptedUpstream, make: Make, what: str) -> None:
    reply, kind = WHOLE[what]
    up.script("m", reply)
    provider = make(**BOUNDED)
    with pytest.raises(UpstreamError) as caught:
        await provider.chat(call())
    assert type(caught.value) is kind, caught.value
    await settles(up, provider)


@pytest.mark.parametrize("what", STREAM)
async def test_trouble_with_a_stream_is_the_right_error(up: ScriptedUpstream, make: Make, what: str) -> None:
    reply, kind = STREAM[what]
    up.script("m", reply)
    provider = make(**BOUNDED)
    with pytest.raises(UpstreamError) as caught:
        await streamed(provider)
    assert type(caught.value) is kind, caught.value
    await settles(up, provider)


@pytest.mark.parametrize("what", ["html 200", "truncated", "invalid utf-8", "error in 200", "wrong shape", "silence", "reset"])
async def test_trouble_with_embeddings_is_the_right_error(up: ScriptedUpstream, make: Make, what: str) -> None:
    reply, kind = {**BROKEN, **WHOLE}[what]
    up.script(ANY_MODEL, reply)
    provider = make(**BOUNDED)
    with pytest.raises(kind):
        await provider.embed(Call(upstream_model="e", body={"input": "x"}, request_id=new_id()))
    assert provider.open_connections == len(provider._endpoint._http._idle)


@pytest.mark.parametrize(
    ("headers", "seconds"), [({"retry-after": "7"}, 7.0), ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5), ({}, None)]
)
async def test_a_rate_limit_says_how_long(up: ScriptedUpstream, make: Make, headers: dict[str, str], seconds: float | None) -> None:
    up.script("m", error(429, "slow down", "requests", "rate_limit_exceeded", headers))
    with pytest.raises(UpstreamRateLimited, match="slow down") as caught:
        await make().chat(call())
    assert caught.value.retry_after_s == seconds


async def test_a_rejection_is_handed_on_as_it_came(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", error(400, "too long", "invalid_request_error", "context_length_exceeded", param="messages"))
    with pytest.raises(UpstreamRejected) as caught:
        await make().chat(call())
    fields = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
    assert caught.value.wire() == (400, fields)


async def test_the_idle_time_is_between_pieces_and_the_first_may_take_longer(up: ScriptedUpstream, make: Make) -> None:
    parts = stream(["Hi"]).parts or ()
    up.script("m", Reply(parts=(0.25, *parts)))
    provider = make(first_token_timeout_s=5, idle_timeout_s=0.1)
    assert text_of((await streamed(provider))[0]) == "Hi"
    up.script("m", Reply(parts=(*parts[:2], 0.25, *parts[2:])))
    with pytest.raises(UpstreamTimeout, match=r"further data within 0\.1 s"):
        await streamed(provider)


async def test_one_gigantic_event_costs_time_in_proportion_to_its_size(up: ScriptedUpstream, make: Make) -> None:
    """A line of 48 MB would take minutes if it were searched anew with each piece."""
    up.script("m", malformed.gigantic_line(48 * 2**20))
    async with asyncio.timeout(20):
        seen, _ = await streamed(make())
    assert len(text_of(seen)) == 48 * 2**20


# Health


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(json={"status": "ok"}), True),
        (Reply(status=503, json={"error": {"message": "Loading model"}}), False),
        (malformed.reset_before_headers(), False),
        (malformed.endless_body(), False),
        (malformed.not_http(), False),
    ],
)
async def test_health_is_told_by_the_status(up: ScriptedUpstream, make: Make, reply: Reply, expected: bool) -> None:  # noqa: FBT001
    up.script(ANY_MODEL, reply)
    assert await make().healthy() is expected
    assert (up.requests[0].method, up.requests[0].path) == ("GET", "/v1/health")


async def test_nobody_there_is_not_healthy(up: ScriptedUpstream, make: Make) -> None:
    provider = make()
    async with up.down():
        assert not await provider.healthy()


async def test_all_connections_busy_is_not_healthy_and_no_error(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", malformed.stall_mid_body())
    provider = make(max_connections=1, connect_timeout_s=0.05)
    pairs = provider.stream(call())
    await anext(pairs)
    assert not await provider.healthy()
    await pairs.aclose()


# Fields that only Anthropic's models have

MARKED: Json = {
    "thinking": {"type": "adaptive"},
    "top_k": 5,
    "cache_control": {"type": "ephemeral"},
    "x_unknown": 1,
    "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": {"type": "ephemeral"}}, {"type": "custom", "custom": {}}],
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": "a", "reasoning_content": "r", "thinking_blocks": [{"type": "thinking"}], "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "cache_control": {"type": "ephemeral"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "r", "is_error": True, "cache_control": {"type": "ephemeral"}},
    ],
}  # fmt: skip
PLAIN: Json = {
    "x_unknown": 1,
    "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {}}],
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s"}]},
        {"role": "assistant", "content": "a", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(("given", "sent"), [(None, MARKED), (True, MARKED), (False, PLAIN)])
async def test_fields_of_anthropics_are_handed_on_or_taken_out(up: ScriptedUpstream, make: Make, given: bool | None, sent: Json) -> None:  # noqa: FBT001
    before = copy.deepcopy(MARKED)
    await make(anthropic_fields=given).chat(Call(upstream_model="m", body=MARKED, request_id=new_id()))
    assert up.requests[0].body == {**sent, "model": "m"}
    assert before == MARKED


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com/v1", False),
        ("https://eu.api.openai.com/v1", False),
        ("https://mine.openai.azure.com/openai/v1", False),
        ("https://openrouter.ai/api/v1", True),
        ("https://api.openai.com.example/v1", True),
        ("http://127.0.0.1:8000/v1", True),
    ],
)
def test_servers_of_openai_and_azure_never_get_them_unasked(url: str, expected: bool) -> None:  # noqa: FBT001 - pytest hands it in
    provider = OpenAICompatible("up", OpenAICompatibleSettings(kind="openai_compatible", base_url=url))
    asked = provider._body(Call(upstream_model="m", body={"messages": [], "thinking": {"type": "adaptive"}}, request_id=new_id()))
    assert ("thinking" in asked) is expected
