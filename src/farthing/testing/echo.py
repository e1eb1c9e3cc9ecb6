"""What a scripted upstream answers where no script says otherwise."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from farthing.testing.replies import Json, Reply, completion, embeddings, error, stream, usage_object

_DIMENSIONS: Final = 8


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came. `body` is the decoded JSON, or the bytes where they are not JSON. `at` is `time.monotonic()`."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float

    @property
    def model(self) -> str | None:
        """The model asked for."""
        return self.body.get("model") if isinstance(self.body, dict) else None


def echo(received: Received) -> Reply:
    """What an unscripted model answers: the last user message, or one vector per input, or 404 for other paths."""
    body = received.body
    if not isinstance(body, dict):
        return error(400, "the body is not a JSON object", "invalid_request_error")
    model = str(body.get("model", "echo"))
    if received.path.endswith("/embeddings"):
        inputs = body.get("input")
        return embeddings(len(inputs) if isinstance(inputs, list) else 1, body.get("dimensions") or _DIMENSIONS, model=model)
    if not received.path.endswith("/chat/completions"):
        return error(404, f"no such path: {received.path}", "invalid_request_error")
    text = last_user_text(body)
    words = text.split(" ")
    counts = usage_object(sum(len(str(message.get("content", "")).split()) for message in body.get("messages", [])) or 1, len(words))
    n = body.get("n") or 1
    if not body.get("stream"):
        return completion(text, usage=counts, model=model, n=n)
    pieces = [word if at == 0 else f" {word}" for at, word in enumerate(words)]
    include = bool((body.get("stream_options") or {}).get("include_usage"))
    return stream(pieces, usage=include, counts=counts, model=model, n=n)


def models(names: list[str]) -> Reply:
    """The list of models."""
    data = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "scripted"} for name in names]
    return Reply(json={"object": "list", "data": data})


def last_user_text(body: Json) -> str:
    """What the user said last; empty when nothing."""
    for message in reversed(body.get("messages") or []):
        content = message.get("content") if message.get("role") == "user" else None
        if isinstance(content, str):
            return content
        if isinstance(content, list):
            return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return ""
