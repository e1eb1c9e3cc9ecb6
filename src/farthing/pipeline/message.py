"""Reading a chat message, or a delta of one, as servers write them."""

from __future__ import annotations

from typing import Any

from farthing.types import Json


def text_of(content: Any) -> str:
    """Text that came as a string or, from some servers, as parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def reasoning_of(said: Json) -> str:
    """The reasoning in a message or delta, under either name that servers use for it."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(said.get(name), str):
            return str(said[name])
    return ""
