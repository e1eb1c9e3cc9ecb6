"""Guesses at token counts, for when a provider gives none. Always labelled `estimated` where they are recorded."""

from __future__ import annotations

from msgspec.structs import replace

from farthing.types import Json, Usage

BYTES_PER_TOKEN = 4
"""OpenAI's rule of thumb for English ("about 4 characters"); other scripts come out high, which is the safe side."""
PER_MESSAGE = 4
"""Role and separators, as in OpenAI's cookbook on counting tokens."""

_NOT_TEXT = frozenset({"role", "type", "image_url", "input_audio", "file", "signature"})
_INCREDIBLE = 8


def count_text(text: str) -> int:
    """About how many tokens a text is."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def count_request(body: Json) -> int:
    """About how many input tokens a chat or embeddings request has. Only text counts; images, audio and files are not guessed at."""
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
        return [text for key, item in value.items() if key not in _NOT_TEXT for text in _texts(item)]
    return []


def estimate(body: Json, generated: str) -> Usage:
    """Usage of a request of which only the generated text is known."""
    return Usage(input=count_request(body), output=count_text(generated), source="estimated")


def believed(reported: Usage | None, body: Json, generated: str) -> Usage:
    """What to bill: what the provider counted, unless there is nothing or it cannot be true; then our guess, labelled as one.

    A count is not believed when our guess is more than `_INCREDIBLE` times as high: no text has that many characters in a token.
    """
    if reported is None:
        return estimate(body, generated)
    least_out = count_text(generated) // _INCREDIBLE if generated else 0
    least_in = count_request(body) // _INCREDIBLE if reported.input == 0 else 0
    if reported.output >= least_out and reported.input >= least_in:
        return reported
    guess = estimate(body, generated)
    return replace(
        reported, input=max(reported.input, guess.input if least_in else 0), output=max(reported.output, guess.output), source="estimated"
    )
