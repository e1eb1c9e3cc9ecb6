"""The exact cache's first tier: a bounded map in this process."""

from __future__ import annotations

import time
from collections import OrderedDict

from farthing.caching.entry import Entry


class MemoryTier:
    """Least recently used entries go first when `max_bytes` is reached. Expired entries count as absent.

    They are kept as long as they may still be given in some mode: `stretch` times their lifetime.
    """

    def __init__(self, max_bytes: int, *, stretch: float = 1.0) -> None:
        self._max_bytes = max_bytes
        self._stretch = stretch
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, stretch: float = 1.0) -> Entry | None:
        """The live entry under a key, where entries live for `stretch` times their lifetime."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = time.time()
        if entry.good_until(stretch) <= now:
            if entry.good_until(self._stretch) <= now:
                self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry, at the cost of those that were not used for longest."""
        self.drop(key)
        if entry.size > self._max_bytes:
            return
        self._entries[key] = entry
        self.bytes += entry.size
        while self.bytes > self._max_bytes:
            _, old = self._entries.popitem(last=False)
            self.bytes -= old.size

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.bytes = 0

    def drop(self, key: bytes) -> None:
        """Forget a key."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size
