"""OpenAI's request bodies, as far as they are documented; what is not is passed through.

Only types are checked here, so that a wrong one is refused with the field's name before it costs anything. What a value means is the
provider's business. Source: OpenAI's API reference, "Create chat completion" and "Create embeddings".
"""

from __future__ import annotations

from typing import Any

import msgspec


class _Open(msgspec.Struct, kw_only=True):
    """An object whose further fields are nobody's business here."""


class ToolCallFunction(_Open):
    """A call that the model made."""

    name: str
    arguments: str


class ToolCall(_Open):
    """An element of `messages[].tool_calls`."""

    id: str
    type: str = "function"
    function: ToolCallFunction | None = None


class ContentPart(_Open):
    """An element of `messages[].content`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: dict[str, Any] | None = None
    input_audio: dict[str, Any] | None = None
    file: dict[str, Any] | None = None


class Message(_Open):
    """An element of `messages`."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: ToolCallFunction | None = None
    audio: dict[str, Any] | None = None


class FunctionDefinition(_Open):
    """What a tool is."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Open):
    """An element of `tools`."""

    type: str
    function: FunctionDefinition | None = None


class JsonSchema(_Open):
    """`response_format.json_schema`."""

    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(_Open):
    """`response_format`."""

    type: str
    json_schema: JsonSchema | None = None


class StreamOptions(_Open):
    """`stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatBody(_Open):
    """The body of POST /v1/chat/completions."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionDefinition] | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    web_search_options: dict[str, Any] | None = None
    farthing: dict[str, Any] | None = None


class CompletionBody(_Open):
    """The body of POST /v1/completions."""

    model: str
    prompt: str | list[Any] | None = None
    suffix: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    best_of: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: int | None = None
    echo: bool | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    farthing: dict[str, Any] | None = None


class EmbeddingsBody(_Open):
    """The body of POST /v1/embeddings. Token arrays are for the provider to read."""

    model: str
    input: str | list[Any]
    encoding_format: str | None = None
    dimensions: int | None = None
    user: str | None = None
    farthing: dict[str, Any] | None = None
