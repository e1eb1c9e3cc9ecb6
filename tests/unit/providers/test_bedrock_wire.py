from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import InvalidRequest
from farthing.pipeline.stream import Fold
from farthing.providers.bedrock import endpoint_of, model_id
from farthing.providers.bedrock_answers import MALFORMED, REASONS, Reader, completion, usage
from farthing.providers.bedrock_wire import converse
from farthing.types import Json, Usage

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PIXEL = base64.b64encode(b"\x89PNG not quite").decode()
MODEL = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"), "bedrock-runtime")


def asked(*messages: Json, model: str = CLAUDE, **more: Any) -> Json:
    """The request in Converse's words, seen to be what AWS's own model of it allows."""
    body = converse(model, {"messages": list(messages) or [{"role": "user", "content": "Hi"}], **more})
    report = ParamValidator().validate(_with_bytes({**body, "modelId": model}), MODEL.operation_model("Converse").input_shape)
    assert not report.has_errors(), report.generate_report()
    return body


def _with_bytes(value: Any) -> Any:
    """botocore wants bytes where the wire has base64."""
    if isinstance(value, dict):
        return {key: base64.b64decode(one) if key in {"bytes", "redactedContent"} else _with_bytes(one) for key, one in value.items()}
    return [_with_bytes(one) for one in value] if isinstance(value, list) else value


def blocks(*messages: Json) -> list[Json]:
    found = asked(*messages)["messages"]
    return [block for message in found for block in message["content"]]


def refused(*messages: Any, **more: Any) -> str | None:
    """The field that is complained of."""
    with pytest.raises(InvalidRequest) as caught:
        converse(CLAUDE, {"messages": list(messages) or [{"role": "user", "content": "Hi"}]} | more)
    return caught.value.param


def user(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def text(words: str, **more: Any) -> Json:
    return {"type": "text", "text": words, **more}


# Requests


def test_messages_of_one_side_become_one() -> None:
    body = asked(
        {"role": "system", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "developer", "content": "c"},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e"},
        {"role": "assistant", "content": "f"},
    )
    assert body["system"] == [{"text": "a"}, {"text": "c"}]
    assert [(one["role"], [block["text"] for block in one["content"]]) for one in body["messages"]] == [
        ("user", ["b", "d"]),
        ("assistant", ["e", "f"]),
    ]


def test_results_of_several_tools_and_the_next_words_are_one_message() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    body = asked(
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "c2", "function": {"name": "g", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "", "is_error": True},
        {"role": "user", "content": "so?"},
    )
    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"][1] == {"toolUse": {"toolUseId": "c2", "name": "g", "input": {}}}
    results = body["messages"][2]["content"]
    assert results[0] == {"toolResult": {"toolUseId": "c1", "content": [{"text": "one"}]}}
    assert results[1] == {"toolResult": {"toolUseId": "c2", "content": [], "status": "error"}}
    assert results[2] == {"text": "so?"}


def test_empty_texts_are_left_out_because_converse_refuses_them() -> None:
    assert blocks(user(text(""), text("x")), {"role": "assistant", "content": ""}, user(text("y"))) == [{"text": "x"}, {"text": "y"}]


def test_nothing_to_say_is_an_error_of_the_caller() -> None:
    assert refused({"role": "system", "content": "be"}, {"role": "user", "content": ""}) == "messages"


def test_images_and_documents_go_along_in_base64() -> None:
    pdf = {"filename": "Q3_report (final).pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"}
    found = blocks(user({"type": "image_url", "image_url": {"url": f"data:image/JPEG;base64,{PIXEL}"}}, {"type": "file", "file": pdf}))
    assert found[0] == {"image": {"format": "jpeg", "source": {"bytes": PIXEL}}}
    assert found[1] == {"document": {"format": "pdf", "name": "Q3-report (final)-pdf", "source": {"bytes": PIXEL}}}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": f"data:image/tiff;base64,{PIXEL}"}},
        {"type": "image_url", "image_url": 7},
        {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "nonsense"},
        {},
    ],
)
def test_a_part_that_converse_cannot_have_is_named(part: Json) -> None:
    assert str(refused(user(text("a"), part))).startswith("messages[0].content[1]")


