"""Thoughts that a model wants back in the next turn, as a reasoning item carries them. Pure.

Anthropic's models refuse to go on after a tool call without their signed thinking (`thinking_blocks`). Clients of OpenAI's hand reasoning
items back with their `encrypted_content`, which is opaque to them: there they travel.
"""

from __future__ import annotations

import base64

import msgspec

from farthing.types import Json

_PREFIX = "farthing.1."
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Json]).decode


def wrapped(blocks: list[Json]) -> str:
    """Thinking blocks as `encrypted_content`."""
    return _PREFIX + base64.b64encode(_encode(blocks)).decode()


def unwrapped(content: str | None) -> list[Json]:
    """The other way round; none for what is not ours."""
    if content is None or not content.startswith(_PREFIX):
        return []
    try:
        return _decode(base64.b64decode(content.removeprefix(_PREFIX), validate=True))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return []
