"""How answers and versions are written in CloudFront KeyValueStore. `deploy/aws/edge/function.js` reads the same.

| key | value |
|---|---|
| `a.TENANT.USER.ACTION` | an answer: a line of JSON (`Head`), and behind it what is given, unless the head points to S3 |
| `v.TENANT.STATE` | the version of a state, as a number; none is 0 |
| `f.TENANT` or `f.TENANT.USER` | when they were last forgotten, in Unix microseconds |
| `k.ID` | a key that signs tokens (docs/edge-aws.md) |

Names in keys are the first 22 characters of the base64url of their SHA-256: 132 bits.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from farthing.types import EdgeAnswer, Json

MOST_VALUE: Final = 1024
"""Bytes of a value."""
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is said of an answer. Times are Unix microseconds."""

    e: int
    """It expires."""
    t: int
    """It was made."""
    v: dict[str, int]
    """The versions of the states that it was computed from."""
    r: str
    """The request."""
    m: str
    """The model."""
    c: int = 0
    """Micro-dollars."""
    f: str | None = None
    """What is stored is the body's `content`, as it is given, in this `format`; None: it is the body as JSON."""
    x: dict[str, Any] | None = None
    """What else the body has, beside content and format."""
    p: str | None = None
    """Where it is in S3; None: behind the head."""


_FORMATS: Final = ("text", "json")
_heads = msgspec.json.Decoder(Head)


class NotOurs(ValueError):
    """The value is none that we have written."""


def part(name: str) -> str:
    """A name in a key."""
    told = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(told)[:22].decode()


def answer_key(tenant: str, user: str, action: str) -> str:
    """Of an answer."""
    return f"a.{part(tenant)}.{part(user)}.{part(action)}"


def owner_prefix(tenant: str, user: str | None) -> str:
    """What the keys of a user's answers begin with, or (None) of a tenant's."""
    return f"a.{part(tenant)}." if user is None else f"a.{part(tenant)}.{part(user)}."


def version_key(tenant: str, state: str) -> str:
    """Of a state."""
    return state_key(part(tenant), state)


def state_key(tenant_part: str, state: str) -> str:
    """The same, of a tenant that is a part of a key already."""
    return f"v.{tenant_part}.{part(state)}"


def erasure_key(tenant: str, user: str | None) -> str:
    """Of an erasure."""
    return f"f.{part(tenant)}" if user is None else f"f.{part(tenant)}.{part(user)}"


def object_key(answer: EdgeAnswer) -> str:
    """Where an answer's body is in S3: a name that nobody can guess, below a prefix of its user."""
    return f"{answer_key(answer.tenant, answer.user, answer.action).replace('.', '/')}/{answer.request_id.hex}"


class Encoded(msgspec.Struct, frozen=True):
    """The value of an answer; and what it gives, which is to be in S3 where the value `points` there, because it has no room for it.

    `value` is None where there is no room even for what is to be known of it: the names of many states.
    """

    value: str | None
    given: bytes
    points: bool
    kind: str


def encode(answer: EdgeAnswer) -> Encoded:
    """An answer as it is stored."""
    body = answer.body
    plain = body.get("format") in _FORMATS and isinstance(body.get("content"), str)
    rest = {name: value for name, value in body.items() if name not in {"content", "format"}}
    given = body["content"].encode(errors="replace") if plain else msgspec.json.encode(body)
    head = Head(
        e=micros(answer.expires_at),
        t=micros(answer.made_at),
        v=dict(sorted(answer.versions.items())),
        r=answer.request_id.hex,
        m=answer.model,
        c=answer.cost_microusd,
        f=body["format"] if plain else None,
        x=rest if plain and rest else None,
    )
    kind = TEXT if head.f == "text" else JSON
    value = msgspec.json.encode(head) + b"\n" + given
    if len(value) <= MOST_VALUE:
        return Encoded(value.decode(), given, points=False, kind=kind)
    pointer = msgspec.structs.replace(head, p=object_key(answer))
    value = msgspec.json.encode(pointer)
    return Encoded(value.decode() if len(value) <= MOST_VALUE else None, given, points=True, kind=kind)


def decode(value: str) -> tuple[Head, str]:
    """The head of a value, and what it gives; empty where the head points to S3. Raises `NotOurs`."""
    told, _, given = value.partition("\n")
    try:
        return _heads.decode(told), given
    except (msgspec.MsgspecError, RecursionError) as error:
        raise NotOurs(str(error)) from None


def answer_of(tenant: str, user: str, action: str, head: Head, given: bytes) -> EdgeAnswer:
    """An answer from its head and what it gives. Raises `NotOurs`."""
    try:
        return EdgeAnswer(
            tenant=tenant,
            user=user,
            action=action,
            body=_body(head, given),
            model=head.m,
            versions=head.v,
            request_id=UUID(head.r),
            made_at=moment(head.t),
            expires_at=moment(head.e),
            cost_microusd=head.c,
        )
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as error:
        raise NotOurs(str(error)) from None


def _body(head: Head, given: bytes) -> Json:
    if head.f is None:
        return msgspec.json.decode(given, type=Json)
    return {"content": given.decode(), "format": head.f, **(head.x or {})}


def micros(at: datetime) -> int:
    """Unix time in microseconds, without a float on the way."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def moment(unix_micros: int) -> datetime:
    """The same back."""
    return _EPOCH + timedelta(microseconds=unix_micros)
