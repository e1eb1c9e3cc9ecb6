"""From the canonical chat answer to Anthropic's Messages: whole, as events, and errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import (
    BodyTooLarge,
    FarthingError,
    InvalidRequest,
    ModelNotFound,
    NotAllowed,
    Overloaded,
    Unauthenticated,
    Unavailable,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.http.messages_answer import INVALID_JSON, MessageEvents, message, refusal, tool_input, usage
from farthing.pipeline.stream import replay
from farthing.types import ANONYMOUS, Answer, Extras, Json, Lifeline, Operation, Request, Source, new_id

USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


def request() -> Request:
    return Request(
        id=new_id(),
        principal=ANONYMOUS,
        operation=Operation.CHAT,
        body={},
        model="fast",
        extras=Extras(),
        started_ns=0,
        lifeline=Lifeline(None),
    )


def completion(said: Json, end: str | None = "stop", **choice: Any) -> Json:
    whole = {"index": 0, "message": {"role": "assistant", "content": None, "refusal": None, **said}, "finish_reason": end, **choice}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt", "choices": [{"logprobs": None, **whole}], "usage": USAGE}


def call(name: str, arguments: str, key: str = "call_1") -> Json:
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}


def translated(body: Json, *, stops: Sequence[str] = (), thinks: bool = False) -> Json:
    return message(request(), body, stops=stops, thinks=thinks)


def test_the_smallest_answer() -> None:
    asked = request()
    assert message(asked, completion({"content": "Hi"}), stops=(), thinks=False) == {
        "id": f"msg_{asked.id.hex}",
        "type": "message",
        "role": "assistant",
        "model": "gpt",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 4},
    }


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("something_new", "end_turn"),
        (None, "end_turn"),
    ],
)
def test_ends(end: str | None, reason: str) -> None:
    assert translated(completion({"content": "Hi"}, end))["stop_reason"] == reason


def test_calls_are_an_end_for_tools_whatever_the_server_says() -> None:
    assert translated(completion({"tool_calls": [call("t", "{}")]}, "stop"))["stop_reason"] == "tool_use"


@pytest.mark.parametrize("name", ["stop_sequence", "stop_reason"])
def test_a_stop_sequence_is_named_where_the_server_names_it(name: str) -> None:
    body = completion({"content": "Hi"}, **{name: "END"})
    assert translated(body, stops=["END"])["stop_sequence"] == "END"
    assert translated(body, stops=["END"])["stop_reason"] == "stop_sequence"
    assert translated(body, stops=["other"])["stop_reason"] == "end_turn", "not one of the caller's"


def test_a_refusal_is_text_and_says_so() -> None:
    found = translated(completion({"refusal": "I cannot."}))
    assert (found["content"], found["stop_reason"]) == ([{"type": "text", "text": "I cannot."}], "refusal")


def test_text_and_calls() -> None:
    found = translated(
        completion({"content": "Look:", "tool_calls": [call("weather", '{"city": "Bonn"}'), call("t", "", "b")]}, "tool_calls")
    )
    assert found["content"] == [
        {"type": "text", "text": "Look:"},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Bonn"}},
        {"type": "tool_use", "id": "b", "name": "t", "input": {}},
    ]


@pytest.mark.parametrize("text", ['{"a": ', "[]", '"x"', "nonsense", "[" * 100_000])
def test_a_tools_input_that_is_no_object_is_kept_under_a_name_of_its_own(text: str) -> None:
    assert tool_input(text) == {INVALID_JSON: text}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_shown_to_callers_that_asked_for_thinking(name: str) -> None:
    body = completion({"content": "Hi", name: "hm"})
    assert translated(body, thinks=True)["content"][0] == {"type": "thinking", "thinking": "hm", "signature": ""}
    assert [block["type"] for block in translated(body)["content"]] == ["text"]


def test_claudes_own_thinking_comes_as_it_is() -> None:
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    body = completion({"content": "Hi", "reasoning_content": "hm", "thinking_blocks": blocks})
    assert translated(body, thinks=True)["content"] == [*blocks, {"type": "text", "text": "Hi"}]


@pytest.mark.parametrize(
    ("said", "count"), [({}, 0), ({"content": ""}, 0), ({"content": [{"type": "text", "text": "a"}, {"type": "x"}, 3]}, 1)]
)
def test_odd_contents(said: Json, count: int) -> None:
    assert len(translated(completion(said))["content"]) == count


@pytest.mark.parametrize("calls", [None, "x", [3], [{}], [{"function": "x"}]])
def test_calls_that_are_none_are_left_out(calls: Any) -> None:
    assert translated(completion({"content": "Hi", "tool_calls": calls}))["content"] == [{"type": "text", "text": "Hi"}]


def test_usage_leaves_cached_input_out() -> None:
    raw = {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    assert usage(raw) == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 5},
    }


def test_usage_that_we_guessed_says_so() -> None:
    assert usage({**USAGE, "estimated": True})["estimated"] is True


def test_usage_that_does_not_add_up_is_not_negative() -> None:
    assert usage({"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}})["input_tokens"] == 0


# Streams


def events(data: bytes) -> Iterator[Json]:
    """Decoded events, their names checked against their data; comments dropped."""
    for block in data.decode().removesuffix("\n\n").split("\n\n"):
        if block.startswith(":"):
            assert re.fullmatch(r": farthing cost-usd=\S+ saved-usd=\S+", block)
            continue
        name, _, text = block.partition("\n")
        found = msgspec.json.decode(text.removeprefix("data: "))
        assert name == f"event: {found['type']}"
        yield found


def streamed(chunks: Sequence[Json], *, stops: Sequence[str] = (), thinks: bool = False) -> list[Json]:
    writer = MessageEvents(request(), stops=stops, thinks=thinks, counted=3)
    answer = Answer(source=Source.MODEL, model="fast", usage=USAGE)
    data = b"".join(writer.chunk(chunk) for chunk in chunks) + asyncio.run(writer.end(answer))
    return list(events(data))


def accumulated(found: Sequence[Json]) -> Json:
    """What a client makes of the events, which follow each other as Anthropic's do."""
    assert [found[0]["type"], found[1]["type"], found[-2]["type"], found[-1]["type"]] == [
        "message_start",
        "ping",
        "message_delta",
        "message_stop",
    ]
    whole: Json = found[0]["message"]
    texts: list[str] = []
    for event in found[2:-2]:
        if event["type"] == "content_block_start":
            assert not texts
            assert event["index"] == len(whole["content"])
            whole["content"].append(event["content_block"])
            texts = [""]
        elif event["type"] == "content_block_delta":
            assert texts, "no block is open"
            assert event["index"] == len(whole["content"]) - 1
            delta = event["delta"]
            texts[0] += delta.get("text", "") + delta.get("partial_json", "") + delta.get("thinking", "")
            whole["content"][-1] |= {key: delta[key] for key in ("signature",) if key in delta}
        else:
            assert event == {"type": "content_block_stop", "index": len(whole["content"]) - 1}
            block = whole["content"][-1]
            block |= {"input": tool_input(texts[0])} if block["type"] == "tool_use" else {}
            block |= {block["type"]: texts[0]} if block["type"] in {"text", "thinking"} else {}
            texts = []
    assert not texts, "a block is left open"
    return {**whole, **found[-2]["delta"], "usage": found[-2]["usage"]}


