"""Streamed chat answers through the official SDK: text, usage, tools, choices, and what happens when they break."""

from __future__ import annotations

import json
from collections.abc import Iterable
from uuid import uuid4

import pytest
from openai import APIError, AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from farthing.testing.malformed import close_mid_body, error_mid_stream, split_utf8
from farthing.testing.replies import Reply, sse, stream, usage_object
from farthing.testing.upstream import ScriptedUpstream

PIECES = ("Grüße", ", ", "世界", " 🌍", "!")


def ask(text: str = "hello") -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"{text} {uuid4()}"}]


def text_of(chunks: Iterable[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def test_text_comes_in_the_upstreams_pieces(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", stream(PIECES))
    with sdk.chat.completions.create(model="fast", messages=ask(), stream=True) as answer:
        chunks = list(answer)
    assert [piece for chunk in chunks if (piece := chunk.choices[0].delta.content)] == list(PIECES)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert (chunks[0].choices[0].delta.role, chunks[-1].choices[0].finish_reason) == ("assistant", "stop")
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_asynchronous_stream(async_sdk: AsyncOpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", split_utf8("Grüße, 世界 🌍"))
    async with await async_sdk.chat.completions.create(model="fast", messages=ask(), stream=True) as answer:
        assert text_of([chunk async for chunk in answer]) == "Grüße, 世界 🌍"


def test_stream_and_whole_answer_say_the_same(sdk: OpenAI) -> None:
    messages = ask("the very same words twice")
    whole = sdk.chat.completions.create(model="fast", messages=messages, extra_body={"farthing": {"cache": "off"}})
    with sdk.chat.completions.create(model="fast", messages=messages, stream=True, extra_body={"farthing": {"cache": "off"}}) as answer:
        assert text_of(answer) == whole.choices[0].message.content


@pytest.mark.parametrize("place", [True, "on_last_choice_chunk"])
def test_usage_comes_last_without_choices_wherever_the_upstream_puts_it(place: bool | str, sdk: OpenAI, up: ScriptedUpstream) -> None:  # noqa: FBT001 - a case
    counts = usage_object(11, 22, cached=5)
    up.script("fast", stream(PIECES, usage=place, counts=counts))  # type: ignore[arg-type]  # one of the places
    options = sdk.chat.completions.create(model="fast", messages=ask(), stream=True, stream_options={"include_usage": True})
    with options as answer:
        *before, last = [chunk.to_dict(exclude_unset=True) for chunk in answer]
    assert (last["choices"], last["usage"]) == ([], counts)
    assert {name: last[name] for name in ("id", "object", "model")} == {name: before[0][name] for name in ("id", "object", "model")}
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in before)


def test_usage_is_estimated_where_the_upstream_gives_none(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", stream(PIECES, usage=False))
    with sdk.chat.completions.create(model="fast", messages=ask(), stream=True, stream_options={"include_usage": True}) as answer:
        *_, last = list(answer)
    assert last.usage is not None
    assert last.usage.prompt_tokens > 0
    assert last.usage.completion_tokens > 0
    assert last.usage.model_extra == {"estimated": True}


@pytest.mark.parametrize("place", [True, False, "on_last_choice_chunk"])
def test_usage_does_not_come_when_it_was_not_asked_for(place: bool | str, sdk: OpenAI, up: ScriptedUpstream) -> None:  # noqa: FBT001 - a case
    up.script("fast", stream(PIECES, usage=place))  # type: ignore[arg-type]  # one of the places
    with sdk.chat.completions.create(model="fast", messages=ask(), stream=True) as answer:
        chunks = [chunk.to_dict(exclude_unset=True) for chunk in answer]
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)
    assert up.requests[-1].body["stream_options"] == {"include_usage": True}, "the ledger wants to know"


def test_cost_comes_in_a_comment_before_the_end_mark(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", stream(PIECES, counts=usage_object(1_000_000, 500_000)))
    with sdk.chat.completions.with_streaming_response.create(model="fast", messages=ask(), stream=True) as raw:
        assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert raw.headers["x-farthing-source"] == "model"
        text = "".join(raw.iter_text())
    assert text.endswith("\n\n: farthing cost-usd=2.000000 saved-usd=0.000000\n\ndata: [DONE]\n\n")


def test_tool_calls_come_in_order(sdk: OpenAI, up: ScriptedUpstream) -> None:
    calls = [("weather", '{"city": "Bonn", "days": 3}'), ("time", '{"zone": "Europe/Berlin"}')]
    up.script("fast", stream((), tool_calls=calls))
    with sdk.chat.completions.create(model="fast", messages=ask(), stream=True) as answer:
        chunks = list(answer)
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or ()]
    assert [delta.index for delta in deltas] == sorted(delta.index for delta in deltas)
    for index, (name, arguments) in enumerate(calls):
        first, *rest = [delta for delta in deltas if delta.index == index]
        assert first.function is not None
        assert (first.id, first.type, first.function.name, first.function.arguments) == (f"call_{index}", "function", name, "")
        assert all(delta.id is None and delta.type is None and delta.function and delta.function.name is None for delta in rest)
        assert "".join(delta.function.arguments or "" for delta in rest if delta.function) == arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_the_sdks_own_accumulator_understands_streamed_tool_calls(async_sdk: AsyncOpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", stream((), tool_calls=[("weather", '{"city": "Bonn"}')]))
    async with async_sdk.chat.completions.stream(model="fast", messages=ask()) as answer:
        events = [event.type async for event in answer]
        final = await answer.get_final_completion()
    assert "tool_calls.function.arguments.done" in events
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].function.name, calls[0].function.arguments) == ("weather", '{"city": "Bonn"}')


def test_several_choices_keep_their_indices(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", stream(PIECES, n=3))
    with sdk.chat.completions.create(model="fast", messages=ask(), stream=True, n=3) as answer:
        chunks = list(answer)
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1, 2}
    whole = "".join(PIECES)
    assert [text_of(chunks, index) for index in range(3)] == [whole, f"#1 {whole}", f"#2 {whole}"]
    assert sum(1 for chunk in chunks for choice in chunk.choices if choice.finish_reason) == 3


def test_log_probabilities_and_unknown_fields_of_chunks_pass_through(sdk: OpenAI, up: ScriptedUpstream) -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}], "refusal": None}
    events: list[dict[str, object]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}, "x_vendor": 1}], "x_top": [1]},
        {"choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": logprobs}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    up.script("fast", Reply(parts=(*(sse({"id": "c", "model": "m", "created": 1, **event}) for event in events), b"data: [DONE]\n\n")))
    with sdk.chat.completions.create(model="fast", messages=ask(), stream=True, logprobs=True) as answer:
        first, second, last = [json.loads(chunk.to_json(exclude_unset=True)) for chunk in answer]
    assert (first["x_top"], first["choices"][0]["x_vendor"]) == ([1], 1)
    assert first["choices"][0]["delta"]["reasoning_content"] == "hm"
    assert second["choices"][0]["logprobs"] == logprobs
    assert (second["choices"][0]["finish_reason"], last["choices"][0]["logprobs"]) == (None, None)


@pytest.mark.parametrize("reply", [error_mid_stream(), close_mid_body()], ids=["error_event", "lost_connection"])
def test_stream_that_breaks_raises(reply: Reply, sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", reply)
    seen: list[ChatCompletionChunk] = []
    answer = sdk.chat.completions.create(model="fast", messages=ask(), stream=True)
    with answer, pytest.raises(APIError) as caught:
        seen.extend(answer)
    assert text_of(seen) == "Hello"
    assert caught.value.code == "upstream_unavailable"


async def test_asynchronous_stream_that_breaks_raises(async_sdk: AsyncOpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", error_mid_stream(message="The model is on fire"))
    answer = await async_sdk.chat.completions.create(model="fast", messages=ask(), stream=True)
    async with answer:
        with pytest.raises(APIError, match="on fire"):
            async for _ in answer:
                pass
