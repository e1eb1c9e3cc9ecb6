"""The body of our own door. It has no more fields than these: a misspelt one is refused, not overlooked."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from farthing.http.openai_types import Message, ResponseFormat


class GenerateBody(msgspec.Struct, kw_only=True):
    """The body of POST /api/v1/generate, and of a `generate` message on its WebSocket. Either `prompt` or `messages`."""

    prompt: str | None = None
    messages: list[Message] | None = None
    system: str | None = None
    task_type: str | None = None
    stream: bool | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: float | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    farthing: dict[str, Any] | None = None