def chunk(delta: Json, end: str | None = None, **choice: Any) -> Json:
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end, **choice}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt", "choices": choices}


_texts = st.text(max_size=12)
_calls = st.lists(
    st.builds(call, _texts.filter(bool), st.dictionaries(_texts, st.integers(), max_size=2).map(lambda x: msgspec.json.encode(x).decode())),
    max_size=3,
)


@given(st.none() | _texts, _calls, st.sampled_from(["stop", "length", "content_filter"]), st.none() | _texts.filter(bool))
def test_a_stream_says_the_same_as_the_whole_answer(content: str | None, calls: list[Json], end: str, reasoning: str | None) -> None:
    """As the cache has it: streams are replayed from whole answers."""
    said: Json = {"content": content} | ({"tool_calls": calls} if calls else {}) | ({"reasoning_content": reasoning} if reasoning else {})
    body = completion(said, end)
    found = accumulated(streamed(list(replay(body)), thinks=True))
    assert {**found, "id": ""} == {**translated(body, thinks=True), "id": ""}


def test_input_tokens_are_an_estimate_at_the_start_and_counted_at_the_end() -> None:
    first, *_, last, _ = streamed([chunk({"content": "Hi"}), chunk({}, "stop")])
    assert first["message"]["usage"]["input_tokens"] == 3
    assert last["usage"]["input_tokens"] == 10


