"""From Anthropic's Messages to the canonical chat request: a table of what becomes what, and what is refused by its place."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import InvalidRequest
from farthing.http import parse
from farthing.http.messages_request import chat_body
from farthing.types import Json

PIXEL = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
MARK = {"type": "ephemeral"}


def translated(**more: Any) -> Json:
    given_body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], **more}
    _, body = parse.messages(msgspec.json.encode(given_body))
    return chat_body(body)


def said(*messages: Json) -> list[Json]:
    found: list[Json] = translated(messages=list(messages))["messages"]
    return found


def user(*blocks: Json) -> Json:
    return {"role": "user", "content": list(blocks)}


def test_the_smallest_request() -> None:
    assert translated() == {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("Be brief.", "Be brief."),
        ([{"type": "text", "text": "Be brief."}], "Be brief."),
        ([{"type": "text", "text": "A"}, {"type": "text", "text": "B"}], [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]),
        ([{"type": "text", "text": "A", "cache_control": MARK}], [{"type": "text", "text": "A", "cache_control": MARK}]),
    ],
)
def test_system(system: Any, expected: Any) -> None:
    assert translated(system=system)["messages"][0] == {"role": "system", "content": expected}


def test_an_empty_system_is_none() -> None:
    assert translated(system=[]) == translated(system=None) == translated()


def test_a_system_message_inside_the_conversation_stays_where_it_is() -> None:
    found = said({"role": "user", "content": "Hi"}, {"role": "system", "content": [{"type": "text", "text": "Now in French."}]})
    assert found[1] == {"role": "system", "content": "Now in French."}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "image", "source": PIXEL}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
            {"type": "image_url", "image_url": {"url": "https://x/a.png"}},
        ),
        (
            {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "Body"}},
            {"type": "text", "text": "T\n\nBody"},
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
            {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
        ),
        ({"type": "document", "source": {"type": "content", "content": "Just text"}}, {"type": "text", "text": "Just text"}),
        (
            {"type": "search_result", "source": "https://x", "title": "T", "content": [{"type": "text", "text": "A"}]},
            {"type": "text", "text": "T\nhttps://x\n\nA"},
        ),
        ({"type": "text", "text": "A", "cache_control": MARK}, {"type": "text", "text": "A", "cache_control": MARK}),
    ],
    ids=lambda value: value.get("type"),
)
def test_blocks_become_parts(block: Json, expected: Json) -> None:
    (message,) = said(user(block, {"type": "text", "text": "What is it?"}))
    assert message == {"role": "user", "content": [expected, {"type": "text", "text": "What is it?"}]}


def test_a_single_text_block_asks_the_same_question_as_a_string() -> None:
    assert said(user({"type": "text", "text": "Hi"})) == said({"role": "user", "content": "Hi"})


def test_tool_results_come_before_what_else_the_user_says() -> None:
    found = said(
        user(
            {"type": "text", "text": "and now?"},
            {"type": "tool_result", "tool_use_id": "a", "content": "1"},
            {"type": "tool_result", "tool_use_id": "b", "is_error": True},
            {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "see"}, {"type": "image", "source": PIXEL}]},
        )
    )
    assert [message["role"] for message in found] == ["tool", "tool", "tool", "user"]
    assert found[0] == {"role": "tool", "tool_call_id": "a", "content": "1"}
    assert found[1] == {"role": "tool", "tool_call_id": "b", "content": "", "is_error": True}
    assert [part["type"] for part in found[2]["content"]] == ["text", "image_url"]
    assert found[3]["content"] == "and now?"


def test_an_assistants_turn_becomes_text_calls_and_thoughts() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    blocks = [
        thought,
        {"type": "text", "text": "Let me "},
        {"type": "text", "text": "look."},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Bonn"}},
    ]
    (message,) = said({"role": "assistant", "content": blocks})
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bonn"}'}}
    assert message == {"role": "assistant", "content": "Let me look.", "tool_calls": [call], "thinking_blocks": [thought]}


def test_an_assistant_that_only_calls_has_no_text() -> None:
    (message,) = said({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "t", "input": {}}]})
    assert message["content"] is None


def test_tools() -> None:
    schema = {"type": "object", "properties": {}}
    tool = {"name": "t", "description": "d", "input_schema": schema, "cache_control": MARK, "type": "custom"}
    function = {"name": "t", "parameters": schema, "description": "d"}
    assert translated(tools=[tool])["tools"] == [{"type": "function", "function": function, "cache_control": MARK}]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "t"}, {"tool_choice": {"type": "function", "function": {"name": "t"}}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
        ({"type": "auto", "disable_parallel_tool_use": False}, {"tool_choice": "auto"}),
    ],
)
def test_tool_choice(choice: Json, expected: Json) -> None:
    assert translated(tool_choice=choice) == {**translated(), **expected}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"stop_sequences": ["END"]}, {"stop": ["END"]}),
        ({"stop_sequences": []}, {}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"metadata": {"user_id": None}}, {}),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 3}, {"temperature": 0.5, "top_p": 0.9, "top_k": 3}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ({"output_config": {"effort": "low"}}, {"output_config": {"effort": "low"}}),
        ({"x_vendor": [1], "cache_control": MARK}, {"x_vendor": [1], "cache_control": MARK}),
        ({"farthing": {"cache": "off"}}, {"farthing": {"cache": "off"}}),
        ({"stream": True}, {}),
    ],
    ids=str,
)
def test_fields(field: Json, expected: Json) -> None:
    assert translated(**field) == {**translated(), **expected}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"], "additionalProperties": False}, False),
        ({"anyOf": [{"type": "object", "properties": {"a": {}}}, {"type": "null"}]}, False),
    ],
)
def test_a_schema_is_strict_where_openais_strict_mode_takes_it(schema: Json, *, strict: bool) -> None:
    found = translated(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert found["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}
    assert "output_config" not in found


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [user({"type": "image"})]}, "messages[0].content[0].source"),
        ({"messages": [user({"type": "image", "source": "x"})]}, "messages[0].content[0].source"),
        ({"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]}, "messages[0].content[0]"),
        ({"messages": [user({"type": "image", "source": {"type": "base64", "data": 3}})]}, "messages[0].content[0].source.media_type"),
        ({"messages": [user({"type": "image", "source": {"type": "url", "url": 3}})]}, "messages[0].content[0].source.url"),
        ({"messages": [user({"type": "document", "source": {"type": "url", "url": "https://x"}})]}, "messages[0].content[0]"),
        ({"messages": [user({"type": "document", "source": {"type": "content", "content": 3}})]}, "messages[0].content[0].source.content"),
        (
            {"messages": [user({"type": "document", "source": {"type": "content", "content": [3]}})]},
            "messages[0].content[0].source.content[0]",
        ),
        ({"messages": [user({"type": "tool_result", "content": "x"})]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [user({"type": "tool_result", "tool_use_id": "a", "content": [{}]})]}, "messages[0].content[0].content[0]"),
        ({"messages": [user({"type": "tool_use", "id": "a", "name": "t", "input": {}})]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "image", "source": PIXEL}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "a"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "t"}]}]}, "messages[0].content[0].input"),
        ({"system": [{"type": "image", "source": PIXEL}]}, "system[0]"),
        ({"tools": [{"name": "t"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "web_search", "type": "web_search_20250305"}]}, "tools[0]"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "sometimes"}}, "tool_choice.type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_by_its_place(more: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translated(**more)
    assert caught.value.param == param
    assert len(caught.value.message) < 1500


def test_max_tokens_is_required() -> None:
    with pytest.raises(InvalidRequest, match="max_tokens is missing"):
        parse.messages(b'{"model": "m", "messages": []}')


_texts = st.text(max_size=8)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
)
_blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "document", "search_result", "tool_use", "tool_result", "thinking", "x"])},
    optional={
        "text": _texts,
        "source": st.dictionaries(st.sampled_from(["type", "data", "url", "media_type", "content"]), _json, max_size=4) | _texts,
        "content": _texts | st.lists(st.dictionaries(st.sampled_from(["type", "text"]), _json, max_size=2), max_size=3),
        "title": _texts,
        "id": _texts,
        "name": _texts,
        "tool_use_id": _texts,
        "input": st.dictionaries(_texts, _json, max_size=2),
        "cache_control": st.just(MARK),
    },
)
_messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": _texts | st.lists(_blocks, min_size=1, max_size=4)}
    ),
    max_size=4,
)


@given(_messages)
def test_whatever_has_the_right_types_is_translated_or_refused_by_name(messages: list[Json]) -> None:
    """And what comes out is a chat request that our own chat door takes."""
    try:
        found = translated(messages=messages)
    except InvalidRequest as error:
        assert error.param  # noqa: PT017 - either end is good
        return
    parse.chat(msgspec.json.encode(found))


@given(st.dictionaries(_texts, _json, max_size=4))
def test_a_tools_input_survives(given_input: Json) -> None:
    (message,) = said({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "t", "input": given_input}]})
    assert msgspec.json.decode(message["tool_calls"][0]["function"]["arguments"]) == given_input
