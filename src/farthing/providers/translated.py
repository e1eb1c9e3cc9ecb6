"""Bodies that a door translated from another vendor's format, made what OpenAI-compatible servers take (`ports.Call.foreign`)."""

from __future__ import annotations

from collections.abc import Iterator

from farthing.types import Json

_NEWER = {"max_tokens": "max_completion_tokens"}
"""Names that OpenAI itself has replaced; its reasoning models refuse the older ones, which other servers still want."""


def adapted(body: Json, *, newer_names: bool) -> Json:
    """The body with pictures moved from tool results, where OpenAI's format has only text, to a user's message behind them.

    `newer_names`: for OpenAI itself. The body given stays as it is.
    """
    found = {_NEWER.get(key, key): value for key, value in body.items()} if newer_names else dict(body)
    messages = body.get("messages")
    if isinstance(messages, list):
        found["messages"] = [*_text_in_tool_results(messages)]
    return found


def _text_in_tool_results(messages: list[Json]) -> Iterator[Json]:
    """Results of one turn stay together: their pictures come behind the last of them."""
    pictures: list[Json] = []
    for message in messages:
        if message.get("role") != "tool":
            if pictures:
                yield {"role": "user", "content": pictures}
                pictures = []
            yield message
        elif isinstance(message.get("content"), list):
            others = [part for part in message["content"] if part.get("type") != "text"]
            if others:
                pictures += [{"type": "text", "text": f"From the result of {message.get('tool_call_id')}:"}, *others]
            texts = [part for part in message["content"] if part.get("type") == "text"]
            yield {**message, "content": texts or "(see the next message)"}
        else:
            yield message
    if pictures:
        yield {"role": "user", "content": pictures}