def test_claudes_thinking_is_streamed_with_its_signature() -> None:
    thought = {"type": "thinking", "thinking": "hmhm", "signature": "s"}
    chunks = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"reasoning_content": "hm"}),
        chunk({"thinking_blocks": [thought]}),
        chunk({"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}),
        chunk({"content": "Hi"}),
        chunk({}, "stop"),
    ]
    found = accumulated(streamed(chunks, thinks=True))
    assert found["content"] == [thought, {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Hi"}]


def test_a_stop_sequence_is_named_in_streams_too() -> None:
    found = accumulated(streamed([chunk({"content": "Hi"}), chunk({}, "stop", stop_reason="END")], stops=["END"]))
    assert (found["stop_reason"], found["stop_sequence"]) == ("stop_sequence", "END")


def test_pieces_of_two_calls_that_are_mixed_end_in_an_error() -> None:
    def piece(index: int, arguments: str) -> Json:
        return chunk({"tool_calls": [{"index": index, "id": f"c{index}", "function": {"name": "t", "arguments": arguments}}]})

    with pytest.raises(UpstreamMalformed):
        streamed([piece(0, "{"), piece(1, "{}"), piece(0, "}")])


def test_other_choices_are_not_mixed_in() -> None:
    other = chunk({"content": "other"})
    other["choices"][0]["index"] = 1
    assert accumulated(streamed([chunk({"content": "Hi"}), other, chunk({}, "stop")]))["content"] == [{"type": "text", "text": "Hi"}]


def test_a_stream_without_chunks_is_still_a_message() -> None:
    assert accumulated(streamed([]))["content"] == []


def test_an_error_in_mid_stream() -> None:
    asked = request()
    writer = MessageEvents(asked, stops=(), thinks=False, counted=0)
    (found,) = events(writer.error(UpstreamUnavailable("gone")))
    details = {"error_code": "upstream_unavailable"}
    error = {"type": "api_error", "message": "gone", "details": details}
    assert found == {"type": "error", "error": error, "request_id": str(asked.id)}


# Errors


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("x"), 400, "invalid_request_error"),
        (Unauthenticated("x"), 401, "authentication_error"),
        (NotAllowed("x"), 403, "permission_error"),
        (ModelNotFound("x"), 404, "not_found_error"),
        (BodyTooLarge("x"), 413, "request_too_large"),
        (UpstreamRateLimited("x"), 429, "rate_limit_error"),
        (UpstreamUnavailable("x"), 502, "api_error"),
        (UpstreamTimeout("x"), 504, "timeout_error"),
        (Unavailable("x"), 503, "api_error"),
        (Overloaded("x"), 529, "overloaded_error"),
        (FarthingError("x"), 500, "api_error"),
        (UpstreamRejected("x", upstream_status=422, upstream_type="whatever"), 422, "invalid_request_error"),
        (UpstreamRejected("x", upstream_status=402), 402, "billing_error"),
        (UpstreamUnavailable("x", upstream_status=529, upstream_type="overloaded_error"), 502, "overloaded_error"),
    ],
)
def test_errors_have_anthropics_types(error: FarthingError, status: int, kind: str) -> None:
    asked = request()
    found_status, headers, body = refusal(asked, error)
    found = msgspec.json.decode(body)
    assert (found_status, found["error"]["type"], found["error"]["message"]) == (status, kind, "x")
    assert (found["type"], found["request_id"]) == ("error", str(asked.id))
    assert dict(headers)[b"request-id"] == str(asked.id).encode()


def test_an_error_says_our_code_the_field_and_whether_to_retry() -> None:
    _, headers, body = refusal(request(), UpstreamRateLimited("x", param="p", retry_after_s=2))
    assert msgspec.json.decode(body)["error"]["details"] == {"error_code": "rate_limit_exceeded", "param": "p"}
    assert dict(headers)[b"x-should-retry"] == b"true"
    assert dict(headers)[b"retry-after"] == b"2"
