"""The metrics of several workers as one: each writes a file, whoever is scraped adds them up.

Counters of workers that are gone stay in the sum, or sums would fall. Their files are put together into one when a worker starts, so
that a long life does not leave a long list of files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Literal

import msgspec

Labels = tuple[str, str, str, str, str, str, str, str]
"""Operation, model, upstream model, provider, source, status class, error, kind of price."""
OTHER = "other"
ERROR_OTHER = "_OTHER"
"""OpenTelemetry's value of `error.type` for an error that has no name of its own."""

STALE_S = 10.0
"""A file that has not been written for this long is a dead worker's: its gauges no longer count."""
_RETIRED = "retired"
_MAX_FILES = 1024
_LOCK_DEADLINE_S = 5.0


class Reading(msgspec.Struct, frozen=True, array_like=True):
    """A gauge, or a counter that somebody else keeps. `merge` says how those of several workers become one."""

    name: str
    help: str
    kind: Literal["gauge", "counter"]
    unit: str
    merge: Literal["sum", "max"]
    attributes: dict[str, str]
    value: float = 0.0

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What tells it from others."""
        return self.name, tuple(sorted(self.attributes.items()))


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's numbers. `layout` says what the cells of a series mean: files of another layout are not read.

    `at` is Unix seconds. `absorbed` (of the file of retired workers) names workers that are in it already, should their files still exist.
    """

    layout: str
    worker: str
    pid: int
    born_ns: int
    at: float
    series: list[tuple[Labels, list[int]]]
    readings: list[Reading] = []
    absorbed: list[tuple[str, int]] = []

    @property
    def identity(self) -> tuple[str, int]:
        """One life of one worker."""
        return self.worker, self.born_ns


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """The sum over workers. `alive`: how many of them are still writing."""

    series: dict[Labels, list[int]]
    readings: list[Reading]
    alive: int


def write(path: Path, snapshot: Snapshot) -> None:
    """Replace a file in one step; readers see the old one or the new one. One writer at a time. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")  # always the same, so that killed writers leave one at most
    draft.write_bytes(msgspec.json.encode(snapshot))
    draft.replace(path)


def _read(directory: Path, layout: str) -> Iterator[tuple[Path, Snapshot]]:
    """The file of retired workers comes last: who is missing because he has just been retired is in it."""
    decode = msgspec.json.Decoder(Snapshot).decode
    last = directory / f"metrics-{_RETIRED}.json"
    for path in [*(path for path in sorted(directory.glob("metrics-*.json"))[:_MAX_FILES] if path != last), last]:
        with contextlib.suppress(OSError, msgspec.DecodeError):  # gone meanwhile, or another version's: as if it were not there
            snapshot = decode(path.read_bytes())
            if snapshot.layout == layout:
                yield path, snapshot


def read_all(directory: Path, layout: str) -> list[Snapshot]:
    """All workers' files, each life once."""
    found = [snapshot for _, snapshot in _read(directory, layout)]
    absorbed = {identity for one in found for identity in one.absorbed}
    return [one for one in found if one.identity not in absorbed]


def merge(snapshots: Iterable[Snapshot], *, now: float) -> Merged:
    """Add up series and counters of all, gauges of those that live."""
    series: dict[Labels, list[int]] = {}
    readings: dict[tuple[str, tuple[tuple[str, str], ...]], Reading] = {}
    alive = 0
    for one in snapshots:
        lives = one.worker != _RETIRED and now - one.at <= STALE_S
        alive += lives
        for labels, cells in one.series:
            _add(series, labels, cells)
        for reading in one.readings:
            if lives or reading.kind == "counter":
                known = readings.get(reading.key)
                readings[reading.key] = reading if known is None else _joined(known, reading)
    return Merged(series=series, readings=list(readings.values()), alive=alive)


def _add(series: dict[Labels, list[int]], labels: Labels, cells: list[int]) -> None:
    known = series.get(labels)
    series[labels] = cells if known is None else [a + b for a, b in zip(known, cells, strict=True)]


def _joined(a: Reading, b: Reading) -> Reading:
    value = max(a.value, b.value) if b.merge == "max" else a.value + b.value
    return msgspec.structs.replace(b, value=value)


def retire(directory: Path, *, keeper: Snapshot, limit: int) -> int:
    """Put the files of dead workers into one file, and delete them. Returns how many there were. Raises OSError.

    Dead is one whose process is gone and whose file is stale, or whose name `keeper` has taken over. The new sum names whom it holds
    before their files go, so that a crash in between counts nobody twice. `limit` bounds the sets of labels kept apart.
    """
    with (directory / "metrics.lock").open("w") as lock:
        _lock(lock)
        found = list(_read(directory, keeper.layout))
        gone = [(path, one) for path, one in found if _is_dead(one, keeper)]
        if gone:
            before = [one for _, one in found if one.worker == _RETIRED]
            write(directory / f"metrics-{_RETIRED}.json", _sum_of(before, [one for _, one in gone], keeper, limit))
        for path, _ in gone:
            path.unlink(missing_ok=True)
        return len(gone)


def _lock(file: IO[str]) -> None:
    """Wait for other workers that start at the same time. Raises TimeoutError (an OSError)."""
    deadline = time.monotonic() + _LOCK_DEADLINE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("another worker holds metrics.lock") from None
            time.sleep(0.02)
        else:
            return


def _sum_of(before: list[Snapshot], gone: list[Snapshot], keeper: Snapshot, limit: int) -> Snapshot:
    """What the file of retired workers says once these are in it too."""
    held = [identity for one in before for identity in one.absorbed]
    fresh = [one for one in gone if one.identity not in held]
    merged = merge([*before, *fresh], now=float("inf"))
    return Snapshot(
        layout=keeper.layout,
        worker=_RETIRED,
        pid=0,
        born_ns=0,
        at=keeper.at,
        series=_bounded(merged.series, limit),
        readings=merged.readings,
        absorbed=[*held, *(one.identity for one in fresh)][-_MAX_FILES:],
    )


def _is_dead(one: Snapshot, keeper: Snapshot) -> bool:
    if one.worker == _RETIRED or one.identity == keeper.identity:
        return False
    if one.worker == keeper.worker:
        return True
    if keeper.at - one.at <= STALE_S:
        return False
    try:
        os.kill(one.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def fitting(labels: Labels, series: Mapping[Labels, list[int]], limit: int) -> Labels:
    """The labels themselves, or, when they are new and there is no room, those that stand for all others."""
    if labels in series or len(series) < limit:
        return labels
    operation, _, _, _, source, status, error, price = labels
    return (operation, OTHER, OTHER, OTHER, source, status, ERROR_OTHER if error else "", price)


def _bounded(series: dict[Labels, list[int]], limit: int) -> list[tuple[Labels, list[int]]]:
    kept: dict[Labels, list[int]] = {}
    for labels, cells in series.items():
        _add(kept, fitting(labels, kept, limit), cells)
    return list(kept.items())
