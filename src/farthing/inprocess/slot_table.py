"""From hashes to slots, in 8 bytes a cell: a dictionary of Python's takes a hundred for each entry, and doubles while others wait."""

from __future__ import annotations

from collections.abc import Iterator

_MASK = 0xFFFF_FFFF


class SlotTable:
    """Open addressing with linear probing, of fixed size: at most `most` slots, under hashes that need not differ.

    Who looks a hash up gets all slots that may be meant, and compares. Deleting moves the cells behind up, so nothing is left that would
    have to be cleared away later. Memory that was never used is not touched.
    """

    def __init__(self, most: int) -> None:
        size = 1 << (most * 3 // 2).bit_length()
        self._last = size - 1
        self._marks = memoryview(bytearray(4 * size)).cast("I")
        self._slots = memoryview(bytearray(4 * size)).cast("I")  # one more than the slot; 0 where there is none

    def find(self, mark: int) -> Iterator[int]:
        """The slots under this hash, and perhaps under others like it."""
        mark &= _MASK
        at = mark & self._last
        while slot := self._slots[at]:
            if self._marks[at] == mark:
                yield slot - 1
            at = (at + 1) & self._last

    def add(self, mark: int, slot: int) -> None:
        """Put a slot under a hash."""
        mark &= _MASK
        at = mark & self._last
        while self._slots[at]:
            at = (at + 1) & self._last
        self._marks[at] = mark
        self._slots[at] = slot + 1

    def replace(self, mark: int, old: int, new: int) -> None:
        """Put another slot in the place of one that is there."""
        self._slots[self._cell(mark, old)] = new + 1

    def drop(self, mark: int, slot: int) -> None:
        """Take a slot out that is there."""
        hole = self._cell(mark, slot)
        at = (hole + 1) & self._last
        while self._slots[at]:
            home = self._marks[at] & self._last
            if (at - home) & self._last >= (at - hole) & self._last:
                self._marks[hole], self._slots[hole] = self._marks[at], self._slots[at]
                hole = at
            at = (at + 1) & self._last
        self._slots[hole] = 0

    def _cell(self, mark: int, slot: int) -> int:
        mark &= _MASK
        at = mark & self._last
        while self._slots[at] != slot + 1 or self._marks[at] != mark:
            if not self._slots[at]:
                raise KeyError(slot)
            at = (at + 1) & self._last
        return at
