"""Anthropic's request bodies, as far as they are documented; what is not is passed through.

Only types are checked here, as in `openai_types`. Source: Anthropic's API reference, "Messages" and "Count Message tokens".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec


class _Open(msgspec.Struct, kw_only=True):
    """An object whose further fields are nobody's business here."""


class Block(_Open):
    """An element of `content`: a union by `type`, of which each member has some of these fields."""

    type: str
    text: str | None = None
    source: dict[str, Any] | str | None = None
    title: str | None = None
    context: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    cache_control: dict[str, Any] | None = None


class InputMessage(_Open):
    """An element of `messages`."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ToolDefinition(_Open):
    """An element of `tools`."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class ToolChoice(_Open):
    """`tool_choice`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Metadata(_Open):
    """`metadata`."""

    user_id: str | None = None


class OutputFormat(_Open):
    """`output_config.format`."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(_Open):
    """`output_config`."""

    effort: str | None = None
    format: OutputFormat | None = None


class CountBody(_Open):
    """The body of POST /v1/messages/count_tokens."""

    model: str
    messages: list[InputMessage]
    system: str | list[Block] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoice | None = None
    thinking: dict[str, Any] | None = None
    output_config: OutputConfig | None = None
    farthing: dict[str, Any] | None = None


class MessagesBody(CountBody, kw_only=True):
    """The body of POST /v1/messages."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
