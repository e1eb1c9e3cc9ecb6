from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any, get_args

import msgspec
import pytest
from anthropic.types.shared import ErrorType
from anthropic.types.stop_reason import StopReason
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import (
    UpstreamError,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRefusedUs,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.pipeline.stream import Fold
from farthing.providers.anthropic_stream import MessageReader
from farthing.providers.anthropic_wire import ERROR_TYPES, FINISH_REASONS, completion, error_of, usage_of
from farthing.testing.anthropic import error_body, events, message, usage_object
from farthing.types import Json, Usage

encode = msgspec.json.encode


def whole(*texts: str, **more: Any) -> Json:
    return completion("up", message(texts, **more).payload())


def choice(body: Json) -> Json:
    found: Json = body["choices"][0]
    return found


def read(*given: Json) -> tuple[Json, list[Json]]:
    """The folded answer of these events, and the usages on the way."""
    reader, fold, usages = MessageReader("up"), Fold(), []
    for event in given:
        for chunk, usage in reader.read(encode(event)):
            if chunk is not None:
                fold.add(chunk)
            if usage is not None:
                usages.append(usage)
    return fold.body(usages[-1] if usages else None), usages


# Tables


def test_every_stop_reason_of_anthropics_has_a_finish_reason() -> None:
    assert set(FINISH_REASONS) == set(get_args(StopReason))


def test_every_error_type_of_anthropics_has_a_meaning() -> None:
    assert set(get_args(ErrorType)) <= set(ERROR_TYPES)


# Answers


@pytest.mark.parametrize(("reason", "finish"), [*FINISH_REASONS.items(), ("of_tomorrow", "stop")])
def test_the_reason_of_the_end_is_translated(reason: str, finish: str) -> None:
    assert choice(whole("Hi", stop_reason=reason))["finish_reason"] == finish
    assert choice(read(*events(["Hi"], reason=reason))[0])["finish_reason"] == finish


def test_the_stop_sequence_that_ended_an_answer_is_told() -> None:
    assert choice(whole("Hi", stop_reason="stop_sequence", stop_sequence="END"))["stop_sequence"] == "END"
    parts = list(events(["Hi"]))
    parts[-2]["delta"] = {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert choice(read(*parts)[0])["stop_sequence"] == "END"
    assert "stop_sequence" not in choice(whole("Hi"))


@pytest.mark.parametrize(("details", "said"), [({"type": "refusal", "explanation": "No."}, "No."), (None, "The model declined to answer.")])
def test_a_refusal_is_openais(details: Json | None, said: str) -> None:
    parts = list(events(["I"]))
    parts[-2]["delta"] = {"stop_reason": "refusal", "stop_details": details}
    for body in (whole("I", stop_reason="refusal", stop_details=details), read(*parts)[0]):
        assert (choice(body)["message"]["refusal"], choice(body)["finish_reason"]) == (said, "content_filter")


def test_thinking_comes_readable_and_signed() -> None:
    for body in (whole("Hi", thinking=["a", "b"]), read(*events(["Hi"], thinking=["a", "b"]))[0]):
        said = choice(body)["message"]
        assert said["reasoning_content"] == "ab"
        assert said["thinking_blocks"] == [{"type": "thinking", "thinking": "ab", "signature": "c2lnbmVk"}]


def test_thinking_that_is_not_shown_keeps_its_signature() -> None:
    blocks = [
        {"type": "thinking", "thinking": "", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Hi"},
    ]
    starts = [{"type": "thinking", "thinking": "", "signature": ""}, blocks[1], {"type": "text", "text": ""}]
    deltas = [{"type": "signature_delta", "signature": "s"}, None, {"type": "text_delta", "text": "Hi"}]
    begun, ended = list(events([]))[:1], list(events([]))[-2:]
    inner: list[Json] = []
    for at, (start, delta) in enumerate(zip(starts, deltas, strict=True)):
        inner.append({"type": "content_block_start", "index": at, "content_block": start})
        inner += [{"type": "content_block_delta", "index": at, "delta": delta}] if delta else []
        inner.append({"type": "content_block_stop", "index": at})
    for body in (whole(content=blocks), read(*begun, *inner, *ended)[0]):
        said = choice(body)["message"]
        assert said["thinking_blocks"] == blocks[:2]
        assert "reasoning_content" not in said
        assert said["content"] == "Hi"


def test_what_anthropics_servers_did_themselves_is_left_out() -> None:
    used = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    body = whole(content=[used, {"type": "web_search_tool_result", "content": []}, {"type": "text", "text": "Found."}])
    assert choice(body)["message"] == {"role": "assistant", "content": "Found.", "refusal": None}
    begun, *rest = events(["Found."])
    inner = [
        {"type": "content_block_start", "index": 0, "content_block": {**used, "input": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"query": "q"}'}},
        {"type": "content_block_stop", "index": 0},
    ]
    assert choice(read(begun, *inner, *rest)[0])["message"] == {"role": "assistant", "content": "Found.", "refusal": None}


def test_an_answer_without_words_is_empty_not_missing() -> None:
    for body in (whole(content=[]), read(*events([]))[0]):
        assert choice(body)["message"]["content"] == ""


def test_events_of_tomorrow_and_pings_are_passed_over() -> None:
    parts = list(events(["Hi"]))
    odd: list[Json] = [{"type": "ping"}, {"type": "hologram", "data": 7}]
    more = {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}}
    mixed = [*parts[:3], *odd, more, *parts[3:], *odd]
    assert choice(read(*mixed)[0])["message"]["content"] == "Hi"


# Usage


def test_the_prompt_includes_what_the_cache_was_read_and_written_for() -> None:
    usage = usage_of(usage_object(10, 40, read=2000, written=300, hour=100, thinking=30))
    assert usage == {
        "prompt_tokens": 2310,
        "completion_tokens": 40,
        "total_tokens": 2350,
        "prompt_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 300, "cache_write_1h_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    expected = Usage(input=2310, output=40, cache_read=2000, cache_write=300, cache_write_1h=100, reasoning=30, source="provider")
    assert Usage.of(usage) == expected


@pytest.mark.parametrize(
    "raw", [{}, {"input_tokens": 1}, {"input_tokens": "9", "output_tokens": 1}, {"input_tokens": True, "output_tokens": 1}]
)
def test_a_usage_without_counts_is_none(raw: Json) -> None:
    assert usage_of(raw) is None


def test_counts_that_lie_stay_within_bounds() -> None:
    raw: Json = {"input_tokens": -5, "output_tokens": 2, "cache_read_input_tokens": None, "cache_creation_input_tokens": "x"}
    raw |= {"cache_creation": {"ephemeral_1h_input_tokens": 9}, "output_tokens_details": {"thinking_tokens": 99}}
    found = Usage.of(usage_of(raw))
    assert found == Usage(input=0, output=2, reasoning=2, source="provider")


def test_a_streams_usage_is_estimated_until_anthropic_has_counted() -> None:
    _, usages = read(*events(["x" * 40, "y" * 40], usage=usage_object(10, 33, read=500, written=70, hour=70)))
    assert all(one["estimated"] for one in usages[:-1])
    assert "estimated" not in usages[-1]
    assert {one["prompt_tokens"] for one in usages} == {580}
    assert [one["completion_tokens"] for one in usages] == sorted(one["completion_tokens"] for one in usages)
    assert usages[-2]["completion_tokens"] == 20, "80 bytes at 4 a token"
    expected = Usage(input=580, output=33, cache_read=500, cache_write=70, cache_write_1h=70, source="provider")
    assert Usage.of(usages[-1]) == expected


def test_the_last_counts_of_a_stream_replace_the_first_ones() -> None:
    """With tools of its own Anthropic asks the model several times, and says in the end what all of it took."""
    parts = list(events(["Hi"], usage=usage_object(10, 5)))
    parts[-2]["usage"] = {"input_tokens": 900, "output_tokens": 70, "cache_read_input_tokens": 100}
    found = Usage.of(read(*parts)[1][-1])
    assert found == Usage(input=1000, output=70, cache_read=100, source="provider")


def test_a_stream_that_never_counts_its_output_is_known_to_be_estimated() -> None:
    parts = list(events(["x" * 40]))
    del parts[-2]["usage"]
    assert read(*parts)[1][-1]["estimated"] is True


# Trouble


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", UpstreamUnavailable),
        ("api_error", UpstreamUnavailable),
        ("rate_limit_error", UpstreamRateLimited),
        ("timeout_error", UpstreamTimeout),
        ("invalid_request_error", UpstreamRejected),
        ("authentication_error", UpstreamRefusedUs),
        ("of_tomorrow", UpstreamUnavailable),
    ],
)
def test_an_error_without_a_status_is_known_by_its_type(kind: str, expected: type[UpstreamError]) -> None:
    for read_it in (lambda data: completion("up", data), lambda data: list(MessageReader("up").read(data))):
        with pytest.raises(expected) as caught:
            read_it(encode(error_body(kind, "on fire")))
        assert ("on fire" in caught.value.message) is (expected is not UpstreamRefusedUs)
        assert caught.value.wire()[0] in {400, 429, 502, 504}


def test_our_empty_account_is_not_the_callers_fault() -> None:
    said = "Your credit balance is too low to access the Anthropic API."
    error = error_of("up", 400, {}, encode(error_body("invalid_request_error", said)))
    assert type(error) is UpstreamRefusedUs
    assert "providers.up" in error.message


def test_anthropics_id_of_the_request_is_in_the_message() -> None:
    error = error_of("up", 500, {"request-id": "req_7"}, encode(error_body("api_error", "on fire")))
    assert error.message == "on fire (request-id req_7)"
    assert (error.upstream_status, error.upstream_type) == (500, "api_error")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"content": "Hi"}', b'{"content": [7]}', b'{"content": null}', b"<html>", b"\xff"])
def test_an_answer_of_another_shape_is_malformed(body: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        completion("up", body)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "message_delta", "delta": {}},
        {"type": "message_start"},
        {"type": "message_start", "message": []},
        {"type": 7},
        {},
    ],
)
def test_events_that_cannot_be_are_malformed(event: Json) -> None:
    with pytest.raises(UpstreamMalformed):
        list(MessageReader("up").read(encode(event)))


