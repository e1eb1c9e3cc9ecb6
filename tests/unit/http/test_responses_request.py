"""Bodies of /v1/responses as chat requests: tables of both, and what is refused with which words."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import InvalidRequest
from farthing.http import parse
from farthing.http.responses.doors import page
from farthing.http.responses.items import ItemIds, read_items, response_id, response_name, response_of
from farthing.http.responses.messages import messages_of
from farthing.http.responses.request import chat_body, check
from farthing.types import Json, new_id

ID = UUID(int=7)
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
IMAGE = {"type": "input_image", "image_url": "https://example.org/a.png"}


def translated(**body: Any) -> Json:
    """The chat request of a body."""
    typed, raw = parse.responses(msgspec.json.encode({"model": "fast", **body}))
    check(typed, raw)
    items = read_items(typed.input, ItemIds(ID))
    return chat_body(typed, raw, messages_of(typed.instructions, items))


def messages(*items: Json, **more: Any) -> list[Json]:
    """The chat messages of input items."""
    found: list[Json] = translated(input=list(items), **more)["messages"]
    return found


def refused(**body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        translated(**body)
    return caught.value


def call(number: int, arguments: str = "{}") -> Json:
    return {"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": arguments}


def result(number: int, output: Any = "done") -> Json:
    return {"type": "function_call_output", "call_id": f"c{number}", "output": output}


def chat_call(number: int) -> Json:
    return {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        ("hello", [{"role": "user", "content": "hello"}]),
        ("", [{"role": "user", "content": ""}]),
        ([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}]),
        ([{"type": "message", "role": "developer", "content": "be brief"}], [{"role": "system", "content": "be brief"}]),
        ([{"role": "user", "content": [{"type": "input_text", "text": "one part"}]}], [{"role": "user", "content": "one part"}]),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "what?"}, IMAGE, {**IMAGE, "detail": "low"}]}],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "what?"},
                        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "auto"}},
                        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
                    ],
                }
            ],
        ),
        (
            [{"role": "user", "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "data:;base64,AA=="}]}],
            [{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:;base64,AA==", "filename": "a.pdf"}}]}],
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}],
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}],
        ),
        (
            [
                {"role": "assistant", "content": [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]},
                {"role": "assistant", "content": "c", "phase": "final_answer"},
                {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            ],
            [
                {"role": "assistant", "content": "ab"},
                {"role": "assistant", "content": "c"},
                {"role": "assistant", "content": None, "refusal": "no"},
            ],
        ),
        (
            [call(1), call(2), result(1), result(2)],
            [
                {"role": "assistant", "content": None, "tool_calls": [chat_call(1), chat_call(2)]},
                {"role": "tool", "tool_call_id": "c1", "content": "done"},
                {"role": "tool", "tool_call_id": "c2", "content": "done"},
            ],
        ),
        (
            [{"type": "reasoning", "id": "rs_1", "summary": []}, {"role": "assistant", "content": "wait"}, call(1), result(1)],
            [
                {"role": "assistant", "content": "wait", "tool_calls": [chat_call(1)]},
                {"role": "tool", "tool_call_id": "c1", "content": "done"},
            ],
        ),
        (
            [call(1), {"role": "assistant", "content": "wait"}, result(1, [{"type": "input_text", "text": "x"}, IMAGE])],
            [
                {"role": "assistant", "content": "wait", "tool_calls": [chat_call(1)]},
                {
                    "role": "tool",
                    "tool_call_id": "c1",
                    "content": [
                        {"type": "text", "text": "x"},
                        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "auto"}},
                    ],
                },
            ],
        ),
    ],
)
def test_input_becomes_messages(given_input: Any, expected: list[Json]) -> None:
    assert translated(input=given_input)["messages"] == expected


def test_instructions_come_first_as_the_systems_words() -> None:
    assert messages({"role": "user", "content": "hi"}, instructions="be kind") == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_output_tokens": 20}, {"max_tokens": 20}),
        ({"temperature": 0.5, "top_p": 0.1, "user": "u"}, {"temperature": 0.5, "top_p": 0.1, "user": "u"}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
        ),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"top_logprobs": 0}, {"logprobs": True, "top_logprobs": 0}),
        ({"include": ["reasoning.encrypted_content", "made.up"]}, {}),
        (
            {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}], "parallel_tool_calls": False},
            {
                "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": False}}],
                "parallel_tool_calls": False,
            },
        ),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
        ({"store": True, "metadata": {"a": "b"}, "truncation": "auto", "stream": True, "max_tool_calls": 3, "background": False}, {}),
        ({"service_tier": "flex", "prompt_cache_key": "k", "safety_identifier": "s"},) * 2,
        ({"top_k": 40, "x": {"y": None}}, {"top_k": 40, "x": {"y": None}}),
    ],
)
def test_options_keep_their_meaning(body: Json, expected: Json) -> None:
    assert translated(input="q", **body) == {"model": "fast", "messages": [{"role": "user", "content": "q"}], **expected}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}},
        ),
    ],
)
def test_tool_choices_keep_their_meaning(choice: Any, expected: Any) -> None:
    tools = [{"type": "function", "name": "f"}]
    assert translated(input="q", tools=tools, tool_choice=choice)["tool_choice"] == expected


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "output_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "http://x"}]}]}, "input[0].content[0].file_data"),
        ({"input": [{"role": "assistant", "content": [IMAGE]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "c", "arguments": "{}"}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{}]}, "input[0].id"),
        ({"input": "q", "background": True}, "background"),
        ({"input": "q", "conversation": "conv_1"}, "conversation"),
        ({"input": "q", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "q", "n": 2}, "n"),
        ({"input": "q", "messages": [{"role": "user", "content": "x"}]}, "messages"),
        ({"input": "q", "max_tokens": 5}, "max_tokens"),
        ({"input": "q", "response_format": {"type": "json_object"}}, "response_format"),
        ({"input": "q", "truncation": "middle"}, "truncation"),
        ({"input": "q", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "q", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "q", "tool_choice": "required"}, "tool_choice"),
        ({"input": "q", "tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"input": "q", "text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"input": "q", "text": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "text.format.name"),
        ({"input": "q", "metadata": {"a": 1}}, "metadata[...]"),
        ({"input": "q", "temperature": "hot"}, "temperature"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body: Json, param: str) -> None:
    error = refused(**body)
    assert (error.param, error.retry) == (param, False)
    assert len(error.message) < 400


def test_a_hostile_name_is_not_repeated_at_length() -> None:
    assert len(refused(input=[{"type": "x" * 100_000}]).message) < 300


def test_ids_name_their_response() -> None:
    response = new_id()
    ids = ItemIds(response)
    names = [ids.new(kind) for kind in ("msg", "fc", "rs") for _ in range(70_000)]
    assert len(set(names)) == len(names)
    assert {response_of(name) for name in (names[0], names[-1])} == {response}
    assert response_id(response_name(response)) == response


@given(st.text(max_size=80))
def test_what_is_no_id_of_ours_is_nobodys(text: str) -> None:
    assert response_id(text) is None
    assert response_of(text) is None


TEXTS = st.text(min_size=1, max_size=20)
ITEMS = st.one_of(
    st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["user", "assistant", "system", "developer"]), TEXTS),
    st.builds(lambda text: {"role": "user", "content": [{"type": "input_text", "text": text}, IMAGE]}, TEXTS),
    st.builds(call, st.integers(0, 3), TEXTS),
    st.builds(result, st.integers(0, 3), TEXTS),
    st.just({"type": "reasoning", "summary": []}),
)


@given(st.lists(ITEMS, min_size=1, max_size=12))
def test_items_read_again_are_the_same_messages(items: list[Json]) -> None:
    """What is listed can be sent back: OpenAI's clients keep conversations so."""
    once = read_items(parse.responses(msgspec.json.encode({"model": "m", "input": items}))[0].input, ItemIds(ID))
    again = read_items(parse.responses(msgspec.json.encode({"model": "m", "input": once}))[0].input, ItemIds(UUID(int=8)))
    talk = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "end"}]}
    assert messages_of(None, [*once, talk]) == messages_of(None, [*again, talk])
    assert [item["type"] for item in once] == [item["type"] for item in again]


