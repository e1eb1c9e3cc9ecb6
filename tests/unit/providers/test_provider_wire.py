from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from farthing.errors import (
    UpstreamError,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRefusedUs,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.providers import wire
from farthing.types import Json

_encode = msgspec.json.encode
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 5,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi", "refusal": None}, "logprobs": None, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "system_fingerprint": None,
    "x_unknown": {"kept": [1, None]},
}
CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 5,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": None, "finish_reason": None}],
}


# Normalisation


def test_a_complete_answer_passes_unchanged_and_in_openais_order() -> None:
    found = wire.completion("p", _encode(WHOLE))
    assert found == WHOLE
    assert list(found)[:4] == ["id", "object", "created", "model"]


REQUIRED = {("logprobs",): None, ("finish_reason",): "stop", ("index",): 0, ("message", "refusal"): None, ("message", "role"): "assistant"}


@pytest.mark.parametrize(("place", "value"), REQUIRED.items(), ids=lambda value: "-".join(value) if isinstance(value, tuple) else "")
def test_a_required_field_that_a_server_leaves_out_is_put_in(place: tuple[str, ...], value: Any) -> None:
    lacking = copy.deepcopy(WHOLE)
    holder: Any = lacking["choices"][0]  # type: ignore[index]  # a literal of several types
    for part in place[:-1]:
        holder = holder[part]
    del holder[place[-1]]
    found: Any = wire.completion("p", _encode(lacking))["choices"][0]
    for part in place:
        found = found[part]
    assert found == value


def test_normalisation_adds_exactly_the_required_fields() -> None:
    found = wire.completion("p", b'{"choices":[{"message":{"tool_calls":[]}},{"message":{}}]}')
    assert isinstance(found.pop("id"), str)
    assert isinstance(found.pop("created"), int)
    message = {"role": "assistant", "content": None, "refusal": None}
    ends = {"finish_reason": "stop", "logprobs": None}
    choices = [{"message": {"tool_calls": [], **message}, "index": 0, **ends}, {"message": message, "index": 1, **ends}]
    assert found == {"object": "chat.completion", "choices": choices}


def test_a_chunk_gets_exactly_the_required_fields() -> None:
    found, usage = wire.chunk("p", b'{"id":"a","created":1,"choices":[{"delta":{"content":"x","foo":1}}],"bar":null}')
    choice = {"delta": {"content": "x", "foo": 1}, "index": 0, "finish_reason": None, "logprobs": None}
    assert found == {"id": "a", "object": "chat.completion.chunk", "created": 1, "choices": [choice], "bar": None}
    assert usage is None


@given(st.dictionaries(st.text(min_size=1, max_size=6).map("x_{}".format), st.none() | st.integers(0, 9) | st.text(max_size=5)))
def test_unknown_fields_pass(more: Json) -> None:
    found, _ = wire.chunk("p", _encode({**CHUNK, **more}))
    assert found == {**CHUNK, **more}
    assert wire.completion("p", _encode({**WHOLE, **more})) == {**WHOLE, **more}


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_usage_is_taken_out_wherever_it_stands() -> None:
    assert wire.chunk("p", _encode({**CHUNK, "usage": USAGE})) == (CHUNK, USAGE)
    assert wire.chunk("p", _encode({**CHUNK, "usage": None})) == (CHUNK, None)
    assert wire.chunk("p", _encode({**CHUNK, "choices": [], "usage": USAGE})) == (None, USAGE)
    assert wire.chunk("p", _encode({**CHUNK, "choices": []})) == (None, None)
    assert wire.chunk("p", _encode({**CHUNK, "usage": [1]})) == (CHUNK, None)


def test_a_null_delta_is_an_empty_one() -> None:
    found, _ = wire.chunk("p", b'{"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}')
    assert found is not None
    assert found["choices"][0]["delta"] == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"7",
        b'"x"',
        b"{}",
        b'{"choices":null}',
        b'{"choices":"none"}',
        b'{"choices":{}}',
        b'{"choices":[7]}',
        b'{"choices":[null]}',
        b'{"choices":[{"message":"x","delta":"x"}]}',
        b'{"choices":[{"message":[],"delta":[]}]}',
        b'{"choices":[{"index":"0","delta":{}}]}',
        b'{"choices":[{"index":null,"delta":{}}]}',
        b'{"choices":[{"message":{"content":"\xff"},"delta":{"content":"\xff"}}]}',
        b"[" * 100_000,
        b'{"choices":[' + b"9" * 5000 + b"]}",
    ],
    ids=lambda data: str(data[:24]),
)
def test_what_is_no_answer_is_malformed(data: bytes) -> None:
    with pytest.raises(UpstreamMalformed, match=r"^vendor "):
        wire.completion("vendor", data)
    with pytest.raises(UpstreamMalformed, match=r"^vendor "):
        wire.chunk("vendor", data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"data":null}', b'{"data":{}}', b"<html>"])
