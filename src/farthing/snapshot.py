"""The last known good state of something whose home is PostgreSQL, in a file: a start without PostgreSQL goes on from it.

`DATA/snapshot/NAME.jsonl`: one line of JSON that says what follows (name, version, when, how many, SHA-256), then one line a record. The
file is replaced whole (write, fsync, rename), so a reader finds the old one or the new one; one that was cut, edited or written by a
version that is not understood counts as none. Mode 0600: it holds no secret, but whoever can write it could invent what is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from farthing.types import new_id, utc_now

_log = logging.getLogger("farthing.snapshot")
_encoder = msgspec.json.Encoder()
_MOST_HEAD = 4096

Record = TypeVar("Record", bound=msgspec.Struct)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. `sha256` is over all bytes after it; `at` is when the state was true."""

    name: str
    version: int
    at: datetime
    records: int
    sha256: str


class Saved(msgspec.Struct, Generic[Record], frozen=True, kw_only=True):
    """What a snapshot held, and since when nobody has confirmed it."""

    records: list[Record]
    at: datetime


class Snapshot(Generic[Record]):
    """A file of records of one struct type.

    Raise `version` when the struct changes so that older files would be misread (a new field with a default is no such change). A file
    larger than `max_bytes` is neither written nor read: of more records than fit, the first ones are kept. Several processes may write
    the same snapshot; the last one counts. `write` and `read` block on the disk and never raise: call them in a thread.
    """

    def __init__(self, directory: Path, name: str, record: type[Record], *, version: int = 1, max_bytes: int = 64 * 2**20) -> None:
        self.path = directory / f"{name}.jsonl"
        self._name = name
        self._version = version
        self._max_bytes = max_bytes
        self._decode = msgspec.json.Decoder(record).decode_lines

    def write(self, records: Sequence[Record]) -> bool:
        """Replace the file. False when the disk refused (logged): the old file then stays as it was."""
        body, count = self._body(records)
        head = Head(name=self._name, version=self._version, at=utc_now(), records=count, sha256=hashlib.sha256(body).hexdigest())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(self.path, _encoder.encode(head) + b"\n" + body)
        except OSError as error:
            _log.warning("the snapshot %s could not be written: %s", self.path, error.strerror or error)
            return False
        return True

    def read(self) -> Saved[Record] | None:
        """What the file holds; None when there is none, or none that can be trusted (logged)."""
        try:
            with self.path.open("rb") as file:
                first = file.readline(_MOST_HEAD)
                body = file.read(self._max_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("the snapshot %s cannot be read: %s", self.path, error.strerror or error)
            return None
        try:
            return self._checked(first, body)
        except ValueError as error:  # msgspec's errors are ValueErrors
            _log.warning("the snapshot %s is ignored: %s", self.path, error)
            return None

    def _body(self, records: Sequence[Record]) -> tuple[bytes, int]:
        """The lines of as many records as fit, and their number."""
        body = _encoder.encode_lines(records)
        if len(body) <= self._max_bytes:
            return body, len(records)
        end = body.rfind(b"\n", 0, self._max_bytes) + 1
        count = body.count(b"\n", 0, end)
        _log.warning("the snapshot %s is full: %d of %d records are kept", self.path, count, len(records))
        return body[:end], count

    def _checked(self, first: bytes, body: bytes) -> Saved[Record]:
        head = msgspec.json.decode(first, type=Head)
        if (head.name, head.version) != (self._name, self._version):
            raise ValueError(f"it holds {head.name} in version {head.version}, not {self._name} in version {self._version}")
        if len(body) > self._max_bytes or hashlib.sha256(body).hexdigest() != head.sha256:
            raise ValueError("it is damaged")
        return Saved(records=self._decode(body), at=head.at)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in the place of another so that readers, and a power cut, see one of the two. Raises OSError."""
    draft = path.with_name(f"{path.name}.{new_id()}.new")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
