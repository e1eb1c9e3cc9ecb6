"""What a `chat.completion` says, read so that no shape of it breaks a check: providers send what they like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from farthing.pipeline.message import text_of
from farthing.types import Json


class Said(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One choice of a completion. `text` is its content, `refusal` what it says instead; `calls` are (name, arguments) of tools it calls.

    `content` tells whether there is something that is not text (audio). `finish` is why it ended, None while it goes on.
    """

    text: str
    refusal: str
    calls: tuple[tuple[str, Any], ...]
    content: bool
    finish: str | None
    logprobs: Any


def choices_of(body: Json) -> list[Said]:
    """All choices, in order."""
    choices = body.get("choices")
    return [_said(choice) for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _said(choice: Json) -> Said:
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {}
    finish, refusal = choice.get("finish_reason"), message.get("refusal")
    return Said(
        text=text_of(message.get("content")),
        refusal=refusal if isinstance(refusal, str) else "",
        calls=tuple(_calls(message)),
        content=bool(message.get("audio")),
        finish=finish if isinstance(finish, str) else None,
        logprobs=choice.get("logprobs"),
    )


def _calls(message: Json) -> Iterator[tuple[str, Any]]:
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    for function in [*functions, message.get("function_call")]:
        if isinstance(function, dict):
            name = function.get("name")
            yield name if isinstance(name, str) else "", function.get("arguments")


def question_in(body: Json) -> str:
    """The text of the last message by the user."""
    messages = body.get("messages")
    for message in reversed(messages) if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def text_in(body: Json) -> str:
    """The text of the first choice."""
    said = choices_of(body)
    return said[0].text or said[0].refusal if said else ""
