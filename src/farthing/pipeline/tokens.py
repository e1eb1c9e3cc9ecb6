"""Guesses at token counts, for when a provider gives none. Always labelled `estimated` where they are recorded."""

from __future__ import annotations

from farthing.types import Json, Usage

BYTES_PER_TOKEN = 4
"""OpenAI's rule of thumb for English ("about 4 characters"); other scripts come out high, which is the safe side."""
PER_MESSAGE = 4
"""Role and separators, as in OpenAI's cookbook on counting tokens."""


def count_text(text: str) -> int:
    """About how many tokens a text is."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def count_request(body: Json) -> int:
    """About how many input tokens a chat or embeddings request has. Only text counts; images and audio are not guessed at."""
    messages = body.get("messages")
    if isinstance(messages, list):
        return sum(PER_MESSAGE + count_text("".join(_texts(message))) for message in messages)
    return count_text("".join(_texts(body.get("input"))))


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return [text for key, item in value.items() if key not in {"role", "type", "image_url", "input_audio"} for text in _texts(item)]
    return []


def estimate(body: Json, generated: str) -> Usage:
    """Usage of a request of which only the generated text is known."""
    return Usage(input=count_request(body), output=count_text(generated), source="estimated")
