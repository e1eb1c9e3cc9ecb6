"""An upstream that costs next to nothing, so that a benchmark measures what stands in front of it.

A raw ASGI application that answers every chat completion and embedding at once with the same ready bytes; when the body asks for a
stream, in one write per chunk, as providers do. It looks at the bytes of a request but does not parse them. `GET /answered` says how
many completions and embeddings it has answered, so that a benchmark knows whether its requests came through.

    python -m farthing.testing.instant --port 9000
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import uvicorn

from farthing.testing.replies import DONE, chunks, completion, embeddings, sse, usage_object

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

TEXT: Final = "A farthing was a quarter of a penny, the smallest coin that England ever struck for so long."
"""What every completion says."""

WORDS: Final = tuple(f"{word} " if word != "long." else word for word in TEXT.split(" "))
"""The same in the pieces of its stream."""

_STREAM_MARKS: Final = (b'"stream":true', b'"stream": true')
_COUNTS: Final = usage_object(24, len(WORDS))


class InstantUpstream:
    """The application. `model` is what its answers name as their model."""

    def __init__(self, model: str = "gpt-4o-mini") -> None:
        self.answered = 0
        whole = completion(TEXT, usage=_COUNTS, model=model).payload()
        events = [sse(chunk) for chunk in chunks(WORDS, counts=_COUNTS, model=model)]
        models = {"object": "list", "data": [{"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "instant"}]}
        self._whole = _whole(200, whole)
        self._embeddings = _whole(200, embeddings(1, 384).payload())
        self._models = _whole(200, msgspec.json.encode(models))
        self._stream = (
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]},
            *({"type": "http.response.body", "body": event, "more_body": True} for event in events),
            {"type": "http.response.body", "body": DONE, "more_body": False},
        )

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer by path and by whether the body asks for a stream."""
        message = await receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        path: str = scope["path"]
        for part in self._answer(path, body):
            await send(part)

    def _answer(self, path: str, body: bytes) -> tuple[dict[str, Any], ...]:
        if path.endswith("/models"):
            return self._models
        if path == "/answered":
            return _whole(200, msgspec.json.encode({"answered": self.answered}))
        self.answered += 1
        if path.endswith("/embeddings"):
            return self._embeddings
        return self._stream if any(mark in body for mark in _STREAM_MARKS) else self._whole


def _whole(status: int, body: bytes) -> tuple[dict[str, Any], ...]:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return {"type": "http.response.start", "status": status, "headers": headers}, {"type": "http.response.body", "body": body}


def main() -> None:
    """Serve on 127.0.0.1 until stopped."""
    parser = argparse.ArgumentParser(prog="python -m farthing.testing.instant", description="An upstream that answers at once.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="gpt-4o-mini")
    given = parser.parse_args()
    uvicorn.run(
        InstantUpstream(given.model),
        host="127.0.0.1",
        port=given.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        backlog=4096,
    )


if __name__ == "__main__":
    main()