def test_what_is_no_embedding_is_malformed(data: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        wire.embeddings("p", data)


def test_embeddings_pass() -> None:
    body = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "m"}
    assert wire.embeddings("p", _encode(body)) == body
    assert wire.embeddings("p", b'{"data":[]}') == {"data": [], "object": "list"}


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["choices", "error", "id", "created", "model", "usage", "data"])
CHOICES = st.lists(st.dictionaries(st.sampled_from(["index", "message", "delta", "finish_reason"]), JUNK, max_size=4), max_size=2)


@settings(max_examples=50)
@given(st.dictionaries(NAMES, JUNK | CHOICES))
def test_any_json_is_an_answer_or_an_upstream_error(body: Json) -> None:
    data = _encode(body)
    for read in (wire.completion, wire.chunk, wire.embeddings):
        try:
            found: Any = read("p", data)
        except UpstreamError as error:
            error.wire()
        else:
            _encode(found)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_malformed(data: bytes) -> None:
    for read in (wire.completion, wire.chunk, wire.embeddings):
        with pytest.raises(UpstreamMalformed):
            read("p", data)


# Server-sent events


def parsed(pieces: list[bytes]) -> list[bytes]:
    buffer, found = bytearray(), []
    for piece in pieces:
        buffer += piece
        found += list(wire.events(buffer, len(piece)))
    return found


LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12).map(str.encode)
DATA = LINE.filter(lambda line: line != b"")


