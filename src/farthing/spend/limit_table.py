"""What the workers of one host know together about the keys that have limits: a file of rows, one a key.

A row holds two token buckets, and for each worker how many requests of the key it has under way and since when its first one in line
waits. The buckets are read, changed and written under a byte-range lock of the row (an open file description lock, fcntl(2)), which the
kernel lets go of when a worker is killed. Its own two numbers a worker writes alone. It holds another lock for as long as it lives: whose
lock is free is dead, and what it had under way does not count.

The file is read and written by system calls and not mapped, although that costs 1.5 µs a visit: whoever has a file mapped that somebody
cuts off, or for which a full disk has no block, is killed (SIGBUS, mmap(2)). What is missing is an unused row. Times are CLOCK_MONOTONIC,
which all processes of a host share.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

_LAYOUT = 1
_FLOCK = struct.Struct("hhqqi0q")
"""`struct flock` of 64-bit Linux: type, whence, start, length, process."""
_NUMBER = struct.Struct("<d")
_WINDOW = 64
"""Rows that are looked at for a key."""
_KEY_BYTES = 16
_CHUNK_BYTES = 2**20
_HEAD_BYTES = 48
_CLAIMS_AT = 2**40
_OWNERS_AT = 2**41
_PATIENCE_S = 0.02
"""A lock is held for microseconds. Longer, its holder is stopped: then an error of one is better than waiting."""
_PAUSE_S = 20e-6
_TRIES = 4
"""How often the processor is offered to the holder before sleeping, which takes longer than a lock is held."""
_ATTACH_EVERY_S = 1.0
_MINUTE_S = 60.0
_ABSURD = 2.0**31
"""No worker has so many requests under way."""

REQUESTS, TOKENS = 2, 4
"""Where in a row's numbers the buckets are: how full, and then the instant at which that was. Before them is the key."""
_SINCE = 6
"""Where the workers' numbers begin: first since when one waits, then how many are under way."""

Row: TypeAlias = "memoryview[float]"
"""A row's numbers (floats). Those of a locked row are valid until the visit ends."""
Found = TypeVar("Found")


def columns_for(workers: int) -> int:
    """How many workers the file has room for: those of a start, and as many that still drain.

    A power of two, so that a few workers more or less after a reload share the file with those that drain.
    """
    return max(8, 1 << (2 * workers + 1).bit_length())


class NoRoom(Exception):
    """All rows near a key's place have requests under way."""


