from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import UpstreamMalformed
from farthing.providers.aws_eventstream import EventStreamDecoder, Message
from farthing.testing.bedrock import event, exception, message

names = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True)
headers = st.dictionaries(names, st.text(max_size=40), max_size=5)
messages = st.lists(st.tuples(headers, st.binary(max_size=300)), min_size=1, max_size=5)


def decoded(data: bytes, cuts: list[int] | None = None) -> list[Message]:
    decoder = EventStreamDecoder("up")
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or [])})
    found = [one for start, end in pairwise(edges) for one in decoder.feed(data[start:end])]
    assert not decoder.inside
    return found


@given(messages, st.lists(st.integers(0, 10_000), max_size=20))
def test_what_was_encoded_is_decoded_however_it_is_cut(given_ones: list[tuple[dict[str, str], bytes]], cuts: list[int]) -> None:
    data = b"".join(message(payload, **fields) for fields, payload in given_ones)
    expected = [({":" + name.replace("_", "-"): value for name, value in fields.items()}, payload) for fields, payload in given_ones]
    assert [(one.headers, one.payload) for one in decoded(data, cuts)] == expected


@given(messages)
def test_botocore_reads_the_same(given_ones: list[tuple[dict[str, str], bytes]]) -> None:
    data = b"".join(message(payload, **fields) for fields, payload in given_ones)
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    assert [(one.headers, one.payload) for one in decoded(data)] == [(one.headers, one.payload) for one in buffer]


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_changed_byte_is_never_taken_for_data(at: int, change: int) -> None:
    data = bytearray(event("messageStop", stopReason="end_turn") + exception("throttlingException", "slow down"))
    good = decoded(bytes(data))
    data[at % len(data)] ^= change
    decoder = EventStreamDecoder("up")
    found = []
    try:
        found = list(decoder.feed(bytes(data)))
    except UpstreamMalformed:
        return
    assert all(one in good for one in found)
    assert decoder.inside, "damaged lengths may make it wait for more, never believe"


def typed(*values: bytes) -> bytes:
    """A message whose headers have these (type and value) bytes."""
    block = b"".join(b"\x01" + bytes([65 + at]) + value for at, value in enumerate(values))
    prelude = struct.pack(">II", 16 + len(block), len(block))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + block
    return whole + struct.pack(">I", zlib.crc32(whole))


def test_headers_of_every_type_are_understood() -> None:
    values = [
        b"\x00",
        b"\x01",
        b"\x02\x7f",
        b"\x03\x00\x01",
        b"\x04" + bytes(4),
        b"\x05" + bytes(8),
        b"\x06\x00\x02ab",
        b"\x07\x00\x02cd",
        b"\x08" + bytes(8),
        b"\x09" + bytes(16),
        b"\x07\x00\x01e",
    ]
    assert decoded(typed(*values)) == [Message(headers={"H": "cd", "K": "e"}, payload=b"")]


@pytest.mark.parametrize("value", [b"\x0a", b"\x07\x00\x09x", b"\x07\x00", b"\x04\x00", b"\x07\x00\x01\xff", b"\x06\xff\xffx"])
def test_headers_that_lie_are_damage(value: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        decoded(typed(value))


@pytest.mark.parametrize(("total", "block"), [(15, 0), (0, 0), (2**31, 0), (16, 1), (2**20, 2**20), (24 * 2**20 + 1, 0)])
def test_impossible_lengths_are_damage_at_once(total: int, block: int) -> None:
    prelude = struct.pack(">II", total, block)
    with pytest.raises(UpstreamMalformed):
        list(EventStreamDecoder("up").feed(prelude + struct.pack(">I", zlib.crc32(prelude))))
