"""CloudEvents 1.0.2 as they come over HTTP: one, a batch, or one in binary mode (attributes in headers). Pure.

The JSON format: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md; the HTTP binding beside it. Whose an
event is says the key that it came with, never the event. An event that is wrong is refused by itself, and the others are taken.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import unquote

import msgspec

from farthing.errors import BodyTooLarge, FarthingError, InvalidRequest, NotAllowed
from farthing.types import OWN_EVENTS, Event, Json

_BATCH: Final = "application/cloudevents-batch+json"
_ONE: Final = "application/cloudevents+json"
_PLAIN: Final = frozenset({"", "application/json", "application/x-www-form-urlencoded"})
"""What a client that says nothing sends: plain JSON. The last one is curl's `-d`."""
_ATTRIBUTES: Final = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64", "user", "tenant"}
)
_LONGEST: Final = {"id": 256, "source": 1024, "type": 256, "subject": 512, "user": 256, "datacontenttype": 256, "dataschema": 1024}
_MOST_EXTENSIONS: Final = 32
_LONGEST_EXTENSION: Final = 1024
_NAME: Final = re.compile(r"[a-z0-9]{1,20}")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_JSON_MEDIA: Final = re.compile(r"[^/;]+/(?:json|[^;]*\+json)")
_NUL: Final = rb"\u0000"
_DEEPEST: Final = 100
_INT32: Final = 2**31
_SHOWN: Final = 64
_SPEC: Final = '"specversion": "1.0"'

Time = Annotated[datetime, msgspec.Meta(tz=True)]
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_value = msgspec.json.Decoder().decode


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Whose events they are, and what is taken. `user` is whom the key is bound to, None for nobody. `now` is when they arrived."""

    tenant: str
    user: str | None
    now: datetime
    max_events: int
    max_event_bytes: int
    max_ahead_s: float
    max_age_s: float


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was not taken: its place in the batch, its id where it has one, and why."""

    index: int
    id: str | None
    error: FarthingError


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """What a body held. `single`: it was one event and no batch."""

    events: list[Event]
    refused: list[Refused]
    single: bool


def read(body: bytes, headers: Sequence[tuple[bytes, bytes]], terms: Terms) -> Arrived:
    """The events of a request. Raises `InvalidRequest` where it cannot be told what they are, `BodyTooLarge` where there are too many."""
    media = _header(headers, b"content-type").partition(";")[0].strip().lower()
    if media not in {_BATCH, _ONE}:
        attributes = _binary(headers)
        if attributes:
            return _read([body], [attributes], terms, media=media, single=True)
        if media not in _PLAIN:
            raise InvalidRequest(
                f"content-type {media[:_SHOWN]!r}: send a CloudEvent as {_ONE}, several as {_BATCH}, either as application/json, "
                "or any data with the attributes in headers ce-id, ce-source, ce-type and ce-specversion",
                param="content-type",
            )
    single = not body.lstrip(b" \t\r\n").startswith(b"[")
    return _read([body] if single else _pieces(body, terms), None, terms, single=single)


def _pieces(body: bytes, terms: Terms) -> list[msgspec.Raw]:
    try:
        pieces = _raws(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not a JSON array of CloudEvents: {error}") from None
    if len(pieces) > terms.max_events:
        raise BodyTooLarge(f"{len(pieces)} events in a batch; {terms.max_events} may be (setting events.door.max_events)")
    if not pieces:
        raise InvalidRequest("the batch is empty: send at least one event")
    return pieces


def _read(
    pieces: Sequence[bytes | msgspec.Raw], attributes: Sequence[Json] | None, terms: Terms, *, single: bool, media: str = ""
) -> Arrived:
    events, refused = [], []
    for index, piece in enumerate(pieces):
        raw = bytes(piece)
        fields: Json = {}
        try:
            if len(raw) > terms.max_event_bytes:
                raise BodyTooLarge(f"an event of {len(raw)} bytes; {terms.max_event_bytes} may be (setting events.door.max_event_bytes)")
            fields = _with_data(attributes[index], raw, media) if attributes is not None else _fields(raw)
            events.append(_event(fields, raw, terms))
        except FarthingError as error:
            named = fields.get("id")
            refused.append(Refused(index=index, id=named[: _LONGEST["id"]] if isinstance(named, str) else None, error=error))
    return Arrived(events=events, refused=refused, single=single)


def _fields(raw: bytes) -> Json:
    try:
        return _object(raw)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"an event is a JSON object with specversion, id, source, type and data: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the event is not JSON: {error}") from None


