"""What is known of single cached questions: the verdicts on their answers, within bounds."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from uuid import UUID

import msgspec

from farthing.caching.log_odds import BINS, SHIFTS, between

_BAND = 4
"""Bins that are forgotten together: one unit of the score."""

Row = tuple[int, bool, float]
"""A verdict: the bin of its score, whether both ask for the same, its weight."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry has contributed to the population: its verdicts and weights at that time, and what they say about the line."""

    rows: tuple[Row, ...]
    weights: tuple[float, ...]
    curvature: tuple[float, ...]


class EntryHistory(msgspec.Struct, kw_only=True):
    """What is known of one entry.

    `rows` are the verdicts that still count, oldest first; `weights` how likely each of `SHIFTS` is by them. `right` and `wrong` count all
    verdicts on answers that were served. `counted`: None while it is not part of the population.
    """

    rows: deque[Row] = msgspec.field(default_factory=deque)
    weights: tuple[float, ...] = ()
    counted: Counted | None = None
    right: int = 0
    wrong: int = 0

    @property
    def shift(self) -> float:
        """By how much its log-odds differ from an average entry's, as expected."""
        return sum(weight * shift for weight, shift in zip(self.weights, SHIFTS, strict=True))


class Entries:
    """The histories of at most `most` entries with at most `per_entry` verdicts each, and of each band of scores the newest `per_band`.

    When there are too many entries, those go first that were never wrong and have the oldest verdict: what was wrong is remembered longest.
    Forgetting by band keeps a flood of near misses from washing out what is known of hits (directional forgetting: Kulhavy, 1987).
    """

    def __init__(self, *, most: int, per_entry: int, per_band: int) -> None:
        self._most = most
        self._per_entry = per_entry
        self._per_band = per_band
        self._fine: OrderedDict[UUID, EntryHistory] = OrderedDict()
        self._faulty: OrderedDict[UUID, EntryHistory] = OrderedDict()
        self._bands: list[deque[tuple[EntryHistory, Row]]] = [deque() for _ in range(BINS // _BAND + 1)]

    def __len__(self) -> int:
        return len(self._fine) + len(self._faulty)

    def __iter__(self) -> Iterator[EntryHistory]:
        yield from self._fine.values()
        yield from self._faulty.values()

    @property
    def rows(self) -> int:
        """How many verdicts still count."""
        return sum(len(history.rows) for history in self)

    def get(self, question_id: UUID) -> EntryHistory | None:
        """The history of an entry; None: nobody has said anything about it."""
        return self._fine.get(question_id) or self._faulty.get(question_id)

    def add(self, question_id: UUID, score: float, *, same: bool, served: bool, weight: float) -> tuple[EntryHistory, list[EntryHistory]]:
        """Count a verdict. Returns what is known of its entry now, with `weights` as they were, and what was forgotten for it."""
        history = self.get(question_id) or EntryHistory()
        index, part = between(score)
        row = (index + round(part), same, weight)
        history.rows.append(row)
        if len(history.rows) > self._per_entry:
            history.rows.popleft()
        self._bound(history, row)
        if served and same:
            history.right += 1
        elif served:
            history.wrong += 1
        self.forget(question_id)
        (self._faulty if history.wrong else self._fine)[question_id] = history
        forgotten = []
        while len(self) > self._most:
            forgotten.append((self._fine or self._faulty).popitem(last=False)[1])
        return history, forgotten

    def forget(self, question_id: UUID) -> EntryHistory | None:
        """Drop an entry that is no more. Returns what was known of it."""
        return self._fine.pop(question_id, None) or self._faulty.pop(question_id, None)

    def _bound(self, history: EntryHistory, row: Row) -> None:
        band = self._bands[row[0] // _BAND]
        band.append((history, row))
        if len(band) > self._per_band:
            old, gone = band.popleft()
            if gone in old.rows:
                old.rows.remove(gone)
