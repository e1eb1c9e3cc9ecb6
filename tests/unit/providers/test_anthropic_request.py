from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import InvalidRequest
from farthing.providers.anthropic_request import messages_request
from farthing.types import Json

OLD, NEW = "claude-sonnet-4-5", "claude-opus-5"
MARK = {"type": "ephemeral", "ttl": "1h"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def asked(model: str = OLD, **body: Any) -> Json:
    return messages_request({"messages": [{"role": "user", "content": "Hi"}], **body}, model, max_tokens=4096)


def turns(*messages: Json) -> list[Json]:
    found: list[Json] = asked(messages=list(messages))["messages"]
    return found


def text(said: str, **more: Any) -> Json:
    return {"type": "text", "text": said, **more}


def called(arguments: str) -> Json:
    return {**CALL, "function": {"name": "f", "arguments": arguments}}


# The conversation


def test_the_least_request_has_what_anthropic_requires_and_nothing_else() -> None:
    assert asked() == {"model": OLD, "max_tokens": 4096, "messages": [{"role": "user", "content": [text("Hi")]}]}


def test_every_system_message_becomes_part_of_the_system_prompt() -> None:
    body = asked(
        messages=[
            {"role": "system", "content": [text("Be brief.", cache_control=MARK)]},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": "Be kind."},
        ]
    )
    assert body["system"] == [text("Be brief.", cache_control=MARK), text("Be kind.")]
    assert [one["role"] for one in body["messages"]] == ["user"]


def test_neighbours_of_the_same_role_become_one_message() -> None:
    found = turns(
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "e"},
    )
    assert found == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
        {"role": "user", "content": [text("e")]},
    ]


def test_results_of_one_turns_tools_and_what_the_user_adds_are_one_message_with_the_results_first() -> None:
    calls = [CALL, {**CALL, "id": "call.2"}]
    found = turns(
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        {"role": "tool", "tool_call_id": "call.2", "content": "", "is_error": True},
        {"role": "user", "content": "and?"},
    )
    assert found[1]["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {}},
        {"type": "tool_use", "id": "call_2", "name": "f", "input": {}},
    ]
    assert found[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": [text("one")]},
        {"type": "tool_result", "tool_use_id": "call_2", "is_error": True},
        text("and?"),
    ]


def test_thinking_goes_back_as_it_came_before_the_text_and_the_calls() -> None:
    thoughts = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    found = turns(
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "I go.", "reasoning_content": "hm", "thinking_blocks": thoughts, "tool_calls": [CALL]},
    )
    assert found[1]["content"] == [*thoughts, text("I go."), {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}]


def test_marks_for_the_prompt_cache_stay_where_they_are() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}, "cache_control": MARK}
    body = asked(
        messages=[
            {"role": "system", "content": "Long.", "cache_control": MARK},
            {"role": "user", "content": [text("a"), picture]},
            {"role": "assistant", "content": None, "tool_calls": [{**CALL, "cache_control": MARK}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "r", "cache_control": MARK},
        ],
        tools=[{**TOOL, "cache_control": MARK}],
    )
    assert body["system"] == [text("Long.", cache_control=MARK)]
    assert body["messages"][0]["content"][1] == {
        "type": "image",
        "source": {"type": "url", "url": "https://x.example/a.png"},
        "cache_control": MARK,
    }
    assert body["messages"][1]["content"][0]["cache_control"] == MARK
    assert body["messages"][2]["content"][0]["cache_control"] == MARK
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}, "cache_control": MARK}]


def test_documents_and_anthropics_own_blocks_are_handed_on() -> None:
    own = {"type": "search_result", "source": "s", "title": "t", "content": [text("x")]}
    parts = [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}}, own]
    content = turns({"role": "user", "content": parts})[0]["content"]
    source = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}
    assert content == [{"type": "document", "source": source, "title": "a.pdf"}, own]


