"""Every vendor says in its own way that a request is too long."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from farthing.errors import UpstreamContextExceeded, UpstreamError, UpstreamRejected
from farthing.providers import anthropic_wire, bedrock_errors, wire
from farthing.providers.litellm_errors import translated

encode = msgspec.json.encode

OPENAI_LIKE: dict[str, Any] = {
    "openai": {
        "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    },
    "openai, newer": {
        "message": "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "type": "invalid_request_error",
        "param": "input",
    },
    "vllm": {
        "message": "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens (2500 in the messages, 500 in "
        "the completion). Please reduce the length of the messages or completion.",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
    "vllm, newer": {
        "message": "The decoder prompt (length 5012) is longer than the maximum model length of 4096.",
        "type": "BadRequestError",
        "code": 400,
    },
    "llama.cpp": {
        "code": 400,
        "message": "request (5012 tokens) exceeds the available context size (2048 tokens), try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5012,
        "n_ctx": 2048,
    },
    "gemini": {
        "code": 400,
        "message": "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
        "status": "INVALID_ARGUMENT",
    },
    "mistral": {"message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"},
    "groq": {"message": "Please reduce the length of the messages or completion.", "code": "context_length_exceeded"},
    "xai": {"message": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."},
    "tgi": {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 4076 `inputs` tokens"},
    "cohere": {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292."},
}


@pytest.mark.parametrize("vendor", OPENAI_LIKE)
def test_servers_of_openais_protocol_are_understood(vendor: str) -> None:
    error = wire.error_of("up", 400, {}, encode({"error": OPENAI_LIKE[vendor]}))
    assert type(error) is UpstreamContextExceeded
    status, fields = error.wire()
    assert (status, fields["code"], fields["message"]) == (400, "context_length_exceeded", OPENAI_LIKE[vendor]["message"])
    assert error.retry is False
    inside = wire.error_inside("up", OPENAI_LIKE[vendor])
    assert type(inside) is UpstreamContextExceeded, "in a stream, or a 200"
    assert inside.wire()[0] == 400


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 208310 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length or `max_tokens` and try again",
    ],
)
def test_anthropics_words_are_understood(message: str) -> None:
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    error = anthropic_wire.error_of("up", 400, {"request-id": "req_1"}, encode(body))
    assert type(error) is UpstreamContextExceeded
    assert message in error.message
    inside = anthropic_wire.error_inside("up", body)
    assert (type(inside), inside.wire()[0]) == (UpstreamContextExceeded, 400)


@pytest.mark.parametrize(
    "message",
    [
        "Input is too long for requested model.",
        "The model returned the following errors: prompt is too long: 208310 tokens > 200000 maximum",
        "Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again.",
        "This model's maximum context length is 131072 tokens. Please reduce the length of the prompt.",
    ],
)
def test_bedrocks_words_are_understood(message: str) -> None:
    error = bedrock_errors.error_of("up", 400, {"x-amzn-errortype": "ValidationException"}, encode({"message": message}))
    assert type(error) is UpstreamContextExceeded
    assert error.wire()[1]["code"] == "context_length_exceeded"
    inside = bedrock_errors.error_inside("up", {":exception-type": "validationException"}, encode({"message": message}))
    assert type(inside) is UpstreamContextExceeded


def test_litellms_class_is_understood() -> None:
    kind = type("ContextWindowExceededError", (Exception,), {"__module__": "litellm.exceptions"})
    error = translated("up", kind("litellm.ContextWindowExceededError: too much"))
    assert (type(error), error.wire()[0]) == (UpstreamContextExceeded, 400)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "max_tokens is too large: 900000. This model supports at most 16384 completion tokens"),
        (400, "messages: text content blocks must be non-empty"),
        (404, "The model `x` does not exist"),
        (413, "Request exceeds the maximum allowed number of bytes."),
        (429, "Rate limit reached: too many tokens per minute"),
        (500, "This model's maximum context length is 2048 tokens."),
        (401, "prompt is too long"),
    ],
)
def test_other_complaints_are_what_they_were(status: int, message: str) -> None:
    errors: list[UpstreamError] = [
        wire.error_of("up", status, {}, encode({"error": {"message": message}})),
        anthropic_wire.error_of("up", status, {}, encode({"error": {"message": message}})),
    ]
    for error in errors:
        assert not isinstance(error, UpstreamContextExceeded)
        assert isinstance(error, UpstreamRejected) == (status in {400, 404, 413})
