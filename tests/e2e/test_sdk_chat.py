"""Whole chat answers through the official SDK, synchronous and asynchronous."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from farthing.testing.installation import Installation
from farthing.testing.replies import Reply, completion, usage_object
from farthing.testing.upstream import ScriptedUpstream

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
LOGPROBS = {
    "content": [
        {"token": "Hel", "logprob": -0.1, "bytes": [72, 101, 108], "top_logprobs": [{"token": "Hel", "logprob": -0.1, "bytes": None}]},
        {"token": "lo", "logprob": -0.2, "bytes": [108, 111], "top_logprobs": []},
    ],
    "refusal": None,
}


def ask(text: str = "hello") -> list[ChatCompletionMessageParam]:
    """A question that nobody has asked before."""
    return [{"role": "user", "content": f"{text} {uuid4()}"}]


def test_answer_has_every_field_of_the_upstreams_answer(sdk: OpenAI, up: ScriptedUpstream) -> None:
    reply = completion("Hello!", usage=usage_object(9, 12, cached=4, reasoning=3))
    up.script("fast", reply)
    answer = sdk.chat.completions.create(model="fast", messages=ask())
    assert answer.to_dict(exclude_unset=True) == reply.json
    assert (answer.choices[0].message.content, answer.choices[0].logprobs, answer.choices[0].message.refusal) == ("Hello!", None, None)
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3


async def test_asynchronous_answer(async_sdk: AsyncOpenAI) -> None:
    messages = ask()
    answer = await async_sdk.chat.completions.create(model="fast", messages=messages)
    assert answer.choices[0].message.content == messages[0].get("content")
    assert answer.choices[0].finish_reason == "stop"


def test_required_fields_are_there_when_the_upstream_leaves_them_out(sdk: OpenAI, up: ScriptedUpstream) -> None:
    bare = {"choices": [{"message": {"content": "bare"}}], "model": "x"}
    up.script("fast", Reply(json=bare))
    raw = sdk.chat.completions.with_raw_response.create(model="fast", messages=ask())
    body = raw.http_response.json()
    choice = body["choices"][0]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert choice["message"] == {"role": "assistant", "content": "bare", "refusal": None}
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["created"] > 0
    assert body["usage"]["total_tokens"] > 0
    assert body["usage"]["estimated"] is True


def test_request_id_and_headers_say_what_happened(sdk: OpenAI) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model="fast", messages=ask())
    answer = raw.parse()
    assert raw.headers["x-request-id"] == raw.headers["x-farthing-request-id"] == answer._request_id
    assert raw.headers["content-type"] == "application/json"
    seen = {name: raw.headers[f"x-farthing-{name}"] for name in ("source", "model", "route", "mode", "saved-usd")}
    assert seen == {"source": "model", "model": "fast", "route": "direct", "mode": "DEEP", "saved-usd": "0.000000"}
    assert float(raw.headers["x-farthing-cost-usd"]) > 0


@pytest.mark.parametrize("n", [1, 3])
def test_choices_keep_their_indices(n: int, sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", completion("text", n=n))
    answer = sdk.chat.completions.create(model="fast", messages=ask(), n=n)
    assert [choice.index for choice in answer.choices] == list(range(n))
    assert [choice.message.content for choice in answer.choices] == ["text", "#1 text", "#2 text"][:n]


def test_tool_calls(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", completion(None, tool_calls=[("weather", '{"city": "Bonn"}'), ("weather", '{"city": "Ulm"}')]))
    messages = ask()
    answer = sdk.chat.completions.create(model="fast", messages=messages, tools=[WEATHER], tool_choice="required")
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.id, call.type, call.function.arguments) for call in calls if call.type == "function"] == [
        ("call_0", "function", '{"city": "Bonn"}'),
        ("call_1", "function", '{"city": "Ulm"}'),
    ]
    assert (answer.choices[0].finish_reason, answer.choices[0].message.content) == ("tool_calls", None)
    assert up.requests[-1].body["tools"] == [WEATHER]

    up.script("fast", completion("Rain."))
    results: list[ChatCompletionMessageParam] = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls]
    said = answer.choices[0].message.to_dict(exclude_unset=True)
    more = [*messages, said, *results]
    assert sdk.chat.completions.create(model="fast", messages=more, tools=[WEATHER]).choices[0].message.content == "Rain."  # type: ignore[arg-type]  # a dict, as the SDK takes it
    assert up.requests[-1].body["messages"] == more


def test_log_probabilities_pass_through(sdk: OpenAI, up: ScriptedUpstream) -> None:
    reply = completion("Hello")
    reply.json["choices"][0]["logprobs"] = LOGPROBS
    up.script("fast", reply)
    answer = sdk.chat.completions.create(model="fast", messages=ask(), logprobs=True, top_logprobs=1)
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.to_dict(exclude_unset=True) == LOGPROBS
    assert (up.requests[-1].body["logprobs"], up.requests[-1].body["top_logprobs"]) == (True, 1)


def test_what_farthing_does_not_know_passes_through_both_ways(sdk: OpenAI, up: ScriptedUpstream) -> None:
    reply = completion("Hello")
    reply.json["choices"][0]["message"]["reasoning_content"] = "thinking"
    reply.json["x_vendor"] = {"deep": [1, 2.5, None]}
    up.script("fast", reply)
    unknown: dict[str, Any] = {
        "x_unknown": {"nested": [1, "two", None, {"three": 3.5}], "big": 2**53 + 1, "text": "Grüße 🌍"},
        "top_k": 40,
        "enable_thinking": False,
        "empty": {},
        "nothing": None,
    }
    messages = [{"role": "user", "content": "hi", "x_cache_control": {"type": "ephemeral"}}]
    answer = sdk.chat.completions.create(model="fast", messages=messages, seed=uuid4().int % 2**31, extra_body=unknown)  # type: ignore[arg-type]  # a field of the future
    sent = up.requests[-1].body
    assert {name: sent[name] for name in unknown} == unknown
    assert sent["messages"] == messages
    assert answer.model_extra == {"x_vendor": {"deep": [1, 2.5, None]}}
    assert answer.choices[0].message.model_extra == {"reasoning_content": "thinking"}


def test_farthings_own_options_stay_here(sdk: OpenAI, gateway: Installation, up: ScriptedUpstream) -> None:
    sdk.chat.completions.create(
        model="fast",
        messages=ask(),
        extra_body={"farthing": {"cache": "off", "user": "u1", "task_type": "greeting"}},
        extra_headers={"x-farthing-namespace": "mine"},
    )
    received = up.requests[-1]
    assert "farthing" not in received.body
    assert not [name for name in received.headers if "farthing" in name]
    assert received.headers["authorization"] == "Bearer sk-upstream"
    assert gateway.key not in repr(received)


def test_the_upstream_is_asked_for_its_own_name_of_the_model(sdk: OpenAI, up: ScriptedUpstream) -> None:
    sdk.chat.completions.create(model="strong", messages=ask())
    received = up.requests[-1]
    assert (received.method, received.path, received.body["model"]) == ("POST", "/v1/chat/completions", "strong")


def test_models_are_listed_and_retrieved(sdk: OpenAI) -> None:
    listed = sdk.models.list()
    assert [model.id for model in listed] == ["fast", "strong"]
    one = sdk.models.retrieve("strong")
    assert (one.id, one.object, one.created > 0, bool(one.owned_by)) == ("strong", "model", True, True)
    assert one._request_id