def test_cache_control_becomes_a_cache_point_behind_what_it_marks() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}, **mark}
    body = asked({"role": "system", "content": [text("s", **hour)]}, user(text("a", **mark), text("b")), tools=[tool])
    assert body["system"] == [{"text": "s"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert body["messages"][0]["content"] == [{"text": "a"}, {"cachePoint": {"type": "default"}}, {"text": "b"}]
    assert body["toolConfig"]["tools"][1] == {"cachePoint": {"type": "default"}}


def test_thinking_goes_back_as_it_came() -> None:
    thoughts = [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "eHl6"}]
    found = blocks(
        {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "hm", "thinking_blocks": thoughts}
    )
    assert found[1:] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "eHl6"}},
        {"text": "a"},
    ]


def test_what_only_the_model_knows_is_handed_on_to_it() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    body = asked(top_k=5, thinking=thinking, additionalModelRequestFields={"top_a": 1}, user="me", seed=7, metadata={"a": "b"})
    assert body["additionalModelRequestFields"] == {"top_k": 5, "thinking": thinking, "top_a": 1}


def test_fields_without_a_counterpart_are_left_out() -> None:
    body = asked(stream=True, stream_options={}, frequency_penalty=0.5, n=1, logprobs=False, modalities=["text"], parallel_tool_calls=True)
    assert body == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}),
        ("functions", [{"name": "f"}]),
        ("web_search_options", {}),
        ("tool_choice", "sometimes"),
        ("response_format", "json"),
        ("additionalModelRequestFields", 1),
    ],
)
def test_what_the_caller_would_miss_is_refused_by_name(field: str, value: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert refused(tools=tools, **{field: value}) == field


@pytest.mark.parametrize("at", [{"type": "json_object"}, {"type": "grammar"}])
def test_a_form_of_answer_that_bedrock_has_not_is_refused(at: Json) -> None:
    assert refused(response_format=at) == "response_format.type"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (CLAUDE, {"outputConfig": {"effort": "high"}}),
        ("openai.gpt-oss-20b-1:0", {"additionalModelRequestFields": {"reasoning_effort": "high"}}),
    ],
)
def test_the_effort_of_thinking_is_said_as_the_model_takes_it(model: str, expected: Json) -> None:
    body = asked(model=model, reasoning_effort="high")
    del body["messages"]
    assert body == expected


def test_none_for_the_effort_is_no_effort_field() -> None:
    assert "outputConfig" not in asked(reasoning_effort="none")


def test_tools_without_parameters_and_with_a_strict_schema_are_valid() -> None:
    tools = [
        {"type": "function", "function": {"name": "a", "description": "", "parameters": None}},
        {"type": "function", "function": {"name": "b", "description": "does b", "strict": True, "parameters": {"type": "object"}}},
    ]
    a, b = (tool["toolSpec"] for tool in asked(tools=tools)["toolConfig"]["tools"])
    assert a == {"name": "a", "inputSchema": {"json": {"type": "object", "properties": {}}}}
    assert (b["description"], b["strict"]) == ("does b", True)


@pytest.mark.parametrize(
    "call", [{"id": "c", "function": {"name": "f", "arguments": "{"}}, {"id": "c", "function": {"name": "f", "arguments": "[]"}}, 7]
)
def test_calls_in_the_history_whose_arguments_are_no_object_are_named(call: Any) -> None:
    assert str(refused({"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call]})).startswith(
        "messages[1].tool_calls[0]"
    )


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": ["user"], "content": "a"}, "messages[0].role"),
        ({"role": {}, "content": "a"}, "messages[0].role"),
        ({"role": "user", "content": 7}, "messages[0].content"),
        ({"role": "user", "content": [{"type": []}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "cache_control": 1}]}, "messages[0].content[0].cache_control"),
        ({"role": "assistant", "tool_calls": 7}, "messages[0].tool_calls"),
        ({"role": "assistant", "thinking_blocks": {"type": "thinking"}}, "messages[0].thinking_blocks"),
        ("Hi", "messages[0]"),
    ],
)
def test_a_message_of_another_shape_is_refused_by_field(message: Any, field: str) -> None:
    assert refused(message) == field