def _header(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> str:
    return next((str(value, "latin-1") for key, value in headers if key == name), "")


def _binary(headers: Sequence[tuple[bytes, bytes]]) -> Json:
    """The attributes in headers `ce-…`, percent-decoded (HTTP binding, 3.1.3.2). Empty when there are none."""
    found: Json = {}
    for key, value in headers:
        if key.startswith(b"ce-"):
            name = str(key[3:], "latin-1")
            if name in found:
                raise InvalidRequest(f"the header ce-{name[:_SHOWN]} comes twice", param=f"ce-{name[:_SHOWN]}")
            try:
                found[name] = unquote(str(value, "ascii").strip(), errors="strict")
            except UnicodeDecodeError:
                raise InvalidRequest(f"ce-{name[:_SHOWN]} must be percent-encoded UTF-8", param=f"ce-{name[:_SHOWN]}") from None
    return found


def _with_data(attributes: Json, body: bytes, media: str) -> Json:
    """An event whose data are the body: JSON, else text, else base64 of what it is."""
    fields = {**attributes, "datacontenttype": media} if media else dict(attributes)
    for name in ("data", "data_base64"):
        if name in fields:
            raise InvalidRequest(f"ce-{name} is no attribute: in binary mode the body is the data", param=f"ce-{name}")
    if body:
        fields["data"] = _decoded(body, media or "application/json")
    return fields


def _decoded(data: bytes, media: str) -> Any:
    if _JSON_MEDIA.fullmatch(media):
        try:
            return _value(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"data are not JSON, as datacontenttype says: {error}", param="data") from None
    try:
        return data.decode() if media.startswith("text/") else base64.b64encode(data).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("data are not UTF-8 text, as datacontenttype says", param="data") from None


def _event(fields: Json, raw: bytes, terms: Terms) -> Event:
    """An event that is right. Raises `InvalidRequest` or `NotAllowed` that say what is not."""
    version = fields.get("specversion")
    if version != "1.0":
        _wrong(
            "specversion", f"must be there: write {_SPEC}" if version is None else f"{str(version)[:_SHOWN]!r} is unknown: write {_SPEC}"
        )
    kind = _text(fields, "type", needed=True)
    source = _text(fields, "source", needed=True)
    for name, value in (("type", kind), ("source", source)):
        if value.startswith(OWN_EVENTS):
            raise NotAllowed(f"{name}: what begins with {OWN_EVENTS!r} comes from Farthing itself; take another name", param=name)
    _whose(fields, terms)
    return Event(
        id=_text(fields, "id", needed=True),
        source=source,
        type=kind,
        tenant=terms.tenant,
        subject=_text(fields, "subject") or None,
        user=terms.user or _text(fields, "user") or None,
        time=_time(fields.get("time"), terms),
        data=_data(fields, raw),
        extensions=_extensions(fields),
        received_at=terms.now,
    )


def _wrong(param: str, message: str) -> NoReturn:
    raise InvalidRequest(f"{param}: {message}", param=param)


def _text(fields: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    """A text attribute; empty when it is absent and need not be there."""
    value = fields.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or not value:
        _wrong(name, "must be there, and be a text that is not empty" if needed else "must be a text that is not empty")
    if len(value) > _LONGEST[name] or len(value.encode(errors="replace")) > _LONGEST[name]:
        _wrong(name, f"may have {_LONGEST[name]} bytes")
    if not value.isprintable() and _CONTROL.search(value):
        _wrong(name, "may hold no control characters")
    return value


def _whose(fields: Mapping[str, Any], terms: Terms) -> None:
    """See that an event does not claim to be another's."""
    tenant, user = fields.get("tenant"), fields.get("user")
    if tenant is not None and tenant != terms.tenant:
        raise NotAllowed("tenant: the key is another tenant's; leave `tenant` out, the key says it", param="tenant")
    if terms.user is not None and user is not None and user != terms.user:
        raise NotAllowed("user: the key is bound to another user; leave `user` out, the key says it", param="user")


def _time(value: Any, terms: Terms) -> datetime:
    if value is None:
        return terms.now
    try:
        found: datetime = msgspec.convert(value, Time)
        ahead = found - terms.now
    except (msgspec.ValidationError, OverflowError):
        _wrong("time", f"{str(value)[:_SHOWN]!r} is no RFC 3339 time with a zone, such as {terms.now:%Y-%m-%dT%H:%M:%SZ}")
    if ahead > timedelta(seconds=terms.max_ahead_s):
        _wrong(
            "time",
            f"{str(value)[:_SHOWN]} lies ahead by more than {terms.max_ahead_s:g} s (setting events.door.max_ahead_s): see the clock",
        )
    if -ahead > timedelta(seconds=terms.max_age_s):
        _wrong("time", f"{str(value)[:_SHOWN]} is more than {terms.max_age_s:g} s ago (setting events.door.max_age_s)")
    return found.astimezone(UTC)


def _data(fields: Mapping[str, Any], raw: bytes) -> Any:
    data, packed = fields.get("data"), fields.get("data_base64")
    if packed is not None:
        if data is not None:
            _wrong("data_base64", "an event has data or data_base64, not both")
        data, raw = _unpacked(packed, str(fields.get("datacontenttype") or ""))
    if _NUL in raw or b"\0" in raw:
        _see_no_nul(data)
    if raw.count(b"[") + raw.count(b"{") > _DEEPEST:
        _see_bottom(data)
    return data


def _unpacked(packed: Any, media: str) -> tuple[Any, bytes]:
    try:
        raw = base64.b64decode(packed, validate=True) if isinstance(packed, str) else b""
    except binascii.Error:
        raw = b""
    if not raw:
        _wrong("data_base64", "must be a text in base64")
    return _decoded(raw, media.partition(";")[0].strip().lower()), raw


def _see_no_nul(data: Any) -> None:
    """PostgreSQL's texts cannot hold that character."""
    waiting = [data]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str) and "\0" in one:
            _wrong("data", "holds a NUL character, which cannot be stored")


def _see_bottom(data: Any) -> None:
    """What is nested deeper could be read here, and not be written by whoever comes with a longer stack."""
    level = [data] if isinstance(data, dict | list) else []
    for _ in range(_DEEPEST):
        level = [one for outer in level for one in (outer.values() if isinstance(outer, dict) else outer) if isinstance(one, dict | list)]
        if not level:
            return
    _wrong("data", f"is nested deeper than {_DEEPEST} levels")


def _extensions(fields: Mapping[str, Any]) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for name in ("datacontenttype", "dataschema"):
        value = _text(fields, name)
        if value and value != "application/json":
            found[name] = value
    for name, value in fields.items():
        if name not in _ATTRIBUTES and value is not None:
            found[name] = _extension(name, value)
    if len(found) > _MOST_EXTENSIONS:
        raise InvalidRequest(f"an event may have {_MOST_EXTENSIONS} extension attributes, this one has {len(found)}")
    return found


def _extension(name: str, value: Any) -> str | int | bool:
    if not _NAME.fullmatch(name):
        _wrong(name[:_SHOWN], "an attribute's name has 1 to 20 lower-case letters and digits; what is not an attribute belongs into data")
    if isinstance(value, bool) or (type(value) is int and -_INT32 <= value < _INT32):
        return bool(value) if isinstance(value, bool) else int(value)
    if not isinstance(value, str) or len(value) > _LONGEST_EXTENSION or _CONTROL.search(value):
        _wrong(
            name, f"an extension attribute is a text of at most {_LONGEST_EXTENSION} characters, a whole number of 32 bits, true or false"
        )
    return value
