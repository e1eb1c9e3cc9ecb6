"""Decoding `application/vnd.amazon.eventstream`, in which AWS sends streams.

Shape (Amazon Transcribe developer guide, "Event stream encoding"; all numbers big-endian): total length, length of the headers, CRC-32 of
those two (4 bytes each); headers; payload; CRC-32 of all before it. A header is a name (1 byte of length), a type (1 byte) and a value.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import msgspec

from farthing.errors import UpstreamMalformed

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_SHORTEST = _PRELUDE.size + _CRC.size
_MAX_MESSAGE = 24 * 2**20
_MAX_HEADERS = 128 * 2**10
"""Both are the limits of the format."""

_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Sizes of values by type: true, false, byte, short, integer, long, timestamp, UUID."""
_BYTES, _STRING = 6, 7
"""Types whose value has a length (2 bytes) before it."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message. Of its headers only those that are text are kept: the format's own are (`:message-type`, `:event-type`, …)."""

    headers: dict[str, str]
    payload: bytes


class EventStreamDecoder:
    """Feed it bytes as they come; it gives the messages that are complete. `name` is for error messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._buffer = bytearray()

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes and yield what they complete. Raises `UpstreamMalformed` at what is not this format, or was damaged on the way."""
        self._buffer += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        buffer = self._buffer
        if len(buffer) < _PRELUDE.size:
            return None
        total, headers, crc = _PRELUDE.unpack_from(buffer)
        if crc != zlib.crc32(buffer[:8]) or not _SHORTEST <= total <= _MAX_MESSAGE or headers > min(total - _SHORTEST, _MAX_HEADERS):
            raise self._damaged()
        if len(buffer) < total:
            return None
        whole = bytes(buffer[:total])
        del buffer[:total]
        end = total - _CRC.size
        if _CRC.unpack_from(whole, end)[0] != zlib.crc32(whole[:end]):
            raise self._damaged()
        begin = _PRELUDE.size + headers
        return Message(headers=self._headers(whole[_PRELUDE.size : begin]), payload=whole[begin:end])

    def _headers(self, block: bytes) -> dict[str, str]:
        found: dict[str, str] = {}
        at = 0
        try:
            while at < len(block):
                name, at = _text(block, at + 1, block[at])
                kind = block[at]
                at += 1
                if kind in (_BYTES, _STRING):
                    size = int.from_bytes(block[at : at + 2], "big")
                    at += 2
                    if kind == _STRING:
                        found[name], at = _text(block, at, size)
                        continue
                    at += size
                else:
                    at += _FIXED[kind]
            if at > len(block):
                raise self._damaged()
        except (IndexError, KeyError, UnicodeDecodeError):
            raise self._damaged() from None
        return found

    def _damaged(self) -> UpstreamMalformed:
        return UpstreamMalformed(f"{self._name} sent a damaged event stream")


def _text(block: bytes, at: int, size: int) -> tuple[str, int]:
    end = at + size
    if end > len(block):
        raise IndexError
    return block[at:end].decode(), end
