"""Documents that all workers of one host agree on, in files: where there is to be no database, or the folder is shared already.

`FOLDER/NAME.jsonl` holds the versions of a document, the newest first, one JSON object a line. The file is replaced whole, so a reader
sees all of a version or nothing of it, whatever is killed when. Writers take turns by `flock` on `FOLDER/NAME.lock`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from farthing.config import KEPT, MOST_NAMES, checked_name, encoded, line, may_follow
from farthing.errors import FarthingError, InvalidRequest, Unavailable
from farthing.snapshot import replace_file
from farthing.types import Document, Json, utc_now

_log = logging.getLogger("farthing.config")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Document).decode
_MOST_LINE = 256 * 1024
"""Of a version with all that is said of it; more than the largest that can be written."""
_MOST_FILE = 16 * 2**20
"""More than a hundred versions of the largest size."""
_TURN_S = 0.005
_LOCK_SHARE = 0.8
"""Of a call's time. A writer that has waited longer writes nothing: nobody may be waiting for it any more."""
_Found = TypeVar("_Found")


class FileConfig:
    """`ports.ConfigStore` in a folder, for the workers of one host. No other worker is told of changes: they poll.

    Of each document `kept` versions are in history, and at most 16 MiB. A call may take `timeout_s` seconds. The folder is made when it is
    first written to; files are for their owner only.
    """

    def __init__(
        self, folder: Path, *, poll_s: float = 2.0, timeout_s: float = 5.0, kept: int = KEPT, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.poll_s = poll_s
        self._folder = folder
        self._timeout_s = timeout_s
        self._kept = kept
        self._clock = clock
        self._alone = asyncio.Lock()

    async def read(self, name: str) -> Document | None:
        """See `ports.ConfigStore.read`. A file that somebody has damaged is `Unavailable`."""
        path = self._path(name)
        return await self._in_time(lambda: _latest(path))

    async def write(self, name: str, body: Json, *, expect: int | None, by: str, reason: str) -> Document:
        """See `ports.ConfigStore.write`. After `Unavailable` it may have been written or not."""
        path = self._path(name)
        data = msgspec.Raw(encoded(name, body))
        until = time.monotonic() + _LOCK_SHARE * self._timeout_s
        return await self._in_time(lambda: self._write(path, name, data, until, expect=expect, by=line(by), reason=line(reason)))

    async def history(self, name: str, limit: int) -> list[Document]:
        """See `ports.ConfigStore.history`."""
        path = self._path(name)
        return await self._in_time(lambda: _versions(path, max(limit, 0)))

    def _path(self, name: str) -> Path:
        return self._folder / f"{checked_name(name)}.jsonl"

    async def _in_time(self, work: Callable[[], _Found]) -> _Found:
        """Blocking work in a thread, one at a time: of a disk that hangs, one thread is the victim."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._alone.acquire()
                task = asyncio.create_task(asyncio.to_thread(work))
                task.add_done_callback(self._done)
                return await asyncio.shield(task)
        except TimeoutError:
            raise Unavailable(f"The folder {self._folder} has not answered for {self._timeout_s:g} s.") from None
        except OSError as error:
            raise Unavailable(f"The folder {self._folder} cannot be used: {error.strerror or error}.") from error

    def _done(self, task: asyncio.Task[_Found]) -> None:
        self._alone.release()
        if not task.cancelled():
            task.exception()  # whoever still waits is told

    def _write(self, path: Path, name: str, body: msgspec.Raw, until: float, *, expect: int | None, by: str, reason: str) -> Document:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _turn(path.with_suffix(".lock"), until):
            latest = _latest(path)
            version = may_follow(name, latest, expect)
            if latest is None and len(list(self._folder.glob("*.jsonl"))) >= MOST_NAMES:
                raise InvalidRequest(f"the store holds {MOST_NAMES} documents and no more")
            facts = {"name": name, "version": version, "body": body, "at": self._clock(), "by": by, "reason": reason}
            first = _encode(facts)
            replace_file(path, b"\n".join([first, *_newest(path, self._kept - 1, _MOST_FILE - len(first) - 1)]) + b"\n")
            for draft in self._folder.glob(f"{path.name}.*.new"):  # of a writer that was killed
                draft.unlink(missing_ok=True)
        return _decode(first)


@contextmanager
def _turn(path: Path, until: float) -> Iterator[None]:
    """Wait for the lock until a time of the monotonic clock; the kernel frees it when its holder dies. Raises `Unavailable`."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while not _locked(fd) or time.monotonic() >= until:
            if time.monotonic() >= until:
                raise Unavailable(f"Another process holds {path}.")
            time.sleep(_TURN_S)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _latest(path: Path) -> Document | None:
    try:
        with path.open("rb") as file:
            first = file.readline(_MOST_LINE)
    except FileNotFoundError:
        return None
    return _read(path, first)


def _read(path: Path, data: bytes) -> Document:
    try:
        if not data.endswith(b"\n"):
            raise ValueError("it was cut off")
        document = _decode(data)
        if document.name != path.stem or document.version < 1 or document.at.tzinfo is None:
            raise ValueError("it is of another document")
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise Unavailable(f"The file {path} is damaged ({error}): delete its first line, or put back a copy of it.") from None
    return document


def _newest(path: Path, most: int, most_bytes: int) -> list[bytes]:
    """The lines of the newest versions, as many as there is room for."""
    found: list[bytes] = []
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while len(found) < most and (data := file.readline(_MOST_LINE)):
            most_bytes -= len(data)
            if most_bytes < 0:
                break
            found.append(data.rstrip(b"\n"))
    return found


def _versions(path: Path, most: int) -> list[Document]:
    """The newest versions, up to what is damaged, which is logged."""
    found: list[Document] = []
    for data in _newest(path, most, _MOST_FILE):
        try:
            found.append(_read(path, data + b"\n"))
        except FarthingError as error:
            _log.warning("%s", error.message)
            break
    return found
