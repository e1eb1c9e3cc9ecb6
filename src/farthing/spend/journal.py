"""The ledger's way to its store: a file first, the store soon after, each entry exactly once.

An entry is one line, appended with a single write to a file of this worker before the answer's last byte goes out. The page cache holds it
from then on: it survives a kill of the process, not a power cut (no fsync; see docs/ledger.md). A pump copies lines to the store in
batches and cuts the file when all are there. Files are locked by their owner; the lock of a dead worker is free, so any worker finds its
file and finishes it. Entries carry their id, and the store skips those it has: repeating is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections import deque
from pathlib import Path

import msgspec

from farthing.errors import InvalidRequest
from farthing.ports import LedgerStore
from farthing.spend import salvage
from farthing.spend.rejects import Rejects
from farthing.types import LedgerEntry, new_id

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger("farthing.ledger")


class Segment:
    """One locked file of lines. `sent` is how many of its `size` bytes the store has, `synced` how many survive a power cut."""

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.path = path
        self.fd = fd
        self.size = size
        self.sent = 0
        self.synced = 0

    @classmethod
    def create(cls, directory: Path, worker: str) -> Segment:
        """A new file of ours. Its name says whose it is."""
        path = directory / f"{new_id()}.{worker}.jsonl"
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
        """The file of a dead worker; None while its owner lives or when another worker was faster. Raises OSError when it is not ours."""
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
        """Unsent lines, at most `most`, and where they end."""
        data = os.pread(self.fd, most_bytes, self.sent)
        parts = data.split(b"\n")[:-1][:most]
        return parts, self.sent + sum(len(part) + 1 for part in parts)

    def cut(self) -> None:
        """Drop what the store has, once it has all."""
        os.ftruncate(self.fd, 0)
        self.size = self.sent = self.synced = 0

    def remove(self) -> None:
        """Delete the file, then let go of the lock."""
        self.path.unlink(missing_ok=True)
        os.close(self.fd)


class Journal:
    """See `ports.Ledger`. `dropped` counts entries for which neither disk nor memory had room.

    `ended` are workers that are dead and whose entries are all in the store, as far as this one saw to it; whoever deals with them takes
    them out.
    """

    def __init__(self, directory: Path, *, segment_bytes: int, max_bytes: int, max_in_memory: int = 10_000, worker: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._segments: deque[Segment] = deque()
        self._memory: deque[bytes] = deque()
        self._max_in_memory = max_in_memory
        self._worker = worker
        self._sending = False
        self._rejects = Rejects(directory / "rejected.log")
        self._out_of_reach: set[Path] = set()
        self.dropped = 0
        self.ended: set[str] = set()

    def begin(self) -> None:
        """See that a file of ours is there, so that others can tell when this worker is dead."""
        if not self._segments:
            with contextlib.suppress(OSError):
                self._segments.append(Segment.create(self._directory, self._worker))

    @property
    def rejected(self) -> int:
        """Entries, and pieces of damaged ones, that were set aside because they can never be stored."""
        return self._rejects.count

    @property
    def backlog_bytes(self) -> int:
        """What the store does not have yet."""
        return sum(segment.size - segment.sent for segment in self._segments) + sum(map(len, self._memory))

    def record(self, entry: LedgerEntry) -> None:
        """See `ports.Ledger.record`. When the disk refuses, memory keeps a bounded number of entries, which go there first when it can."""
        self._memory.append(_encode(entry))
        try:
            self._spill()
        except OSError as error:
            lost = len(self._memory) > self._max_in_memory
            if lost:
                self._memory.pop()
                self.dropped += 1
            if (len(self._memory) + self.dropped) % 1000 == 1 or (lost and self.dropped == 1):
                _log.error("ledger entry not written to disk: %s (kept in memory: %d, dropped: %d)", error, len(self._memory), self.dropped)

    def _spill(self) -> None:
        """Write what is in memory, oldest first. Raises OSError when the disk refuses."""
        while self._memory:
            if self._sending:
                raise OSError("the entries before it are on their way to the store")
            self._write(self._memory[0] + b"\n")
            self._memory.popleft()

    def _write(self, data: bytes) -> None:
        current = self._segments[-1] if self._segments else None
        if current is None or current.size >= self._segment_bytes:
            if sum(segment.size for segment in self._segments) >= self._max_bytes:
                raise OSError("the spool is full (setting ledger.max_spool_bytes)")
            current = Segment.create(self._directory, self._worker)
            self._segments.append(current)
        written = os.write(current.fd, data)
        if written != len(data):
            os.ftruncate(current.fd, current.size)
            raise OSError("the disk is full")
        current.size += written

    async def flush(self, store: LedgerStore, most: int) -> int:
        """Send one batch of what is oldest. Returns how many entries went; raises the store's `Unavailable`."""
        with contextlib.suppress(OSError):
            self._spill()
        if not self._segments or self._segments[0].sent == self._segments[0].size:
            return await self._flush_memory(store, most)
        segment = self._segments[0]
        batch, end = segment.lines(most)
        if not batch:
            self._rejects.add(segment.path.name.encode(), f"{segment.size - segment.sent} bytes of this file are gone")
            end = segment.size
        await self._append(store, batch)
        segment.sent = end
        if segment.sent == segment.size:
            if segment is self._segments[-1]:
                segment.cut()
            else:
                self._segments.popleft().remove()
        return len(batch)

    async def _flush_memory(self, store: LedgerStore, most: int) -> int:
        """For when the disk refuses."""
        batch = [self._memory[at] for at in range(min(most, len(self._memory)))]
        self._sending = True
        try:
            await self._append(store, batch)
            for _ in batch:
                self._memory.popleft()
        finally:
            self._sending = False
        return len(batch)

    async def sync(self) -> None:
        """See that what is in the files is on the disk, and survives a power cut."""
        for segment in [segment for segment in self._segments if segment.synced < segment.size]:
            size, fd = segment.size, os.dup(segment.fd)  # the segment may be removed meanwhile
            try:
                await asyncio.to_thread(os.fdatasync, fd)
            finally:
                os.close(fd)
            segment.synced = min(size, segment.size)

    async def adopt(self, store: LedgerStore, most: int) -> int:
        """Finish the files of dead workers. Returns how many entries they held."""
        ours = {segment.path for segment in self._segments}
        total = 0
        for path in sorted(self._directory.glob("*.jsonl")):
            segment = self._taken_over(path) if path not in ours else None
            if segment is None:
                continue
            try:
                total += await self._drain(segment, store, most)
            except BaseException:
                os.close(segment.fd)
                raise
            segment.remove()
            worker = path.name.split(".")[1]
            if not any(self._directory.glob(f"*.{worker}.jsonl")):
                self.ended.add(worker)
        return total

    def _taken_over(self, path: Path) -> Segment | None:
        """See `Segment.adopt`. One that cannot be opened is left to a person, who is told once; the others do not wait for it."""
        try:
            return Segment.adopt(path)
        except OSError as error:
            if path not in self._out_of_reach:
                self._out_of_reach.add(path)
                _log.error("the ledger's file %s cannot be opened, what is in it is not in the ledger: %s", path, error.strerror)
            return None

    def close(self) -> None:
        """Let go of the files. What the store does not have stays for the next start."""
        with contextlib.suppress(OSError):
            self._spill()
        if self._memory:
            _log.error("%d ledger entries are lost: the disk has no room and the store is away", len(self._memory))
        while self._segments:
            segment = self._segments.popleft()
            if segment.sent == segment.size:
                segment.remove()
            else:
                os.close(segment.fd)

    async def _drain(self, segment: Segment, store: LedgerStore, most: int) -> int:
        """Store what is whole in the file of a dead worker, and set the rest aside."""
        total = 0
        while (found := salvage.read(segment.fd, segment.sent, most)).end > segment.sent:
            await self._append(store, found.lines)
            for piece in found.damaged:  # not before: while the store is away this is tried again and again
                self._rejects.add(piece, f"{segment.path.name} was damaged when its writer died")
            segment.sent = found.end
            total += len(found.lines)
        return total

    async def _append(self, store: LedgerStore, batch: list[bytes]) -> None:
        """Store a batch, and set aside what of it can never be stored. When it raises, none is set aside: all will be tried again."""
        for line, error in await _stored(store, batch):
            self._rejects.add(line, error)


async def _stored(store: LedgerStore, batch: list[bytes]) -> list[tuple[bytes, InvalidRequest]]:
    """Store a batch; when one entry of it can never be stored, store the others. Returns those that could not, and why."""
    if not batch:
        return []
    try:
        await store.append(batch)
    except InvalidRequest as error:
        if len(batch) == 1:
            return [(batch[0], error)]
        half = len(batch) // 2
        return [*await _stored(store, batch[:half]), *await _stored(store, batch[half:])]
    return []
