"""The vectors of one large partition, in cells of some hundred that are near each other (an inverted file, IVF).

A search compares with the centres of the cells, then with all vectors of the nearest ones. A cell that is full is split in two by 2-means
where it stands, one that has become small is given to its neighbours: so the cells follow what is stored, as in SPFresh (Xu et al., 2023,
arXiv:2410.14452), and deleting leaves nothing behind. Up to `_SCANNED` vectors all are compared and the answer is exact.

Why no graph: docs/decisions/0006-questions-in-cells.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farthing.lazily import Lazily

if TYPE_CHECKING:
    import numkong
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int8]
    Slots = NDArray[np.int32]
else:
    numkong = Lazily("numkong")
    np = Lazily("numpy")

_FULL = 768
_SMALL = 96
_SCANNED = 4096
"""Vectors that a search compares with, at least. Measured: bench/cache.py."""
_SCANNED_AT_MOST = 4 * _SCANNED
_PROBED = 64
_STEP = 64
_ROUNDS = 5
_NEIGHBOURS = 12


def distances(query: Rows, rows: Rows) -> NDArray[np.float64]:
    """1 - cosine, of each row of the first matrix to each of the second."""
    return np.asarray(numkong.cdist(query, rows, metric="angular"))


class Cell:
    """Some vectors of a partition, without gaps. `slots` says which each belongs to."""

    __slots__ = ("count", "number", "of", "rows", "slots")

    def __init__(self, of: Cells, number: int, dimensions: int) -> None:
        self.of = of
        self.number = number
        self.count = 0
        self.rows: Rows = np.empty((0, dimensions), np.int8)
        self.slots: Slots = np.empty(0, np.int32)

    def fit(self) -> None:
        """Have room for one more, and not for many more."""
        room = len(self.slots)
        if self.count < room <= self.count + 2 * _STEP:
            return
        wanted = (self.count // _STEP + 1) * _STEP
        rows, slots = np.empty((wanted, self.rows.shape[1]), np.int8), np.empty(wanted, np.int32)
        rows[: self.count], slots[: self.count] = self.rows[: self.count], self.slots[: self.count]
        self.rows, self.slots = rows, slots


class Cells:
    """`homes` and `places` are indexed by slot, and shared by all partitions: the cell that a vector is in, and its row there."""

    def __init__(self, dimensions: int, homes: NDArray[np.object_], places: Slots) -> None:
        self._dimensions = dimensions
        self._homes = homes
        self._places = places
        self._cells: list[Cell] = []
        self._centres: Rows = np.empty((4, dimensions), np.int8)
        self.count = 0

    def add(self, slots: Slots, rows: Rows) -> None:
        """Add vectors."""
        if not self._cells:
            self._open(rows[0])
        cells = self._cells  # splits only append, so these numbers stay good
        nearest = distances(rows, self._centres[: len(cells)]).argmin(axis=1) if len(cells) > 1 else np.zeros(len(rows), np.int64)
        for slot, row, number in zip(slots.tolist(), rows, nearest.tolist(), strict=True):
            self._append(cells[number], slot, row)
        self.count += len(slots)

    def remove(self, slot: int) -> None:
        """Take a vector out."""
        cell: Cell = self._homes[slot]
        self._take(cell, int(self._places[slot]))
        self._homes[slot] = None
        self.count -= 1
        if cell.count < _SMALL and (len(self._cells) > 1 or not cell.count):
            self._dissolve(cell)

    def row(self, slot: int) -> bytes:
        """The vector of a slot."""
        cell: Cell = self._homes[slot]
        return bytes(cell.rows[self._places[slot]])

    def nearest(self, query: Rows, most: int, expires: NDArray[np.int64], now: int) -> list[tuple[int, float]]:
        """At most so many slots that expire later than now, with their distances, nearest first."""
        slots: list[Slots] = []
        found: list[NDArray[np.float64]] = []
        scanned = kept = 0
        for cell in self._nearest_cells(query):
            if scanned >= _SCANNED_AT_MOST or (scanned >= _SCANNED and kept >= most):
                break
            here = cell.slots[: cell.count]
            lives = expires[here] > now
            far = distances(query, cell.rows[: cell.count])[0]
            slots.append(here[lives])
            found.append(far[lives])
            scanned += cell.count
            kept += len(found[-1])
        if not kept:
            return []
        all_slots, all_found = np.concatenate(slots), np.concatenate(found)
        order = np.argpartition(all_found, most - 1)[:most] if kept > most else np.arange(kept)
        order = order[np.argsort(all_found[order], kind="stable")]
        return list(zip(all_slots[order].tolist(), all_found[order].tolist(), strict=True))

    def _nearest_cells(self, query: Rows) -> list[Cell]:
        if self.count <= _SCANNED:
            return self._cells
        far = distances(query, self._centres[: len(self._cells)])[0]
        order = np.argpartition(far, _PROBED)[:_PROBED] if len(far) > _PROBED else np.arange(len(far))
        return [self._cells[number] for number in order[np.argsort(far[order])].tolist()]

    def _open(self, centre: Rows) -> Cell:
        number = len(self._cells)
        if number == len(self._centres):
            self._centres = np.concatenate((self._centres, np.empty_like(self._centres)))
        cell = Cell(self, number, self._dimensions)
        self._cells.append(cell)
        self._centres[number] = centre
        return cell

    def _close(self, cell: Cell) -> None:
        last = self._cells.pop()
        if last is not cell:
            self._cells[cell.number] = last
            self._centres[cell.number] = self._centres[last.number]
            last.number = cell.number

    def _append(self, cell: Cell, slot: int, row: Rows) -> None:
        if cell.count >= _FULL:
            cell = self._split(cell, row)
        cell.fit()
        cell.rows[cell.count], cell.slots[cell.count] = row, slot
        self._homes[slot], self._places[slot] = cell, cell.count
        cell.count += 1

    def _take(self, cell: Cell, place: int) -> None:
        """Close the gap that a vector leaves."""
        last = cell.count - 1
        moved = cell.slots[last]
        cell.rows[place], cell.slots[place] = cell.rows[last], moved
        self._places[moved] = place
        cell.count = last
        cell.fit()

    def _split(self, cell: Cell, row: Rows) -> Cell:
        """Halve a cell between two centres, and let it and its neighbours exchange what is nearer there. Returns the cell for a vector."""
        rows, slots = cell.rows[: cell.count].copy(), cell.slots[: cell.count].copy()
        second, centres = halves(rows)
        other = self._open(centres[1])
        self._centres[cell.number] = centres[0]
        for half, members in ((cell, ~second), (other, second)):
            half.count = int(members.sum())
            half.rows, half.slots = rows[members], slots[members]
            self._places[half.slots] = np.arange(half.count)
            half.fit()
        for slot in other.slots[: other.count].tolist():
            self._homes[slot] = other
        self._settle(cell, other)
        return (cell, other)[int(distances(row[None], centres)[0].argmin())]

    def _settle(self, *new: Cell) -> None:
        """Vectors around new centres that are nearer to another one move there, as long as there is room."""
        far = distances(self._centres[new[0].number][None], self._centres[: len(self._cells)])[0]
        few = np.argpartition(far, _NEIGHBOURS)[:_NEIGHBOURS] if len(far) > _NEIGHBOURS else np.arange(len(far))
        around = [self._cells[number] for number in {*few.tolist(), *(cell.number for cell in new)}]
        centres = self._centres[[cell.number for cell in around]]
        for at, cell in enumerate(around):
            near = distances(cell.rows[: cell.count], centres)
            best = near.argmin(axis=1)
            for place in np.flatnonzero(best != at)[::-1].tolist():
                target = around[int(best[place])]
                if target.count < _FULL - _STEP and cell.count > _SMALL:
                    self._move(cell, place, target)

    def _move(self, cell: Cell, place: int, target: Cell) -> None:
        slot, row = int(cell.slots[place]), cell.rows[place].copy()
        self._take(cell, place)
        self._append(target, slot, row)

    def _dissolve(self, cell: Cell) -> None:
        """Give what is left to the neighbours."""
        self._close(cell)
        if cell.count:
            self.count -= cell.count
            self.add(cell.slots[: cell.count], cell.rows[: cell.count])


def halves(rows: Rows) -> tuple[NDArray[np.bool_], Rows]:
    """2-means by direction: which rows belong to the second half, and both centres. Neither half is small, not even among equals."""
    first = rows[:1]
    centres = np.concatenate((first, rows[distances(first, rows)[0].argmax()][None]))
    for _ in range(_ROUNDS):
        near = distances(centres, rows)
        second = near[1] < near[0]
        if second.all() or not second.any():
            break
        centres = np.stack((_middle(rows[~second]), _middle(rows[second])))
    least = len(rows) // 8
    if not least <= second.sum() <= len(rows) - least:
        second = np.zeros(len(rows), np.bool_)
        second[np.argsort(near[1] - near[0], kind="stable")[: len(rows) // 2]] = True
        centres = np.stack((_middle(rows[~second]), _middle(rows[second])))
    return second, centres


def _middle(rows: Rows) -> Rows:
    """The direction of the mean."""
    total = rows.sum(axis=0, dtype=np.int32)
    middle: Rows = np.rint(total * (127 / max(int(np.abs(total).max()), 1))).astype(np.int8)
    return middle
