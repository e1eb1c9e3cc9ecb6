"""Answers that no upstream should give and some do: one constructor for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from farthing.testing.replies import CLOSE, DONE, RESET, STALL, Part, Repeat, Reply, chunks, completion, sse, stream

_HELLO: Final = ("Hel", "lo")
_BLOCK: Final = 65_536
_CONTINUATION: Final = 0b1000_0000  # the two high bits of every byte of a UTF-8 character but its first


def html_page(status: int = 502) -> Reply:
    """The error page of a proxy in between."""
    page = b"<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body><h1>502</h1></body></html>"
    return Reply(status=status, headers={"content-type": "text/html"}, body=page)


def empty(status: int = 200) -> Reply:
    """A status and nothing else."""
    return Reply(status=status, body=b"")


def truncated_json() -> Reply:
    """A JSON document cut in half, its content-length honest about the half."""
    whole = completion("Hello there").payload()
    return Reply(body=whole[: len(whole) // 2])


def short_body() -> Reply:
    """A JSON document of which the connection closes before the promised content-length has come."""
    whole = completion("Hello there").payload()
    headers = {"content-type": "application/json", "content-length": str(len(whole))}
    return Reply(headers=headers, parts=(whole[: len(whole) // 2], CLOSE))


def invalid_utf8_json() -> Reply:
    """A JSON document with half a character in a string."""
    return Reply(body=completion("caf@").payload().replace(b"caf@", b"caf\xc3"))


def error_in_200(message: str = "The model is on fire") -> Reply:
    """Status 200 with an error object as the document."""
    return Reply(json={"error": {"message": message, "type": "server_error", "param": None, "code": None}})


def error_first_event(message: str = "The model is on fire") -> Reply:
    """A stream under status 200 whose only event is an error object."""
    return error_mid_stream((), message)


def error_mid_stream(texts: Sequence[str] = _HELLO, message: str = "The model is on fire") -> Reply:
    """A stream that ends in an error object after some content."""
    event = sse({"error": {"message": message, "type": "server_error", "param": None, "code": None}})
    return Reply(parts=(*_content(texts), event, DONE))


def garbage_sse() -> Reply:
    """An event stream whose events are not JSON."""
    return Reply(parts=(b": hi\n\n", b"data: {]%$\n\n", b"nonsense without a colon\n\n", b"data: \x00\x01\n\n", DONE))


def split_utf8(text: str = "Grüße, 世界 🌍", *, pause: float = 0.0) -> Reply:
    """A good stream cut inside of every character that takes more than one byte."""
    parts: list[Part] = []
    for event in stream((text,)).parts or ():
        assert isinstance(event, bytes)
        cuts = [at for at in range(1, len(event)) if event[at] & 0b1100_0000 == _CONTINUATION]
        for start, end in zip([0, *cuts], [*cuts, len(event)], strict=True):
            parts += (event[start:end], pause)
    return Reply(parts=parts)


def unfinished_utf8() -> Reply:
    """A stream with half a character that is never completed."""
    events = [event.replace(b"caf@", b"caf\xc3") for event in _content(("caf@", " au lait"))]
    return Reply(parts=(*events, DONE))


def missing_done(texts: Sequence[str] = _HELLO) -> Reply:
    """A stream that ends in order, finish reason included, but without the end mark."""
    return stream(texts, done=False)


def broken_off(texts: Sequence[str] = _HELLO) -> Reply:
    """A stream that ends in order for HTTP, in the middle of the answer: no finish reason, no end mark."""
    return Reply(parts=_content(texts))


def close_mid_body(texts: Sequence[str] = _HELLO) -> Reply:
    """A stream whose connection closes without the end of the chunked body."""
    return Reply(parts=(*_content(texts), CLOSE))


def reset_mid_body(texts: Sequence[str] = _HELLO, *, pause: float = 0.02) -> Reply:
    """A stream whose connection is reset `pause` seconds after some content."""
    return Reply(parts=(*_content(texts), pause, RESET))


def stall_mid_body(texts: Sequence[str] = _HELLO[:1]) -> Reply:
    """A stream that falls silent after some content and never ends."""
    return Reply(parts=(*_content(texts), STALL))


def stall_before_headers() -> Reply:
    """Silence."""
    return Reply(raw=True, parts=(STALL,))


def stall_after_headers() -> Reply:
    """A status line and headers of a stream, then silence."""
    return Reply(parts=(STALL,))


def reset_before_headers() -> Reply:
    """The connection is reset instead of answered."""
    return Reply(raw=True, parts=(RESET,))


def close_before_headers() -> Reply:
    """The connection is closed instead of answered."""
    return Reply(raw=True, parts=(CLOSE,))


def not_http() -> Reply:
    """Bytes of another protocol."""
    return Reply(raw=True, parts=(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", CLOSE))


def slow_drip(texts: Sequence[str] = _HELLO, *, delay: float = 0.05, size: int = 16) -> Reply:
    """A good stream in pieces of `size` bytes with `delay` seconds between them."""
    whole = b"".join(part for part in stream(texts).parts or () if isinstance(part, bytes))
    parts: list[Part] = []
    for start in range(0, len(whole), size):
        parts += (whole[start : start + size], delay)
    return Reply(parts=parts)


def endless_body() -> Reply:
    """A JSON document that never ends."""
    start = b'{"id":"chatcmpl-endless","choices":[{"index":0,"message":{"role":"assistant","content":"'
    return Reply(headers={"content-type": "application/json"}, parts=(start, Repeat(data=b"x" * _BLOCK)))


def endless_stream(text: str = "again ") -> Reply:
    """A stream of good chunks that never ends."""
    role, content = _content((text,))
    return Reply(parts=(role, Repeat(data=content)))


def gigantic_line(size: int = 64 * 1024 * 1024) -> Reply:
    """A stream with one event of `size` bytes on one line, then a good end."""
    role, content = _content(("@",))
    head, tail = content.split(b"@")
    return Reply(parts=(role, head, Repeat(data=b"x" * _BLOCK, times=max(1, size // _BLOCK)), tail, DONE))


def gigantic_body(size: int = 64 * 1024 * 1024) -> Reply:
    """A good JSON document of about `size` bytes."""
    head, tail = completion("@").payload().split(b"@")
    parts = (head, Repeat(data=b"x" * _BLOCK, times=max(1, size // _BLOCK)), tail)
    return Reply(headers={"content-type": "application/json"}, parts=parts)


def deep_json(depth: int = 100_000) -> Reply:
    """A JSON document nested `depth` deep."""
    return Reply(body=b"[" * depth + b"]" * depth)


def wrong_shape() -> Reply:
    """Good JSON that is not a completion: `choices` is a string."""
    return Reply(json={"id": 7, "object": "chat.completion", "choices": "none today", "usage": [1, 2]})


def _content(texts: Sequence[str]) -> tuple[bytes, ...]:
    """The role event and one event per text, without the end of the answer; nothing for no texts."""
    if not texts:
        return ()
    events = list(chunks(texts, usage=False))
    return tuple(sse(msgspec.json.encode(event)) for event in events[: 1 + len(texts)])
