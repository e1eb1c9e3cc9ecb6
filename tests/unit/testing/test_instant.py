from __future__ import annotations

from typing import Any

import msgspec
import pytest

from farthing.testing.instant import TEXT, InstantUpstream


async def ask(app: InstantUpstream, path: str, *pieces: bytes) -> tuple[dict[str, Any], list[bytes]]:
    received = [{"type": "http.request", "body": piece, "more_body": at + 1 < len(pieces)} for at, piece in enumerate(pieces)]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return received.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "path": path}, receive, send)
    return sent[0], [message["body"] for message in sent[1:]]


async def test_a_completion_in_one_piece() -> None:
    start, (body,) = await ask(InstantUpstream(), "/v1/chat/completions", b'{"model":', b'"m"}')
    assert (start["status"], dict(start["headers"])[b"content-length"]) == (200, str(len(body)).encode())
    assert msgspec.json.decode(body)["choices"][0]["message"]["content"] == TEXT


@pytest.mark.parametrize("body", [b'{"stream":true}', b'{"stream": true}'])
async def test_a_stream_of_twenty_chunks_with_usage_and_end_mark(body: bytes) -> None:
    _, events = await ask(InstantUpstream(), "/v1/chat/completions", body)
    chunks = [msgspec.json.decode(event.removeprefix(b"data: ")) for event in events[:-1]]
    assert events[-1] == b"data: [DONE]\n\n"
    assert len(chunks) == 21
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]) == TEXT
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 42


async def test_it_counts_what_it_answers() -> None:
    app = InstantUpstream()
    await ask(app, "/v1/chat/completions", b"{}")
    _, (vectors,) = await ask(app, "/v1/embeddings", b"{}")
    await ask(app, "/v1/models", b"")
    _, (count,) = await ask(app, "/answered", b"")
    assert len(msgspec.json.decode(vectors)["data"][0]["embedding"]) == 384
    assert msgspec.json.decode(count) == {"answered": 2}
