"""Chat answers as responses: the official SDK folds our events, llm-comply's schemas check each of them, and both ways of asking agree."""

from __future__ import annotations

import copy
import json
from functools import cache
from importlib import resources
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from openai import omit
from openai._models import construct_type_unchecked
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from farthing.errors import UpstreamRateLimited, UpstreamTimeout
from farthing.http.responses.body import InputItem, ResponsesBody
from farthing.http.responses.events import ResponseEvents
from farthing.http.responses.items import ItemIds, read_items
from farthing.http.responses.messages import messages_of
from farthing.http.responses.response import Draft
from farthing.http.responses.thoughts import unwrapped
from farthing.pipeline.stream import replay
from farthing.types import Answer, Json, Source

ID = UUID(int=9)
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
LOGPROBS = {
    "content": [{"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "Ho", "logprob": -2, "bytes": [72, 111]}]}]
}
SIGNED = [{"type": "thinking", "thinking": "hm", "signature": "s1g"}]
CITATION = {"type": "url_citation", "url_citation": {"url": "http://x", "title": "t", "start_index": 0, "end_index": 1}}


def chat(finish: str = "stop", *, logprobs: Json | None = None, **message: Any) -> Json:
    """A whole chat completion."""
    said = {"role": "assistant", "content": None, "refusal": None, **message}
    choice = {"index": 0, "message": said, "logprobs": logprobs, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m-1", "choices": [choice], "usage": USAGE}


def delta(finish: str | None = None, **said: Any) -> Json:
    """A chunk."""
    return {"model": "m-1", "choices": [{"index": 0, "delta": said, "logprobs": None, "finish_reason": finish}]}


def tool_call(number: int, arguments: str = '{"a": 1}', **more: Any) -> Json:
    return {"id": f"call_{number}", "type": "function", "function": {"name": f"f{number}", "arguments": arguments}, **more}


def draft(**body: Any) -> Draft:
    return Draft(ID, msgspec.convert({"model": "fast", "input": "q", **body}, ResponsesBody), ItemIds(ID), store=True)


def whole(body: Json, **asked: Any) -> Json:
    """The response to a whole answer."""
    made = draft(**asked)
    made.add_whole(copy.deepcopy(body))
    made.finish(body["usage"])
    return made.response


async def no_keeping() -> None:
    return None


async def streamed(chunks: list[Json], **asked: Any) -> list[Json]:
    """The events of a stream, each of them checked, as a client parses them."""
    events = ResponseEvents(draft(**asked), no_keeping)
    text = b"".join(events.chunk(chunk) for chunk in chunks)
    text += await events.end(Answer(source=Source.MODEL, model="m", usage=USAGE))
    return parsed(text)


def parsed(text: bytes) -> list[Json]:
    found = []
    for block in text.decode().split("\n\n"):
        if block and not block.startswith(":"):
            name, _, data = block.partition("\n")
            event: Json = msgspec.json.decode(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


@cache
def schema(name: str) -> Draft202012Validator:
    """A schema of the Open Responses specification, as llm-comply carries it."""
    components = json.loads(resources.files("llm_comply.specs").joinpath("openresponses.json").read_bytes())["components"]
    names = {one["properties"]["type"]["enum"][0]: key for key, one in components["schemas"].items() if key.endswith("StreamingEvent")}
    return Draft202012Validator({"$ref": f"#/components/schemas/{names.get(name, name)}", "components": components})


def fits(name: str, value: Json) -> None:
    found = best_match(schema(name).iter_errors(value))
    assert found is None, f"{found.json_path}: {found.message}"


def fits_the_schema(event: Json) -> None:
    """Every event that the specification knows (it calls the reasoning events by other names than OpenAI)."""
    if not event["type"].startswith("response.reasoning_text"):
        fits(event["type"], event)


def folded(events: list[Json]) -> Json:
    """What the official SDK makes of events."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events:
        state.handle_event(construct_type_unchecked(type_=ResponseStreamEvent, value=event))  # type: ignore[arg-type]  # a union, as the SDK takes it
    assert state._completed_response is not None
    found: Json = _without_parsed(state._completed_response.to_dict())
    return found


def _without_parsed(value: Any) -> Any:
    """The SDK adds what it has parsed."""
    if isinstance(value, dict):
        return {key: _without_parsed(one) for key, one in value.items() if key not in {"parsed", "parsed_arguments"}}
    return [_without_parsed(one) for one in value] if isinstance(value, list) else value


def nameless(value: Any) -> Any:
    """Without ids and times, which each answer has of its own."""
    if isinstance(value, dict):
        return {key: nameless(one) for key, one in value.items() if key not in {"id", "created_at", "completed_at"}}
    return [nameless(one) for one in value] if isinstance(value, list) else value


ANSWERS = {
    "text": chat(content="Hello there"),
    "empty": chat(content=""),
    "nothing": chat(),
    "refusal": chat(refusal="I will not"),
    "both": chat(content="Well", refusal="no"),
    "thought": chat(content="42", reasoning_content="6 times 7"),
    "openrouter": chat(content="42", reasoning="6 times 7"),
    "calls": chat("tool_calls", tool_calls=[tool_call(1), tool_call(2, "")]),
    "text_and_calls": chat("tool_calls", content="Wait", reasoning_content="hm", tool_calls=[tool_call(1)]),
    "cut": chat("length", content="Hello"),
    "cut_call": chat("length", tool_calls=[tool_call(1, '{"a')]),
    "filtered": chat("content_filter", content="He"),
    "logprobs": chat(content="Hi", logprobs=LOGPROBS),
    "signed": chat("tool_calls", reasoning_content="hm", thinking_blocks=SIGNED, tool_calls=[tool_call(1)]),
    "redacted": chat(content="42", thinking_blocks=[{"type": "redacted_thinking", "data": "x"}]),
    "cited": chat(content="Hi", annotations=[CITATION, "odd"]),
}


@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("summary", [None, "auto"])
async def test_a_stream_ends_in_what_a_whole_answer_is(body: Json, summary: str | None) -> None:
    asked = {"reasoning": {"summary": summary}} if summary else {}
    events = await streamed(list(replay(body)), **asked)
    for event in events:
        fits_the_schema(event)
    response = whole(body, **asked)
    fits("ResponseResource", response)
    assert nameless(events[-1]["response"]) == nameless(response)
    assert events[-1]["type"] == f"response.{response['status']}"
    if response["status"] == "completed":
        assert nameless(folded(events)["output"]) == nameless(response["output"])


def test_fields_are_where_openai_has_them() -> None:
    found = whole(ANSWERS["text_and_calls"], reasoning={"effort": "low"}, metadata={"a": "b"}, instructions="be kind", max_output_tokens=99)
    assert found["output"] == [
        {"id": f"rs_{ID.hex}0000", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {
            "id": f"msg_{ID.hex}0001",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Wait", "annotations": [], "logprobs": []}],
        },
        {
            "id": f"fc_{ID.hex}0002",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_1",
            "name": "f1",
            "arguments": '{"a": 1}',
        },
    ]
    assert found["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }
    assert (found["model"], found["status"], found["incomplete_details"]) == ("m-1", "completed", None)
    assert (found["metadata"], found["instructions"], found["max_output_tokens"]) == ({"a": "b"}, "be kind", 99)


def test_an_answer_that_was_cut_says_why() -> None:
    cut, filtered = whole(ANSWERS["cut"]), whole(ANSWERS["filtered"])
    assert (cut["status"], cut["incomplete_details"], cut["completed_at"]) == ("incomplete", {"reason": "max_output_tokens"}, None)
    assert cut["output"][0]["status"] == "incomplete"
    assert filtered["incomplete_details"] == {"reason": "content_filter"}
    assert whole(ANSWERS["cut_call"])["output"][0]["status"] == "incomplete"


def test_log_probabilities_have_no_nulls_and_citations_are_flat() -> None:
    part = whole(ANSWERS["logprobs"])["output"][0]["content"][0]
    assert part["logprobs"] == [
        {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Ho", "logprob": -2, "bytes": [72, 111]}]}
    ]
    cited = whole(ANSWERS["cited"])["output"][0]["content"][0]["annotations"]
    assert cited == [{"type": "url_citation", "url": "http://x", "title": "t", "start_index": 0, "end_index": 1}]


@pytest.mark.parametrize(("name", "blocks"), [("signed", SIGNED), ("redacted", [{"type": "redacted_thinking", "data": "x"}])])
def test_thoughts_that_a_model_wants_back_go_back_with_what_it_said(name: str, blocks: list[Json]) -> None:
    output = whole(ANSWERS[name])["output"]
    assert output[0]["type"] == "reasoning"
    sent_back = read_items(msgspec.convert(output, list[InputItem]), ItemIds(ID))
    for items in (output, sent_back):
        (message,) = messages_of(None, items)
        assert message["thinking_blocks"] == blocks
        assert message.get("tool_calls") or message["content"] == "42"
    asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "q"}]}
    assert [message["role"] for message in messages_of(None, [asked, output[0]])] == ["user"], "thoughts without words are not sent"


@pytest.mark.parametrize(
    "content", ["farthing.1.", "farthing.1.!", "farthing.1.e30=", "farthing.1.W10=", "gAAAA", "farthing.1." + "W1" * 5000]
)
def test_encrypted_content_of_others_is_ignored(content: str) -> None:
    assert unwrapped(content) == []


async def test_events_of_a_text_come_in_openais_order() -> None:
    events = await streamed([delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"), delta("stop")])
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[2]["item"]["status"] == "in_progress"
    assert events[2]["item"]["content"] == []
    assert events[0]["response"]["status"] == "in_progress"


async def test_events_of_calls_come_in_openais_order() -> None:
    first = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "f", "arguments": ""}}
    chunks = [
        delta(role="assistant", tool_calls=[first]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"x"'}}]),
        delta(tool_calls=[{"index": 1, "id": "call_b", "function": {"name": "g", "arguments": "{"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}, {"index": 1, "function": {"arguments": "}"}}]),
        delta("tool_calls"),
    ]
    events = await streamed(chunks)
    told = [(event["type"].removeprefix("response."), event.get("output_index"), event.get("delta")) for event in events[2:-1]]
    assert told == [
        ("output_item.added", 0, None),
        ("function_call_arguments.delta", 0, '{"x"'),
        ("output_item.added", 1, None),
        ("function_call_arguments.delta", 1, "{"),
        ("function_call_arguments.delta", 0, ": 1}"),
        ("function_call_arguments.delta", 1, "}"),
        ("function_call_arguments.done", 0, None),
        ("output_item.done", 0, None),
        ("function_call_arguments.done", 1, None),
        ("output_item.done", 1, None),
    ]
    calls = folded(events)["output"]
    assert [(call["call_id"], call["name"], call["arguments"]) for call in calls] == [("call_a", "f", '{"x": 1}'), ("call_b", "g", "{}")]


ODD_CALLS: list[list[Any]] = [
    [{"index": 0, "function": {"arguments": "{}"}}, {"index": 0, "function": {"name": "late"}}],
    [{"index": 0, "id": "same", "function": {"name": "f"}}, {"index": 1, "id": "same", "function": {"name": "g"}}],
    [{"function": {"name": "f", "arguments": "{"}}, {"function": {"arguments": "}"}}],
    [{"index": "x", "id": 5, "function": {"name": "f", "arguments": {"a": 1}}}],
    [{"index": 0, "function": {"name": "ab"}}, {"index": 0, "function": {"name": "cd"}}],
    [{"index": 7, "id": "a"}, {"index": 3, "id": "b", "function": None}],
    [None, "x", {"index": 0, "function": "x"}],
    [{"index": number, "function": {"name": "f"}} for number in range(600)],
]


@pytest.mark.parametrize("calls", ODD_CALLS, ids=range(len(ODD_CALLS)))
async def test_sloppy_calls_still_make_a_sound_response(calls: list[Any]) -> None:
    events = await streamed([*(delta(tool_calls=[call]) for call in calls), delta(tool_calls="x"), delta("tool_calls")])
    for event in events:
        fits_the_schema(event)
    found = folded(events)["output"]
    ids = [call["call_id"] for call in found if call["type"] == "function_call"]
    assert len(set(ids)) == len(ids)
    assert all(ids)
    assert len(found) <= 512


PIECES = st.one_of(
    st.builds(lambda text: delta(content=text), st.text(max_size=5)),
    st.builds(lambda text: delta(reasoning_content=text), st.text(max_size=5)),
    st.builds(lambda text: delta(refusal=text), st.text(max_size=5)),
    st.builds(
        lambda index, name, text: delta(tool_calls=[{"index": index, "id": f"c{index}", "function": {"name": name, "arguments": text}}]),
        st.integers(0, 2),
        st.sampled_from([None, "f"]),
        st.text(max_size=5),
    ),
    st.just(delta(content=None)),
    st.builds(delta, st.sampled_from(["stop", "tool_calls"])),
)


@given(st.lists(PIECES, max_size=15), st.sampled_from([None, "auto"]))
async def test_any_order_of_deltas_is_a_sound_stream(chunks: list[Json], summary: str | None) -> None:
    events = await streamed(copy.deepcopy(chunks), reasoning={"summary": summary})
    for event in events:
        fits_the_schema(event)
    output = folded(events)["output"]
    assert output == events[-1]["response"]["output"]
    texts = [part for item in output if item["type"] == "message" for part in item["content"]]
    for kind, field in (("content", "text"), ("refusal", "refusal")):
        said = "".join(chunk["choices"][0]["delta"].get(kind) or "" for chunk in chunks)
        assert "".join(part.get(field, "") for part in texts) == said
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert sorted(done, key=lambda item: str(item["id"])) == sorted(output, key=lambda item: str(item["id"]))


@pytest.mark.parametrize("before", [[], [delta(content="Hel")]])
async def test_a_stream_that_breaks_ends_failed_and_raises_in_the_sdk(before: list[Json]) -> None:
    events = ResponseEvents(draft(), no_keeping)
    text = b"".join(events.chunk(chunk) for chunk in before)
    *_, failed, error = parsed(text + events.error(UpstreamTimeout("too slow")))
    fits_the_schema(failed)
    fits_the_schema(error)
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": "too slow"}
    assert (error["type"], error["code"], error["message"], error["param"]) == ("error", "upstream_timeout", "too slow", None)
    assert error["error"]["message"] == "too slow"


async def test_a_rate_limit_in_mid_stream_is_called_one() -> None:
    events = ResponseEvents(draft(), no_keeping)
    failed = parsed(events.error(UpstreamRateLimited("slow down")))[-2]
    assert failed["response"]["error"]["code"] == "rate_limit_exceeded"


async def test_the_response_is_kept_before_the_client_hears_of_its_end() -> None:
    order: list[str] = []
    made = draft()

    async def keep() -> Any:
        order.append(f"kept {made.response['status']}")
        return "memory"

    events = ResponseEvents(made, keep)
    events.chunk(delta(content="Hi"))
    text = await events.end(Answer(source=Source.MODEL, model="m", usage=USAGE))
    assert order == ["kept completed"]
    assert text.index(b"response.completed") < text.index(b": farthing stored=memory\n\n") < text.index(b": farthing cost-usd=")