@given(st.lists(ITEMS, min_size=1, max_size=12))
def test_no_word_is_lost_and_calls_stay_in_order(items: list[Json]) -> None:
    end = {"role": "user", "content": "end"}
    found = messages(*items, end)
    calls = [one["id"] for message in found for one in message.get("tool_calls", ())]
    assert calls == [item["call_id"] for item in items if item.get("type") == "function_call"]
    said = "".join(message["content"] for message in found if isinstance(message["content"], str) and message["role"] == "assistant")
    assert said == "".join(item["content"] for item in items if item.get("role") == "assistant")


LISTED = [{"id": f"i{number}"} for number in range(25)]


def test_pages_follow_each_other_in_both_orders() -> None:
    for order in ("asc", "desc"):
        seen: list[str] = []
        query = {"order": [order], "limit": ["7"]}
        while True:
            found = page(LISTED, query)
            seen += [item["id"] for item in found["data"]]
            assert (found["first_id"], found["last_id"]) == (found["data"][0]["id"], found["data"][-1]["id"])
            if not found["has_more"]:
                break
            query["after"] = [found["last_id"]]
        whole = [item["id"] for item in LISTED]
        assert seen == (whole if order == "asc" else whole[::-1])


def test_a_page_is_the_newest_twenty_unless_asked_otherwise() -> None:
    found = page(LISTED, {})
    assert (found["object"], len(found["data"]), found["data"][0]["id"], found["has_more"]) == ("list", 20, "i24", True)
    assert page([], {}) == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    "query", [{"limit": ["0"]}, {"limit": ["101"]}, {"limit": ["²"]}, {"limit": ["9" * 5000]}, {"order": ["up"]}, {"after": ["x"]}]
)
def test_a_wrong_page_is_refused(query: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        page(LISTED, query)
    assert caught.value.param == next(iter(query))
