"""The official `anthropic` SDK, unchanged, against /v1/messages: answers, streams, tools, errors, retries, cancellation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import anthropic
import httpx
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam, ToolParam
from inside import new_key, settled
from probes import Probe
from pydantic import BaseModel

from farthing.testing.installation import Installation
from farthing.testing.malformed import close_mid_body, error_mid_stream, stall_before_headers
from farthing.testing.replies import completion, error, rate_limited, stream, usage_object
from farthing.testing.upstream import ScriptedUpstream

WORDS = tuple(f"word {at} " for at in range(1000))
WEATHER: ToolParam = {"name": "weather", "description": "Of a city", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture
def claude(gateway: Installation) -> Iterator[Anthropic]:
    with Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
async def async_claude(gateway: Installation) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


def ask(text: str = "hello") -> list[MessageParam]:
    return [{"role": "user", "content": f"{text} {uuid4()}"}]


def sent(up: ScriptedUpstream) -> dict[str, Any]:
    body: dict[str, Any] = up.of("fast")[-1].body
    return body


def test_an_answer(claude: Anthropic, up: ScriptedUpstream, gateway: Installation) -> None:
    up.script("fast", completion("Hi there", usage=usage_object(100, 5, cached=40)))
    answer = claude.messages.create(
        model="fast", max_tokens=50, messages=ask(), system="Be brief.", stop_sequences=["END"], metadata={"user_id": "ann"}
    )
    assert [block.text for block in answer.content if block.type == "text"] == ["Hi there"]
    assert (answer.type, answer.role, answer.stop_reason, answer.stop_sequence) == ("message", "assistant", "end_turn", None)
    assert answer.id.startswith("msg_")
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens, usage.output_tokens) == (60, 40, 0, 5)
    body = sent(up)
    assert (body["max_tokens"], body["stop"], body["user"], body["messages"][0]) == (
        50,
        ["END"],
        "ann",
        {"role": "system", "content": "Be brief."},
    )
    assert answer._request_id is not None
    (row,) = settled(gateway, [answer._request_id])[answer._request_id]
    assert (row["tokens_in"], row["tokens_out"], row["cost_microusd"], row["operation"]) == (100, 5, 110, "chat")


async def test_an_answer_to_the_asynchronous_client(async_claude: AsyncAnthropic) -> None:
    answer = await async_claude.messages.create(model="fast", max_tokens=50, messages=[{"role": "user", "content": "echo me"}])
    assert [block.text for block in answer.content if block.type == "text"] == ["echo me"]


def test_the_key_may_come_as_a_bearer_token(gateway: Installation) -> None:
    with Anthropic(base_url=gateway.url, auth_token=gateway.key, max_retries=0) as client:
        assert client.messages.create(model="fast", max_tokens=5, messages=ask()).role == "assistant"


def test_every_kind_of_block_reaches_the_provider(claude: Anthropic, up: ScriptedUpstream) -> None:
    png = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    mark = {"type": "ephemeral"}
    history: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": f"look {uuid4()}", "cache_control": mark}, {"type": "image", "source": png}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "A cat."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bonn"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sunny"}]}]},
    ]
    claude.messages.create(
        model="fast", max_tokens=50, messages=history, tools=[WEATHER], tool_choice={"type": "any", "disable_parallel_tool_use": True}
    )
    body = sent(up)
    user, assistant, tool = body["messages"]
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]
    assert user["content"][0]["cache_control"] == mark, "a server that is not OpenAI's own may know it"
    assert (assistant["content"], assistant["tool_calls"][0]["function"]["arguments"]) == ("A cat.", '{"city":"Bonn"}')
    assert tool == {"role": "tool", "tool_call_id": "t1", "content": "sunny"}
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)


def test_tool_calls(claude: Anthropic, up: ScriptedUpstream) -> None:
    up.script("fast", completion(None, tool_calls=[("weather", '{"city": "Bonn"}')]))
    answer = claude.messages.create(model="fast", max_tokens=50, messages=ask(), tools=[WEATHER])
    (block,) = answer.content
    assert block.type == "tool_use"
    assert (block.name, block.input, answer.stop_reason) == ("weather", {"city": "Bonn"}, "tool_use")


class City(BaseModel):
    """What the model is to fill in."""

    name: str


def test_structured_output(claude: Anthropic, up: ScriptedUpstream) -> None:
    up.script("fast", completion('{"name": "Bonn"}'))
    answer = claude.messages.parse(model="fast", max_tokens=50, messages=ask(), output_format=City)
    assert answer.parsed_output == City(name="Bonn")
    wanted = sent(up)["response_format"]["json_schema"]
    assert (wanted["strict"], wanted["schema"]["required"]) == (True, ["name"])


def test_a_stream(claude: Anthropic, up: ScriptedUpstream) -> None:
    up.script("fast", stream(("Hel", "lo"), counts=usage_object(10, 2, cached=4)))
    with claude.messages.stream(model="fast", max_tokens=50, messages=ask()) as answer:
        assert "".join(answer.text_stream) == "Hello"
        final = answer.get_final_message()
    assert (final.stop_reason, final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (
        "end_turn",
        6,
        4,
        2,
    )


async def test_a_stream_with_two_tools(async_claude: AsyncAnthropic, up: ScriptedUpstream) -> None:
    up.script("fast", stream(("Look:",), tool_calls=[("weather", '{"city": "Bonn"}'), ("weather", '{"city": "Rome"}')]))
    async with async_claude.messages.stream(model="fast", max_tokens=50, messages=ask(), tools=[WEATHER]) as answer:
        kinds = [event.type async for event in answer if event.type.startswith("content_block_st")]
        final = await answer.get_final_message()
    assert kinds == ["content_block_start", "content_block_stop"] * 3
    assert [block.input for block in final.content if block.type == "tool_use"] == [{"city": "Bonn"}, {"city": "Rome"}]
    assert final.stop_reason == "tool_use"


def test_raw_events_are_anthropics(claude: Anthropic, up: ScriptedUpstream) -> None:
    up.script("fast", stream(("Hi",)))
    with claude.messages.with_streaming_response.create(model="fast", max_tokens=50, messages=ask(), stream=True) as raw:
        assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert raw.headers["request-id"] == raw.headers["x-farthing-request-id"]
        blocks = "".join(raw.iter_text()).removesuffix("\n\n").split("\n\n")
    names = [block.partition("\n")[0] for block in blocks]
    assert names == [
        "event: message_start",
        "event: ping",
        "event: content_block_start",
        "event: content_block_delta",
        "event: content_block_stop",
        "event: message_delta",
        ": farthing cost-usd=0.000011 saved-usd=0.000000",
        "event: message_stop",
    ]


@pytest.mark.parametrize("first_streams", [False, True], ids=["whole_first", "stream_first"])
def test_hits_look_as_misses_do(claude: Anthropic, *, first_streams: bool) -> None:
    question: dict[str, Any] = {"model": "fast", "max_tokens": 50, "messages": ask("one two three")}

    def whole() -> anthropic.types.Message:
        final: anthropic.types.Message = claude.messages.create(**question)
        return final

    def streamed() -> anthropic.types.Message:
        with claude.messages.stream(**question) as answer:
            final: anthropic.types.Message = answer.get_final_message()
            return final

    first, *others = [streamed(), whole(), streamed()] if first_streams else [whole(), streamed(), whole()]
    for other in others:
        assert other.id != first.id
        same = [{key: value for key, value in one.to_dict().items() if key not in {"id", "usage"}} for one in (first, other)]
        assert same[0] == same[1]
        totals = [one.usage.input_tokens + (one.usage.cache_read_input_tokens or 0) for one in (first, other)]
        assert (totals[0], first.usage.output_tokens) == (totals[1], other.usage.output_tokens)


def test_farthings_options_and_headers(claude: Anthropic) -> None:
    question: dict[str, Any] = {"model": "fast", "max_tokens": 50, "messages": ask()}
    with_body = claude.messages.with_raw_response.create(**question, extra_body={"farthing": {"cache": "off"}})
    assert with_body.headers["x-farthing-source"] == "model"
    with_header = claude.messages.with_raw_response.create(**question, extra_headers={"x-farthing-cache": "off"})
    assert with_header.headers["x-farthing-source"] == "model"
    claude.messages.create(**question)
    hit = claude.messages.with_raw_response.create(**question)
    assert (hit.headers["x-farthing-source"], hit.headers["x-farthing-cost-usd"]) == ("exact", "0.000000")


def test_counting_tokens_is_an_estimate_that_says_so(claude: Anthropic, probe: Probe) -> None:
    with probe.adds(requests=0, attempts=0):
        raw = claude.messages.with_raw_response.count_tokens(
            model="fast", messages=[{"role": "user", "content": "word " * 400}], tools=[WEATHER]
        )
        assert json.loads(raw.text())["estimated"] is True
        assert 400 <= raw.parse().input_tokens <= 600


def test_errors_are_anthropics(claude: Anthropic, gateway: Installation, up: ScriptedUpstream) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(model="gpt-9", max_tokens=5, messages=ask())
    assert (missing.value.type, missing.value.error_code) == ("not_found_error", "model_not_found")
    assert missing.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.messages.create(model="fast", max_tokens=0, messages=ask())
    with pytest.raises(anthropic.AuthenticationError) as stranger:
        claude.with_options(api_key="fk-nobody").messages.create(model="fast", max_tokens=5, messages=ask())
    assert stranger.value.type == "authentication_error"
    key = new_key(gateway, "narrow", models=["strong"])["key"]
    with pytest.raises(anthropic.PermissionDeniedError) as narrow:
        claude.with_options(api_key=key).messages.create(model="fast", max_tokens=5, messages=ask())
    assert narrow.value.type == "permission_error"
    up.script("fast", rate_limited(retry_after="7"))
    with pytest.raises(anthropic.RateLimitError) as limited:
        claude.messages.create(model="fast", max_tokens=5, messages=ask())
    assert (limited.value.type, limited.value.response.headers["retry-after"]) == ("rate_limit_error", "7")


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("POST", "/v1/messages", 400, "invalid_request_error"),
        ("POST", "/v1/messages/count_tokens", 400, "invalid_request_error"),
    ],
)
def test_what_never_reaches_the_door_is_told_in_anthropics_words(
    gateway: Installation, method: str, path: str, status: int, kind: str
) -> None:
    found = httpx.request(method, f"{gateway.url}{path}", headers={"x-api-key": gateway.key})
    body = found.json()
    assert (found.status_code, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert body["request_id"] == found.headers["request-id"]
    assert httpx.request(method, f"{gateway.url}{path}").json()["error"]["type"] == "authentication_error"


def test_the_sdk_tries_again_where_that_helps(gateway: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", error(503, "busy"), rate_limited(retry_after_ms="10"), completion("there"))
    with Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=2) as client:
        answer = client.messages.create(model="fast", max_tokens=5, messages=ask(), extra_headers={"x-farthing-cache": "off"})
    assert answer.content[0].to_dict()["text"] == "there"


def test_the_sdk_does_not_try_again_where_it_cannot_help(gateway: Installation, up: ScriptedUpstream) -> None:
    before = up.received
    with Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=2) as client, pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="gpt-9", max_tokens=5, messages=ask())
    assert up.received == before


@pytest.mark.parametrize("reply", [error_mid_stream(message="on fire"), close_mid_body()], ids=["error_event", "lost_connection"])
def test_a_stream_that_breaks_raises(reply: Any, claude: Anthropic, up: ScriptedUpstream) -> None:
    up.script("fast", reply)
    texts: list[str] = []
    with claude.messages.stream(model="fast", max_tokens=50, messages=ask()) as answer, pytest.raises(anthropic.APIStatusError) as caught:
        texts.extend(answer.text_stream)
    assert "".join(texts) == "Hello"
    assert (caught.value.type, caught.value.error_code) == ("api_error", "upstream_unavailable")


async def test_leaving_ends_the_upstreams_work(async_claude: AsyncAnthropic, up: ScriptedUpstream, probe: Probe) -> None:
    up.script("fast", stream(WORDS, delay=0.01), stall_before_headers())
    disconnects, received = up.disconnects, up.received
    async with probe.adds(requests=2, attempts=2, errors=2):
        async with async_claude.messages.stream(model="fast", max_tokens=50, messages=ask()) as answer:
            await anext(aiter(answer.text_stream))
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)
        asking = asyncio.ensure_future(async_claude.messages.create(model="fast", max_tokens=50, messages=ask()))
        await up.wait_for(lambda up: up.received == received + 2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await up.wait_for(lambda up: up.disconnects == disconnects + 2)