@pytest.mark.parametrize("empty", ["", [], [{"type": "text", "text": ""}], None])
def test_messages_that_say_nothing_are_left_out(empty: Any) -> None:
    found = turns({"role": "user", "content": "a"}, {"role": "assistant", "content": empty}, {"role": "user", "content": "b"})
    assert found == [{"role": "user", "content": [text("a"), text("b")]}]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "name": "f", "content": "x"}, "messages[1].role"),
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "assistant", "tool_calls": [called("{")]}, "messages[1].tool_calls[0].function.arguments"),
        ({"role": "assistant", "tool_calls": [called("[1]")]}, "messages[1].tool_calls[0].function.arguments"),
        ({"role": "assistant", "tool_calls": [{"id": "x", "type": "custom"}]}, "messages[1].tool_calls[0]"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "/etc"}}]}, "messages[1].content[0].image_url.url"),
        ({"role": "assistant", "content": "x", "thinking_blocks": "hm"}, "messages[1].thinking_blocks"),
        ({"role": "assistant", "content": "x", "thinking_blocks": ["hm"]}, "messages[1].thinking_blocks"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[1].content[0].image_url.url"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[1].content[0].file.file_data"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_by_its_place(message: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        turns({"role": "user", "content": "a"}, message)
    assert caught.value.param == param
    assert param in caught.value.message


# Parameters


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2), ("logprobs", True), ("top_logprobs", 3), ("functions", [{"name": "f"}]), ("function_call", "auto"),
        ("audio", {"voice": "x"}), ("modalities", ["text", "audio"]), ("web_search_options", {"search_context_size": "low"}),
        ("tool_choice", "any"), ("tool_choice", {"type": "allowed_tools"}), ("reasoning_effort", "huge"),
        ("thinking", "yes"), ("thinking", [1]), ("output_config", "low"),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}),
    ],
)  # fmt: skip
def test_what_would_change_the_answers_form_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(**{"tools": [TOOL], field: value})
    assert caught.value.message.startswith(field)


def test_what_only_tunes_an_answer_is_left_out() -> None:
    tuning: Json = {
        "n": 1, "logprobs": False, "frequency_penalty": 1, "presence_penalty": 1, "seed": 7, "logit_bias": {"5": 1}, "verbosity": "low",
        "store": True, "prediction": {"type": "content"}, "prompt_cache_key": "k", "stream": True,
        "stream_options": {"include_usage": True},
        "parallel_tool_calls": False, "modalities": ["text"],
        "user": "someone@example.com", "metadata": {"a": "b"},
    }  # fmt: skip
    assert asked(**tuning) == asked()


def test_what_is_anthropics_own_is_handed_on() -> None:
    own: Json = {"top_k": 5, "container": "c", "thinking": {"type": "between_tools"}, "cache_control": MARK, "some_day": [1]}
    assert asked(**own) == {**asked(), **own}


@pytest.mark.parametrize(("model", "sent"), [(OLD, 1.0), ("claude-opus-4-6", 1.0), (NEW, None), ("anthropic/claude-haiku-5-5", None)])
def test_temperature_is_cut_to_anthropics_range_and_kept_from_models_that_refuse_it(model: str, sent: float | None) -> None:
    assert asked(model, temperature=1.7).get("temperature") == sent
    assert asked(OLD, temperature=0.2, top_p=0.9).items() >= {"temperature": 0.2, "top_p": 0.9}.items()


@pytest.mark.parametrize(
    ("given_", "user"),
    [
        ({"metadata": {"user_id": "m"}, "user": "u"}, "m"),
        ({"safety_identifier": "s", "user": "u"}, "s"),
        ({"user": "u-1"}, "u-1"),
        ({"user": "someone@example.com"}, None),
        ({"user": "+49 30 1234567"}, None),
        ({"user": "x" * 257}, None),
        ({"user": ""}, None),
    ],
)
def test_a_users_id_is_handed_on_unless_it_is_personal(given_: Json, user: str | None) -> None:
    assert asked(**given_).get("metadata") == ({"user_id": user} if user else None)


def test_tools_are_translated_and_anthropics_own_handed_on() -> None:
    own = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    strict = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}
    function = {"name": "g", "description": "d", "strict": True, "parameters": strict}
    tools = asked(tools=[{"type": "function", "function": function}, {"type": "function", "function": {"name": "bare"}}, own])["tools"]
    properties = {"a": {"type": "integer", "description": '{"minimum":1}'}}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    assert tools[0] == {"name": "g", "description": "d", "strict": True, "input_schema": schema}
    assert tools[1:] == [{"name": "bare", "input_schema": {"type": "object", "properties": {}}}, own]


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"tool_choice": {"type": "any"}}, {"type": "any"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": False, "tool_choice": "none"}, {"type": "none"}),
        ({"parallel_tool_calls": True, "tool_choice": "required"}, {"type": "any"}),
    ],
)
def test_the_choice_among_tools_is_translated(given_: Json, sent: Json | None) -> None:
    assert asked(tools=[TOOL], **given_).get("tool_choice") == sent
    assert "tool_choice" not in asked(**given_), "without tools there is nothing to choose"