@pytest.mark.parametrize(
    "delta", [{}, {"type": "text_delta"}, {"type": "text_delta", "text": 7}, {"type": "input_json_delta", "partial_json": None}]
)
def test_deltas_that_say_nothing_add_nothing(delta: Json) -> None:
    parts = list(events(["Hi"]))
    odd = {"type": "content_block_delta", "index": 0, "delta": delta}
    assert choice(read(*parts[:4], odd, *parts[4:])[0])["message"]["content"] == "Hi"


ODD: list[Any] = [None, 0, -1, 2**70, True, "", "x", [], {}, ["a"], {"type": "x"}]


@given(st.randoms(use_true_random=False))
def test_whatever_a_server_sends_is_an_answer_or_an_upstream_error(chance: Random) -> None:
    def damaged(value: Any) -> Any:
        if chance.random() < 0.06:
            return chance.choice(ODD)
        if isinstance(value, dict):
            return {key: damaged(inner) for key, inner in value.items() if chance.random() > 0.03}
        return [damaged(inner) for inner in value] if isinstance(value, list) else value

    parts = list(events(["a", "b"], tool_calls=[("f", '{"x": 1}')], thinking=["t"]))
    with suppress(UpstreamError):
        body, usages = read(*(damaged(part) for part in parts))
        for one in usages:
            Usage.of(one)
        encode(body)
    with suppress(UpstreamError):
        encode(completion("up", encode(damaged(message(["a"], tool_calls=[("f", "{}")], thinking=["t"]).json))))
