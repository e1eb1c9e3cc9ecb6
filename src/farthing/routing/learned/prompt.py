"""What of a request the learned router looks at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from farthing.types import Json

MOST_CHARACTERS: Final = 4_000
"""Of a longer prompt the beginning and the end are read, half and half: that is where instructions and questions stand."""

TEXT_PARTS: Final = ("text", "input_text")
"""A tuple, because what a body says of a part may be anything, a list too."""

_FOLLOW_UP: Final = 48
"""A question of at most so many characters after others ("and why?") is read together with the one before it."""


def text_of_prompt(body: Json) -> str:
    """The last thing that the user said in a chat request, with what he said before where that alone says little. Empty when there is none.

    Also reads the `prompt` of a legacy completion. At most `MOST_CHARACTERS`.
    """
    said = _users(body)
    last = next(said, "")
    if len(last) <= _FOLLOW_UP:
        before = next(said, "")
        last = f"{before}\n{last}" if before else last
    return shortened(last)


def shortened(text: str) -> str:
    """The text, without its middle where it is too long."""
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[: half - 1]}\n{text[-half:]}"


def _users(body: Json) -> Iterator[str]:
    """What the user said, the last first; turns without text left out."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        prompt = body.get("prompt")
        yield from [prompt] if isinstance(prompt, str) else []
        return
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            text = _text(message.get("content"))
            if text.strip():
                yield text


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") in TEXT_PARTS)
    return "\n".join(part for part in parts if isinstance(part, str))