def test_a_schema_goes_beside_what_else_the_output_is_to_be() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}}
    body = asked(response_format=form, output_config={"effort": "low"})
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    body = asked(response_format={"type": "json_object"}, messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])
    assert body["system"][0] == text("s")
    assert "JSON object" in body["system"][1]["text"]
    assert "system" not in asked(response_format={"type": "text"})


# Limits and thinking


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        ({}, 4096),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8, "max_tokens": 7}, 8),
        ({"max_tokens": None}, 4096),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, 11_024),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}, "max_tokens": 5}, 5),
        ({"thinking": {"type": "adaptive"}}, 4096),
    ],
)
def test_a_limit_is_always_sent_and_leaves_room_for_the_thinking(given_: Json, sent: int) -> None:
    assert asked(**given_)["max_tokens"] == sent


@pytest.mark.parametrize(
    ("effort", "limit", "budget", "sent"),
    [
        ("minimal", None, 1024, 4096),
        ("low", None, 2048, 4096),
        ("medium", None, 8192, 9216),
        ("high", None, 24_576, 25_600),
        ("high", 10_000, 5000, 10_000),
        ("low", 2000, None, 2000),
        ("none", None, None, 4096),
    ],
)
def test_an_effort_becomes_a_budget_within_the_callers_limit(effort: str, limit: int | None, budget: int | None, sent: int) -> None:
    body = asked(reasoning_effort=effort, max_tokens=limit)
    assert body.get("thinking") == ({"type": "enabled", "budget_tokens": budget} if budget else None)
    assert body["max_tokens"] == sent
    assert budget is None or budget < body["max_tokens"]


@pytest.mark.parametrize(("effort", "sent"), [("minimal", "low"), ("medium", "medium"), ("xhigh", "xhigh")])
def test_newer_models_decide_themselves_guided_by_the_effort(effort: str, sent: str) -> None:
    body = asked(NEW, reasoning_effort=effort)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": sent}
    assert asked(NEW, reasoning_effort="none")["thinking"] == {"type": "disabled"}
    assert asked(NEW, reasoning_effort="low", output_config={"effort": "max"})["output_config"] == {"effort": "max"}


@pytest.mark.parametrize(
    ("model", "budgets"),
    [
        ("claude-3-7-sonnet-latest", True), ("claude-opus-4-20250514", True), ("claude-opus-4-1", True), ("claude-sonnet-4-0", True),
        ("claude-haiku-4-5-20251001", True), ("claude-opus-4@20250514", True), ("anthropic.claude-sonnet-4-5-20250929-v1:0", True),
        ("claude-opus-4", True), ("claude-opus-4-6", False), ("claude-opus-4-6-20260205", False), ("claude-opus-4-7", False),
        ("claude-sonnet-5", False), ("claude-opus-5-5", False), ("claude-mythos-preview", False), ("claude-opus-4-10", False),
        ("something-of-tomorrow", False),
    ],
)  # fmt: skip
def test_which_models_think_by_a_budget(model: str, budgets: bool) -> None:  # noqa: FBT001 - pytest hands it in
    assert asked(model, reasoning_effort="low")["thinking"]["type"] == ("enabled" if budgets else "adaptive")


def test_the_callers_own_thinking_counts_before_the_effort() -> None:
    own = {"type": "disabled"}
    assert asked(thinking=own, reasoning_effort="high")["thinking"] == own


def test_an_effort_gives_way_to_what_thinking_would_make_impossible() -> None:
    assert "thinking" not in asked(reasoning_effort="high", tools=[TOOL], tool_choice="required")
    history: list[Json] = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "r"},
    ]
    assert "thinking" not in asked(reasoning_effort="high", tools=[TOOL], messages=history)
    history[1]["thinking_blocks"] = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    assert "thinking" in asked(reasoning_effort="high", tools=[TOOL], messages=history)
    later = [*history, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    assert "thinking" in asked(reasoning_effort="high", messages=later)
    assert "temperature" not in asked(reasoning_effort="low", temperature=0), "Anthropic refuses both together"


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "tool_call_id": st.just("c")},
            optional={"content": st.text(max_size=3) | st.lists(st.builds(text, st.text(max_size=3)), max_size=3)},
        ),
        max_size=8,
    ),
)
def test_turns_alternate_and_nothing_of_the_callers_is_changed(messages: list[Json]) -> None:
    body = {"messages": messages}
    before = copy.deepcopy(body)
    found = messages_request(body, OLD, max_tokens=5)
    assert body == before
    roles = [one["role"] for one in found["messages"]]
    assert all(one != two for one, two in pairwise(roles))
    assert all(one["content"] for one in found["messages"])
    msgspec.json.encode(found)
