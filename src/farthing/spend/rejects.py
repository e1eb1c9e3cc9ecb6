"""Where ledger entries go that can never be stored, and pieces of entries that a crash has left: aside, for a person to look at."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

_log = logging.getLogger("farthing.ledger")
_LOG_EVERY = 1000


class Rejects:
    """A file of lines of at most `max_bytes`; beyond that they are only counted."""

    def __init__(self, path: Path, *, max_bytes: int = 16 * 2**20) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self.count = 0

    def add(self, line: bytes, why: object) -> None:
        """Set one aside. Never raises."""
        self.count += 1
        if self.count % _LOG_EVERY == 1:
            _log.error("a ledger entry cannot be stored and is kept in %s (%d so far): %s", self._path, self.count, why)
        with contextlib.suppress(OSError), self._path.open("ab") as file:
            if file.tell() + len(line) < self._max_bytes:
                file.write(line + b"\n")
