"""Rules for the documents that all workers agree on (`ports.ConfigStore`), the same in every store. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from farthing.errors import Conflict, InvalidRequest
from farthing.types import Document, Json

MOST_BYTES = 64 * 1024
"""Of a document, as JSON."""

KEPT = 1000
"""Versions of a document that a store of ours keeps at most."""

MOST_NAMES = 100
"""Documents of different names that a store of ours holds at most."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL character as JSON writes it, and not the text of that."""
_MOST_TEXT = 500
_encode = msgspec.json.Encoder(order="deterministic").encode


def checked_name(name: str) -> str:
    """The name of a document, which may be a file's name. Raises `InvalidRequest`."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name[:64]!r} is no name of a document: 1 to 63 small letters, digits, _ and -, beginning with a letter")
    return name


def encoded(name: str, body: Json) -> bytes:
    """The document's body as JSON. Raises `InvalidRequest` for what is no JSON object, is too large, or no store could hold."""
    checked_name(name)
    try:
        data = _encode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"the document {name!r} cannot be written as JSON: {error}") from None
    if not data.startswith(b"{"):
        raise InvalidRequest(f"the document {name!r} must be a JSON object")
    if len(data) > MOST_BYTES:
        raise InvalidRequest(f"the document {name!r} is {len(data)} bytes long, and {MOST_BYTES} is the most")
    if _NUL.search(data):
        raise InvalidRequest(f"the document {name!r} holds a NUL character")
    return data


def decoded(name: str, data: bytes | str) -> Json:
    """The body of a document that somebody else may have written. Raises `InvalidRequest` when it is no JSON object."""
    try:
        body: Any = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the document {name!r} is no JSON: {error}") from None
    if not isinstance(body, Mapping):
        raise InvalidRequest(f"the document {name!r} is no JSON object")
    return dict(body)


def line(text: str) -> str:
    """Who, or why, as one line that every store can hold."""
    return "".join(character if character.isprintable() else " " for character in text[:_MOST_TEXT])


def may_follow(name: str, latest: Document | None, expect: int | None) -> int:
    """The number of the version that follows. Raises `Conflict`, which names the latest one, unless that is as expected."""
    version = 0 if latest is None else latest.version
    if expect is not None and expect != version:
        raise conflict(name, latest, expect)
    return version + 1


def conflict(name: str, latest: Document | None, expect: int) -> Conflict:
    """Somebody else was faster."""
    if latest is None:
        return Conflict(f"the document {name!r} was never written, so its version is 0 and not {expect}: read it again, then decide")
    why = f" ({latest.reason})" if latest.reason else ""
    return Conflict(
        f"the document {name!r} is at version {latest.version} and not {expect}: {latest.by or 'somebody'} wrote it "
        f"at {latest.at:%Y-%m-%dT%H:%M:%SZ}{why}. Read it again, then decide"
    )