@pytest.mark.parametrize("field", ["messages", "tools", "stop"])
def test_a_field_that_is_no_list_is_refused_by_name(field: str) -> None:
    assert refused(**{field: {"a": 1}}) == field


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda some: (
        st.lists(some, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "role", "content", "function", "image_url", "x"]), some)
    ),
    max_leaves=12,
)


@given(st.lists(JSONS, max_size=3), JSONS, JSONS, JSONS)
def test_whatever_the_caller_sends_is_translated_or_refused(messages: list[Any], tools: Any, choice: Any, form: Any) -> None:
    body = {"messages": messages, "tools": tools if isinstance(tools, list) else [tools], "tool_choice": choice, "response_format": form}
    with suppress(InvalidRequest):
        msgspec.json.encode(converse(CLAUDE, body))


# Answers


def whole(*content: Json, stop: str = "end_turn", counted: Any = None) -> Json:
    body = {"output": {"message": {"role": "assistant", "content": list(content)}}, "stopReason": stop, "usage": counted}
    return completion("up", CLAUDE, msgspec.json.encode(body))


@pytest.mark.parametrize("reason", [one for one in MODEL.shape_for("StopReason").enum if one not in MALFORMED])
def test_every_reason_of_the_end_that_aws_lists_has_a_meaning(reason: str) -> None:
    assert reason in REASONS
    assert whole({"text": "a"}, stop=reason)["choices"][0]["finish_reason"] == REASONS[reason]


def test_thinking_is_text_and_signed_blocks() -> None:
    thought = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}}
    message = whole(thought, {"reasoningContent": {"redactedContent": "eHl6"}}, {"text": "a"})["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("a", "hm")
    assert message["thinking_blocks"] == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eHl6"},
    ]


def test_usage_counts_what_the_prompt_cache_did_as_input() -> None:
    counted = usage({"inputTokens": 10, "outputTokens": 5, "totalTokens": 2315, "cacheReadInputTokens": 2000, "cacheWriteInputTokens": 300})
    assert Usage.of(counted) == Usage(input=2310, output=5, cache_read=2000, cache_write=300, source="provider")


def test_what_the_prompt_cache_keeps_for_an_hour_is_told_apart() -> None:
    details = [{"ttl": "1h", "inputTokens": 100}, {"ttl": "5m", "inputTokens": 200}, "odd"]
    counted = usage({"inputTokens": 10, "outputTokens": 5, "cacheWriteInputTokens": 300, "cacheDetails": details})
    assert Usage.of(counted) == Usage(input=310, output=5, cache_write=300, cache_write_1h=100, source="provider")


@pytest.mark.parametrize("raw", [None, {}, {"inputTokens": "7"}, [], {"outputTokens": 1}])
def test_usage_that_is_none_is_left_to_be_estimated(raw: Any) -> None:
    assert usage(raw) is None


def test_a_function_without_parameters_is_called_with_an_object() -> None:
    reader = Reader("up", CLAUDE)
    fold = Fold()
    events: list[tuple[str, Json]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}),
        ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": ""}}}),
        ("contentBlockStop", {"contentBlockIndex": 3}),
        ("somethingNew", {"contentBlockIndex": 9}),
        ("messageStop", {"stopReason": "tool_use"}),
    ]
    for kind, fields in events:
        for chunk, _ in reader.read(kind, msgspec.json.encode(fields)):
            assert chunk is not None
            fold.add(chunk)
    (call,) = fold.body(None)["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}


# Names


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        (f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{CLAUDE}", CLAUDE),
    ],
)
def test_an_arn_is_priced_as_the_model_in_it(model: str, expected: str) -> None:
    assert model_id(model) == expected


def test_china_has_endpoints_of_its_own() -> None:
    assert endpoint_of("eu-central-1") == "https://bedrock-runtime.eu-central-1.amazonaws.com"
    assert endpoint_of("cn-north-1") == "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"
