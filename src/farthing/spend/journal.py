"""The ledger's way to its store: a file first, the store soon after, each entry exactly once.

An entry is one line, appended with a single write to a file of this worker before the answer's last byte goes out. The page cache holds it
from then on: it survives a kill of the process, not a power cut (no fsync; see docs/ledger.md). A pump copies lines to the store in
batches and cuts the file when all are there. Files are locked by their owner; the lock of a dead worker is free, so any worker finds its
file and finishes it. Entries carry their id, and the store skips those it has: repeating is harmless.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections import deque
from pathlib import Path

import msgspec

from farthing.errors import FarthingError, InvalidRequest
from farthing.ports import LedgerStore
from farthing.types import LedgerEntry, new_id

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger("farthing.ledger")
_MAX_REJECTED_BYTES = 16 * 2**20


class Segment:
    """One locked file of lines. `sent` is how many of its `size` bytes the store has."""

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.path = path
        self.fd = fd
        self.size = size
        self.sent = 0

    @classmethod
    def create(cls, directory: Path) -> Segment:
        """A new file of ours."""
        path = directory / f"{new_id()}.jsonl"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink == 0:
                raise FileNotFoundError(f"another worker took {path.name} for a dead worker's before it was locked")
        except OSError:
            os.close(fd)
            raise
        return cls(path, fd, 0)

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """The file of a dead worker; None while its owner lives or when another worker was faster."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        stat = os.fstat(fd)
        if stat.st_nlink == 0:
            os.close(fd)
            return None
        return cls(path, fd, stat.st_size)

    def lines(self, most: int, most_bytes: int = 2**20) -> tuple[list[bytes], int]:
        """Unsent whole lines, at most `most`, and where they end. A torn last line (the writer was killed) is not one."""
        data = os.pread(self.fd, most_bytes, self.sent)
        parts = data.split(b"\n")[:-1][:most]
        return parts, self.sent + sum(len(part) + 1 for part in parts)

    def cut(self) -> None:
        """Drop what the store has, once it has all."""
        os.ftruncate(self.fd, 0)
        self.size = self.sent = 0

    def remove(self) -> None:
        """Delete the file, then let go of the lock."""
        self.path.unlink(missing_ok=True)
        os.close(self.fd)


class Journal:
    """See `ports.Ledger`. `dropped` counts entries for which neither disk nor memory had room."""

    def __init__(self, directory: Path, *, segment_bytes: int, max_bytes: int, max_in_memory: int = 10_000) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._segments: deque[Segment] = deque()
        self._memory: deque[bytes] = deque()
        self._max_in_memory = max_in_memory
        self.dropped = 0

    @property
    def backlog_bytes(self) -> int:
        """What the store does not have yet."""
        return sum(segment.size - segment.sent for segment in self._segments) + sum(map(len, self._memory))

    def record(self, entry: LedgerEntry) -> None:
        """See `ports.Ledger.record`. When the disk refuses, memory keeps a bounded number of entries."""
        line = _encode(entry)
        try:
            self._write(line + b"\n")
        except OSError as error:
            if len(self._memory) < self._max_in_memory:
                self._memory.append(line)
            else:
                self.dropped += 1
            if (len(self._memory) + self.dropped) % 1000 == 1:
                _log.error("ledger entry not written to disk: %s (kept in memory: %d, dropped: %d)", error, len(self._memory), self.dropped)

    def _write(self, data: bytes) -> None:
        current = self._segments[-1] if self._segments else None
        if current is None or current.size >= self._segment_bytes:
            if sum(segment.size for segment in self._segments) >= self._max_bytes:
                raise OSError("the spool is full (setting ledger.max_spool_bytes)")
            current = Segment.create(self._directory)
            self._segments.append(current)
        written = os.write(current.fd, data)
        if written != len(data):
            os.ftruncate(current.fd, current.size)
            raise OSError("the disk is full")
        current.size += written

    async def flush(self, store: LedgerStore, most: int) -> int:
        """Send one batch of what is oldest. Returns how many entries went; raises the store's `Unavailable`."""
        if self._memory:
            batch = [self._memory[at] for at in range(min(most, len(self._memory)))]
            await _append(store, batch, self._directory)
            for _ in batch:
                self._memory.popleft()
            return len(batch)
        if not self._segments:
            return 0
        segment = self._segments[0]
        batch, end = segment.lines(most)
        if batch:
            await _append(store, batch, self._directory)
            segment.sent = end
        if segment.sent == segment.size:
            if segment is self._segments[-1]:
                segment.cut()
            else:
                self._segments.popleft().remove()
        return len(batch)

    async def adopt(self, store: LedgerStore, most: int) -> int:
        """Finish the files of dead workers. Returns how many entries they held."""
        ours = {segment.path for segment in self._segments}
        total = 0
        for path in sorted(self._directory.glob("*.jsonl")):
            segment = Segment.adopt(path) if path not in ours else None
            if segment is None:
                continue
            try:
                total += await _drain(segment, store, most, self._directory)
            except BaseException:
                os.close(segment.fd)
                raise
            segment.remove()
        return total

    def close(self) -> None:
        """Let go of the files. What the store does not have stays for the next start."""
        while self._segments:
            segment = self._segments.popleft()
            if segment.sent == segment.size:
                segment.remove()
            else:
                os.close(segment.fd)


async def _drain(segment: Segment, store: LedgerStore, most: int, directory: Path) -> int:
    total = 0
    while True:
        batch, end = segment.lines(most)
        if not batch:
            if end < segment.size:
                _log.warning("%s ends in a torn line of %d bytes; its writer was killed", segment.path.name, segment.size - end)
            return total
        await _append(store, batch, directory)
        segment.sent = end
        total += len(batch)


async def _append(store: LedgerStore, batch: list[bytes], directory: Path) -> None:
    """Store a batch; when one entry of it can never be stored, store the others and set that one aside."""
    try:
        await store.append(batch)
    except InvalidRequest:
        for line in batch:
            try:
                await store.append([line])
            except InvalidRequest as error:
                _set_aside(directory / "rejected.log", line, error)


def _set_aside(path: Path, line: bytes, error: FarthingError) -> None:
    _log.error("a ledger entry cannot be stored and is kept in %s: %s", path, error)
    with contextlib.suppress(OSError), path.open("ab") as file:
        if file.tell() < _MAX_REJECTED_BYTES:
            file.write(line + b"\n")