class LimitTable:
    """One worker's way to the file, which is `folder`/limits-…; the folder is created.

    Visits raise OSError where the file cannot be used; a later one tries again. `rows` bounds the keys that are told apart: when a key
    comes that has no row, the row near its place that was idle longest is used anew. `crowded` counts how often one was taken that had
    been in use within a minute. `columns` bounds the workers that may be there at the same time.
    """

    def __init__(self, folder: Path, *, rows: int, columns: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = folder / f"limits-{_LAYOUT}.{rows}x{columns}"
        self.clock = clock
        self.crowded = 0
        self._rows = rows
        self._count = _SINCE + columns
        self._columns = columns
        self._size = _HEAD_BYTES + 16 * columns
        self._bytes = bytearray(self._size)
        self._head = memoryview(self._bytes)[:_HEAD_BYTES]
        self._row: Row = memoryview(self._bytes).cast("d")
        self._places: dict[bytes, tuple[int, bytes, bytes]] = {}
        self._held: dict[bytes, int] = {}
        self._since: dict[bytes, float] = {}
        self._fd = -1
        self._column = 0
        self._try_at = 0.0

    def visit(self, key: bytes, work: Callable[[Row, float], Found], *, write: bool = True) -> Found:
        """Do `work(row, now)` with a key's row while nobody else does, and keep what it made of the buckets if it is to `write`.

        Raises OSError, or `NoRoom`.
        """
        if self._fd < 0:
            self._attach()
        try:
            offset, _, unlock = self._find(key)
            try:
                return work(self._row, self.clock())
            finally:
                if write:
                    os.pwrite(self._fd, self._head, offset)
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, unlock)
        except OSError:
            self.close()  # no lock stays behind
            raise

    def peek(self, key: bytes) -> tuple[float, ...] | None:
        """The numbers of a key's buckets, without a lock: to show. They begin at `REQUESTS`. None when it has no row."""
        place = self._places.get(key)
        if place is None or self._fd < 0:
            return None
        data = os.pread(self._fd, _HEAD_BYTES, place[0])
        return struct.unpack("6d", data) if data[:_KEY_BYTES] == key else None

    def elsewhere(self, row: Row, most: int) -> int:
        """Requests of the key under way in the other workers. Exact where it matters: from `most` on, those of dead ones are sorted out."""
        counts: list[float] = row[self._count : self._count + self._columns].tolist()  # type: ignore[assignment]  # floats: typeshed
        counts[self._column] = 0.0
        total = sum(counts)
        if 0 <= total < most:  # not so for what is no number
            return int(total)
        return int(sum(count for column, count in enumerate(counts) if 0 < count < _ABSURD and self._alive(column)))

    def told(self, row: Row) -> float:
        """What the row says of this worker: as `tell` wrote it, unless the file was damaged."""
        return row[self._count + self._column]

    def tell(self, key: bytes, count: int) -> None:
        """Tell how many requests of the key the others have to count for this worker. Raises OSError when they cannot be told."""
        if count:
            self._held[key] = count
        else:
            self._held.pop(key, None)
        self._tell(key, self._count, count)

    def line(self, key: bytes, since: float | None) -> None:
        """Tell since when this worker's first in line for the key has waited; None: nobody waits. Raises OSError as `tell` does."""
        if since is None:
            self._since.pop(key, None)
        else:
            self._since[key] = since
        self._tell(key, _SINCE, since or 0.0)

    def is_first(self, row: Row, since: float, patience_s: float) -> bool:
        """Whether nobody in another worker has waited for the key since before `since`. Who waits beyond `patience_s` is not there."""
        waiting = row[_SINCE : _SINCE + self._columns].tolist()
        oldest = self.clock() - patience_s
        before = [column for column, other in enumerate(waiting) if oldest < other < since and column != self._column]
        return not any(map(self._alive, before))

    def check(self) -> None:
        """Turn to the file of this name if somebody has removed ours. To be called now and then."""
        if self._fd >= 0:
            try:
                found = self.path.stat()
            except OSError:
                self.close()
                return
            ours = os.fstat(self._fd)
            if (found.st_ino, found.st_dev) != (ours.st_ino, ours.st_dev):
                self.close()

    def close(self) -> None:
        """Let go of the file and of all locks."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._places.clear()

    def _attach(self) -> None:
        now = time.monotonic()
        if now < self._try_at:
            raise OSError("the file of the limits could not be opened a moment ago")
        self._try_at = now + _ATTACH_EVERY_S
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(self._fd, 0, self._rows * self._size)
            self._claim_column()
        except OSError:
            self.close()
            raise
        self._try_at = 0.0
        for key in {*self._held, *self._since}:
            self._tell(key, self._count, self._held.get(key, 0))
            self._tell(key, _SINCE, self._since.get(key, 0.0))

    def _claim_column(self) -> None:
        """Take the first column whose worker is dead, and clear it."""
        column = next((column for column in range(self._columns) if self._try_lock(_flock(fcntl.F_WRLCK, _OWNERS_AT + column))), None)
        if column is None:
            raise OSError(f"{self._columns} workers share {self.path} already")
        self._column = column
        step = self._size * max(1, _CHUNK_BYTES // self._size)
        for offset in range(0, self._rows * self._size, step):
            data = os.pread(self._fd, min(step, self._rows * self._size - offset), offset)
            numbers = memoryview(data[: len(data) // 8 * 8]).cast("d")
            for at in (_SINCE + column, self._count + column):
                for place, number in enumerate(numbers[at :: self._size // 8].tolist()):
                    if number:
                        os.pwrite(self._fd, bytes(8), offset + place * self._size + at * 8)

    def _find(self, key: bytes) -> tuple[int, bytes, bytes]:
        """Lock a key's row and read it. Returns where it is, and what locks and unlocks it."""
        place = self._places.get(key)
        if place is not None:
            self._lock(place[1])
            self._read(place[0])
            if self._bytes[:_KEY_BYTES] == key:
                return place
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, place[2])
        self._lock(_flock(fcntl.F_WRLCK, _CLAIMS_AT))
        place = self._search(key)
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, _CLAIMS_AT))
        if place is None:
            raise NoRoom("all rows near the key's place are in use: raise limits.max_keys")
        if len(self._places) >= self._rows:
            self._places.clear()
        self._places[key] = place
        return place

    def _search(self, key: bytes) -> tuple[int, bytes, bytes] | None:
        """A key's row, or else the first unused one, or else the one that was idle longest; locked and read."""
        home = int.from_bytes(key[8:], "big")
        candidates: list[tuple[float, int, bytes]] = []
        for step in range(min(_WINDOW, self._rows)):
            number = (home + step) % self._rows
            self._read(number * self._size)
            owner = bytes(self._bytes[:_KEY_BYTES])
            used_at = max(self._row[REQUESTS + 1], self._row[TOKENS + 1])
            candidates.append((used_at, number, owner))
            if owner in (key, bytes(_KEY_BYTES)):
                candidates = [(0.0, number, owner)]
                break
        for used_at, number, owner in sorted(candidates):
            offset, lock, unlock = number * self._size, _flock(fcntl.F_WRLCK, number), _flock(fcntl.F_UNLCK, number)
            self._lock(lock)
            self._read(offset)
            if owner == key:
                return offset, lock, unlock
            if owner not in self._held and not self.elsewhere(self._row, 1):
                self.crowded += used_at > 0 and self.clock() - used_at < _MINUTE_S
                self._bytes[:] = key + bytes(self._size - _KEY_BYTES)
                os.pwrite(self._fd, self._bytes, offset)
                return offset, lock, unlock
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, unlock)
        return None

    def _read(self, offset: int) -> None:
        got = os.preadv(self._fd, [self._bytes], offset)
        if got < self._size:  # somebody cut the file off: what is gone is unused
            self._bytes[got:] = bytes(self._size - got)

    def _tell(self, key: bytes, at: int, number: float) -> None:
        if self._fd < 0 or key not in self._places:
            self.visit(key, _nothing, write=False)
        os.pwrite(self._fd, _NUMBER.pack(number), self._places[key][0] + (at + self._column) * 8)

    def _alive(self, column: int) -> bool:
        if column == self._column:
            return True
        found = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, _OWNERS_AT + column))
        kind: int = _FLOCK.unpack(found)[0]
        return kind != fcntl.F_UNLCK

    def _try_lock(self, lock: bytes) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, lock)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _lock(self, lock: bytes) -> None:
        if self._try_lock(lock):
            return
        for _ in range(_TRIES):
            os.sched_yield()
            if self._try_lock(lock):
                return
        until = time.monotonic() + _PATIENCE_S
        while not self._try_lock(lock) and time.monotonic() < until:
            time.sleep(_PAUSE_S)


def _nothing(_: Row, __: float) -> None:
    """For a visit that only finds the row."""


def _flock(kind: int, at: int) -> bytes:
    return _FLOCK.pack(kind, 0, at, 1, 0)