@st.composite
def event_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream in one style of line ends, and the data of its events."""
    end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    stream, expected = b"", []
    for _ in range(draw(st.integers(0, 5))):
        data: list[bytes] = []
        for _ in range(draw(st.integers(1, 4))):
            kind = draw(st.integers(0, 5))
            if kind <= 2:
                line = draw(DATA)
                space = b" " if kind else b""
                stream += b"data:" + space + line + end
                data.append(line if kind else line.removeprefix(b" "))
            else:
                stream += (b": comment", b"event: message", b"id: 7", b"retry: 10")[draw(st.integers(0, 3))] + draw(LINE) + end
        stream += end
        if b"\n".join(data):
            expected.append(b"\n".join(data))
    return stream, expected


@given(event_streams(), st.data())
@example((b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]), None)
def test_however_a_stream_is_cut_its_events_are_the_same(given_: tuple[bytes, list[bytes]], data: st.DataObject | None) -> None:
    stream, expected = given_
    assert parsed([stream]) == expected
    assert parsed([stream[at : at + 1] for at in range(len(stream))]) == expected
    if data is not None:
        cuts = sorted({0, len(stream), *data.draw(st.lists(st.integers(0, len(stream)), max_size=6))})
        assert parsed([stream[start:end] for start, end in pairwise(cuts)]) == expected


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": ping\n\ndata: a\n\n", [b"a"]),
        (b"event: x\nid: 1\ndata: a\nretry: 5\n\n", [b"a"]),
        (b"\n\n\ndata: a\n\n", [b"a"]),
        (b"data: a\r\n\r\ndata: b\n\ndata: c\r\r", [b"a", b"b", b"c"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
        (b"datax: a\n\nno colon\n\n", []),
        (b"data: a", []),
        (b"data: a\n", []),
        (b"data: a\r\n\r", [b"a"]),
    ],
)
def test_events_by_table(stream: bytes, expected: list[bytes]) -> None:
    assert parsed([stream]) == expected
    assert parsed([stream[at : at + 1] for at in range(len(stream))]) == expected


def test_an_unfinished_event_stays_in_the_buffer() -> None:
    buffer = bytearray(b"data: a\n\ndata: b")
    assert list(wire.events(buffer, len(buffer))) == [b"a"]
    assert buffer == b"data: b"


@given(st.binary(max_size=200))
def test_any_bytes_parse(data: bytes) -> None:
    assert all(isinstance(event, bytes) for event in parsed([data[:70], data[70:]]))


# Errors

STATUSES = {
    **dict.fromkeys([400, 404, 405, 409, 410, 413, 415, 422, 451], UpstreamRejected),
    **dict.fromkeys([401, 402, 403], UpstreamRefusedUs),
    **dict.fromkeys([408, 504], UpstreamTimeout),
    429: UpstreamRateLimited,
    **dict.fromkeys([500, 501, 502, 503, 520, 529, 599], UpstreamUnavailable),
    **dict.fromkeys([201, 202, 204, 301, 302, 304], UpstreamMalformed),
}
BODIES = [
    b"",
    b"<html>busy</html>",
    b"\xff\xfe",
    b"[1]",
    b"null",
    b'"x"',
    b'{"error":"text"}',
    b'{"error":{"message":5,"type":[],"code":{},"param":true}}',
    b'{"message":"flat"}',
    b'{"detail":"fastapi"}',
    b"[" * 10_000,
    b'{"error":null}',
]


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_the_kind_of_error_is_told_by_the_status_whatever_the_body(status: int, kind: type[UpstreamError]) -> None:
    for body in BODIES:
        error = wire.error_of("vendor", status, {}, body)
        assert type(error) is kind
        assert error.upstream_status == status
        wired, fields = error.wire()
        assert wired == (status if kind is UpstreamRejected else kind.status)
        assert isinstance(fields["message"], str)
        assert fields["message"]


def test_every_4xx_and_5xx_has_an_error() -> None:
    for status in range(400, 600):
        assert wire.error_of("p", status, {}, b"").upstream_status == status


def test_the_providers_words_are_kept() -> None:
    body = b'{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded","param":"messages"}}'
    assert wire.error_of("p", 400, {}, body).wire() == (
        400,
        {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"},
    )


def test_refused_credentials_do_not_look_like_the_callers() -> None:
    error = wire.error_of("openai", 401, {}, b'{"error":{"message":"Incorrect API key sk-ours","code":"invalid_api_key"}}')
    status, fields = error.wire()
    assert (status, fields["code"]) == (502, "upstream_credentials")
    assert "sk-ours" not in str(fields)
    assert "providers.openai" in str(fields["message"])


def test_what_a_provider_says_is_bounded_and_printable() -> None:
    error = wire.error_of("p", 500, {}, _encode({"error": {"message": "x" * 10**6, "code": "y" * 10**6}}))
    assert len(error.message) == 2000
    assert len(error.upstream_code or "") == 2000
    assert wire.error_of("p", 500, {}, b"\x1b[31m\r\nboo\x00").message == "p answered status 500: [31m  boo"


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "m", "code": "rate_limit_exceeded"}, UpstreamRateLimited, 429),
        ({"message": "m", "code": 429}, UpstreamRateLimited, 429),
        ({"message": "m", "code": 504}, UpstreamTimeout, 504),
        ({"message": "m", "code": 401}, UpstreamUnavailable, 502),
        ({"message": "m", "code": None, "type": "server_error"}, UpstreamUnavailable, 502),
        ({"message": "m", "code": 10**30}, UpstreamUnavailable, 502),
        ("on fire", UpstreamUnavailable, 502),
        (["?"], UpstreamUnavailable, 502),
        (True, UpstreamUnavailable, 502),
    ],
)
def test_an_error_inside_a_200_is_an_error(error: Any, kind: type[UpstreamError], status: int) -> None:
    for read in (wire.completion, wire.chunk, wire.embeddings):
        with pytest.raises(UpstreamError) as caught:
            read("p", _encode({"error": error}))
        assert type(caught.value) is kind
        assert caught.value.wire()[0] == status


def test_a_null_error_beside_an_answer_is_none() -> None:
    assert wire.completion("p", _encode({**WHOLE, "error": None})) == {**WHOLE, "error": None}


# Retry-After


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "5"}, 5.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-1", "retry-after": "9"}, 9.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": "86400"}, 86_400.0),
        ({"retry-after": "86401"}, None),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 -0000"}, None),
        ({"retry-after": "Fri, 99 Dec 9999 99:59:59 GMT"}, None),
    ],
)
def test_retry_after_by_table(headers: dict[str, str], expected: float | None) -> None:
    assert wire.retry_after(headers) == expected


def test_retry_after_as_an_http_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    found = wire.retry_after({"retry-after": date})
    assert found is not None
    assert 90 < found <= 100


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_retry_after_is_bounded_or_none(one: str, other: str) -> None:
    found = wire.retry_after({"retry-after-ms": one, "retry-after": other})
    assert found is None or 0 <= found <= 86_400


@given(st.binary(max_size=300))
def test_an_excerpt_is_short_printable_and_never_empty(data: bytes) -> None:
    shown = wire.excerpt(data)
    assert 0 < len(shown) <= 200
    assert shown.isprintable()
