"""CloudEvents in all forms that HTTP has for them, and what is refused of them."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import BodyTooLarge, FarthingError, InvalidRequest
from farthing.events.cloudevents import Arrived, Terms, read

_NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
_ONE = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"


def _terms(**facts: Any) -> Terms:
    usual = {"tenant": "acme", "user": None, "now": _NOW, "max_events": 10_000, "max_event_bytes": 65_536, "max_ahead_s": 300}
    return Terms(**{**usual, "max_age_s": 30 * 86_400, **facts})


def _event(**facts: Any) -> dict[str, Any]:
    usual = {"specversion": "1.0", "id": "e1", "source": "app", "type": "page.viewed", "data": {"page": "/"}}
    return {name: value for name, value in {**usual, **facts}.items() if value is not ...}


def _read(body: object, media: str = "application/json", *more: tuple[bytes, bytes], **facts: Any) -> Arrived:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(raw, [(b"content-type", media.encode()), *more], _terms(**facts))


def _refusal(event: object, **facts: Any) -> FarthingError:
    arrived = _read(event, **facts)
    assert not arrived.events
    (refused,) = arrived.refused
    return refused.error


@pytest.mark.parametrize("media", [_ONE, "application/json", f"{_ONE}; charset=utf-8", "application/x-www-form-urlencoded", ""])
def test_one_event_is_read(media: str) -> None:
    given_at = "2026-11-28T11:59:00+01:00"
    arrived = _read(_event(subject="home", time=given_at, user="ann", priority=3, traceparent="00-a", tenant="acme"), media)
    assert arrived.single
    assert arrived.refused == []
    (event,) = arrived.events
    assert (event.id, event.source, event.type, event.subject) == ("e1", "app", "page.viewed", "home")
    assert (event.tenant, event.user, event.data) == ("acme", "ann", {"page": "/"})
    assert event.time == datetime(2026, 11, 28, 10, 59, tzinfo=UTC)
    assert event.received_at == _NOW
    assert event.extensions == {"priority": 3, "traceparent": "00-a"}


@pytest.mark.parametrize("media", [_BATCH, "application/json"])
def test_of_ten_thousand_with_one_bad_that_one_is_told_and_the_others_are_taken(media: str) -> None:
    events = [_event(id=f"e{number}") for number in range(10_000)]
    del events[4711]["id"]
    arrived = _read(events, media)
    assert len(arrived.events) == 9_999
    (refused,) = arrived.refused
    assert (refused.index, refused.id) == (4711, None)
    assert refused.error.param == "id"
    assert not arrived.single


def test_an_event_in_binary_mode_has_its_attributes_in_headers_and_its_data_in_the_body() -> None:
    headers = {"specversion": "1.0", "id": "e1", "source": "app", "type": "order.paid", "user": "Zoë", "subject": "a b"}
    lines = [(f"ce-{name}".encode(), quote(value).encode()) for name, value in headers.items()]
    (event,) = _read(b'{"sum": 5}', "application/json", *lines).events
    assert (event.user, event.subject, event.data, event.extensions) == ("Zoë", "a b", {"sum": 5}, {})
    (event,) = _read(b"hello", "text/plain; charset=utf-8", *lines).events
    assert (event.data, event.extensions) == ("hello", {"datacontenttype": "text/plain"})
    (event,) = _read(b"\x00\xff", "image/png", *lines).events
    assert event.data == base64.b64encode(b"\x00\xff").decode()
    (event,) = _read(b"", "application/json", *lines).events
    assert event.data is None
    for bad in ([*lines, lines[0]], [(b"ce-id", b"%ff"), *lines[2:]], [(b"ce-id", b"\xff")]):
        with pytest.raises(InvalidRequest, match="ce-"):
            _read(b"{}", "application/json", *bad)
    assert _read(b"{", "application/json", *lines).refused[0].error.param == "data"


@pytest.mark.parametrize(
    ("facts", "param"),
    [
        ({"specversion": ...}, "specversion"),
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ...}, "id"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"id": "a\u0000b"}, "id"),
        ({"source": ...}, "source"),
        ({"source": "é" * 513}, "source"),
        ({"source": "farthing.modes"}, "source"),
        ({"type": ...}, "type"),
        ({"type": "farthing.mode.changed"}, "type"),
        ({"subject": ["a"]}, "subject"),
        ({"subject": "a\nb"}, "subject"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-11-28T12:00:00"}, "time"),
        ({"time": 1_700_000_000}, "time"),
        ({"time": "2026-11-28T12:05:01Z"}, "time"),
        ({"time": "9999-12-31T23:59:59Z"}, "time"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "time"),
        ({"time": "2026-10-01T00:00:00Z"}, "time"),
        ({"tenant": "rival"}, "tenant"),
        ({"tenant": 5}, "tenant"),
        ({"data": "a\u0000b"}, "data"),
        ({"data": {"deep": [{"a\u0000b": 1}]}}, "data"),
        ({"data_base64": "aGk="}, "data_base64"),
        ({"data": ..., "data_base64": "!"}, "data_base64"),
        ({"data": ..., "data_base64": "fw==", "datacontenttype": "application/json"}, "data"),
        ({"Name": "x"}, "Name"),
        ({"a_b": "x"}, "a_b"),
        ({"number": 1.5}, "number"),
        ({"number": 2**31}, "number"),
        ({"thing": {"a": 1}}, "thing"),
        ({"thing": "x" * 1025}, "thing"),
    ],
)
def test_an_event_that_is_wrong_is_refused_with_the_name_of_what_is_wrong(facts: dict[str, Any], param: str) -> None:
    error = _refusal(_event(**facts))
    assert error.param == param
    assert param in error.message


def test_a_key_that_is_bound_to_a_user_speaks_for_that_user_alone() -> None:
    assert _refusal(_event(user="bob"), user="ann").status == 403
    for event in (_event(), _event(user="ann")):
        assert _read(event, user="ann").events[0].user == "ann"


def test_what_is_null_is_not_there() -> None:
    (event,) = _read(_event(subject=None, time=None, user=None, flag=None, data=None, tenant=None)).events
    assert (event.subject, event.time, event.user, event.extensions, event.data) == (None, _NOW, None, {}, None)


def test_what_looks_like_a_nul_and_is_none_is_taken() -> None:
    (event,) = _read(_event(data="C:\\u0000")).events
    assert event.data == "C:\\u0000"


def test_data_in_base64_are_what_their_type_says() -> None:
    packed = base64.b64encode(b'{"a": 1}').decode()
    (event,) = _read(_event(data=..., data_base64=packed, datacontenttype="application/json")).events
    assert event.data == {"a": 1}
    (event,) = _read(_event(data=..., data_base64=packed)).events
    assert event.data == packed


def test_a_large_event_is_refused_and_its_batch_is_not() -> None:
    large = _event(id="large", data="x" * 65_536)
    assert isinstance(_refusal(large), BodyTooLarge)
    arrived = _read([_event(), large])
    assert [event.id for event in arrived.events] == ["e1"]
    assert [(one.index, one.error.code) for one in arrived.refused] == [(1, "body_too_large")]
    with pytest.raises(BodyTooLarge, match="max_events"):
        _read([_event(), _event()], max_events=1)


@pytest.mark.parametrize("body", [b"[", b"[]", b"[{}", b"\xff[", b"[" * 3000])
def test_a_body_that_is_no_batch_is_an_error(body: bytes) -> None:
    if body.startswith(b"["):
        with pytest.raises(InvalidRequest):
            _read(body)
    else:
        assert isinstance(_refusal(body), InvalidRequest)


@pytest.mark.parametrize("media", ["application/cloudevents+avro", "application/xml", "multipart/form-data"])
def test_another_format_is_told_what_to_send(media: str) -> None:
    with pytest.raises(InvalidRequest, match="application/cloudevents-batch") as caught:
        _read(_event(), media)
    assert caught.value.param == "content-type"


@pytest.mark.parametrize(("begin", "end", "levels"), [("[", "]", 1), ('{"a": ', "}", 1), ('[1, {"a": ', "}]", 2)])
def test_deep_data_are_refused(begin: str, end: str, levels: int) -> None:
    for depth in (2, 100, 102, 900, 5000):
        event = json.dumps(_event(data=...))[:-1] + ', "data": ' + begin * (depth // levels) + "1" + end * (depth // levels) + "}"
        arrived = _read(event.encode())
        assert (len(arrived.events), len(arrived.refused)) == ((1, 0) if depth <= 100 else (0, 1)), depth


def test_wide_data_are_not_deep() -> None:
    wide = {"rows": [{"a": [1]} for _ in range(500)]}
    assert _read(_event(data=wide)).events[0].data == wide


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(["specversion", "id", "source", "type", "subject", "time", "user", "tenant", "data", "data_base64", "x1"])
_good = st.builds(lambda name: _event(id=name), st.text(min_size=1, max_size=20))
_times = st.builds(lambda s: _event(time=(_NOW + timedelta(seconds=s)).isoformat()), st.integers(-(10**9), 10**9))


@given(st.lists(st.dictionaries(_NAMES, _json) | _good | _times | _json, min_size=1, max_size=5))
def test_each_event_of_a_batch_is_either_taken_or_refused_whatever_it_is(batch: list[Any]) -> None:
    arrived = _read(json.dumps(batch).encode())
    assert len(arrived.events) + len(arrived.refused) == len(batch)
    assert len({one.index for one in arrived.refused}) == len(arrived.refused)
    for event in arrived.events:
        assert event.tenant == "acme"
        assert event.id
        assert event.source
        assert _NOW - timedelta(days=30) <= event.time <= _NOW + timedelta(seconds=300)
        assert "\0" not in json.dumps(event.data, ensure_ascii=False)


@given(st.binary(max_size=64), st.sampled_from([_ONE, _BATCH, "application/json", "text/plain", "\xff", "application/"]))
def test_any_bytes_are_events_or_an_error_of_ours(body: bytes, media: str) -> None:
    try:
        arrived = read(body, [(b"content-type", media.encode("latin-1"))], _terms())
    except InvalidRequest:
        return
    assert arrived.events or arrived.refused
