"""The counters behind `/metrics`: cheap to add to on the request path, the same from whichever worker they are asked.

What is counted, and under which names, is in `farthing.telemetry.instruments`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from farthing.errors import FarthingError
from farthing.telemetry import files
from farthing.telemetry.instruments import (
    AT_DURATION,
    AT_ELAPSED,
    AT_ESTIMATED,
    AT_FIRST,
    AT_INPUT,
    AT_OUTPUT,
    AT_OVERSPENT,
    AT_READ,
    AT_REASONED,
    AT_REQUESTS,
    AT_SAVED,
    AT_SPENT,
    AT_UNAUTHENTICATED,
    AT_WRITTEN,
    FAILURES,
    INSTRUMENTS,
    LAYOUT,
    REQUEST_SECONDS,
    SECONDS,
    SERIES,
    TOKENS,
    WIDTH,
    WORKERS,
)
from farthing.telemetry.text import CONTENT_TYPE, text
from farthing.types import ANONYMOUS, HEDGE_LOST, LedgerEntry, Request

_log = logging.getLogger("farthing.telemetry")

_VENDOR_ERRORS = frozenset(
    {"client_disconnected", "content_filter", "content_policy_violation", "context_length_exceeded", "insufficient_quota", "server_error"}
)
_ABSENT = "-"
_LONGEST_LABEL = 128
_Key = tuple[str, str | None, str | None, str | None, str, int, str | None, str]


class Metrics:
    """The counters of one worker, and the sum over all workers.

    `worker` names the worker's file in the folder that all share. At most `max_series` sets of labels are told apart; further ones are
    counted under the model and provider `other`. `clock` gives Unix seconds.
    """

    content_type: ClassVar[str] = CONTENT_TYPE

    def __init__(self, worker: str, *, max_series: int = 1000, clock: Callable[[], float] = time.time) -> None:
        self._worker = worker
        self._max_series = max_series
        self._clock = clock
        self.born_ns = int(clock() * 1e9)
        self._series: dict[files.Labels, list[int]] = {}
        self._known: dict[_Key, list[int]] = {}
        self._callables: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[files.Reading, Callable[[], float]]] = {}
        self._errors = frozenset(_codes(FarthingError)) | _VENDOR_ERRORS | {HEDGE_LOST}
        self._saving = threading.Lock()
        self.failures = 0
        self.counter(FAILURES, "Observations and readings that failed.", lambda: self.failures)
        self.gauge(SERIES, "Sets of labels in use.", lambda: len(self._series))

    def observe(self, entry: LedgerEntry, request: Request) -> None:
        """Count a ledger entry. Never raises: a failure here is counted, not felt by the request."""
        try:
            self._count(entry, request)
        except Exception:  # noqa: BLE001  # telemetry must not cost an answer
            self.failures += 1

    def _count(self, entry: LedgerEntry, request: Request) -> None:
        # The hot path: one dictionary look-up, then additions in place.
        key: _Key = (
            entry.operation,
            entry.model_used,
            entry.upstream_model,
            entry.provider,
            entry.source,
            entry.status // 100,
            entry.error,
            entry.price_source,
        )
        cells = self._known.get(key)
        if cells is None:
            cells = self._admit(key)
        if entry.final:
            cells[AT_REQUESTS] += 1
            elapsed = (time.perf_counter_ns() - request.started_ns) // 1000
            cells[AT_ELAPSED] += elapsed
            cells[AT_ELAPSED + 1 + bisect_left(REQUEST_SECONDS, elapsed)] += 1
            if request.principal is ANONYMOUS:
                cells[AT_UNAUTHENTICATED] += 1
        saved = entry.saved_microusd
        if saved > 0:
            cells[AT_SAVED] += saved
        elif saved < 0:
            cells[AT_OVERSPENT] -= saved
        if entry.provider is not None:
            _count_attempt(cells, entry)

    def _admit(self, key: _Key) -> list[int]:
        """The cells of a key seen for the first time."""
        operation, model, upstream, provider, source, status, error, price = key
        shown = "" if error is None else error if error in self._errors else files.ERROR_OTHER
        kind = "notional" if price == "notional" else "billed"
        labels: files.Labels = (
            str(operation),
            (model or _ABSENT)[:_LONGEST_LABEL],
            (upstream or _ABSENT)[:_LONGEST_LABEL],
            (provider or _ABSENT)[:_LONGEST_LABEL],
            str(source),
            f"{status}xx",
            shown,
            kind,
        )
        labels = files.fitting(labels, self._series, self._max_series)
        cells = self._series.setdefault(labels, [0] * WIDTH)
        if len(self._known) < 4 * self._max_series:
            self._known[key] = cells
        return cells

    def gauge(
        self,
        name: str,
        text: str,
        read: Callable[[], float],
        *,
        unit: str = "",
        attributes: Mapping[str, str] | None = None,
        merge: Literal["sum", "max"] = "sum",
    ) -> None:
        """Show what `read` returns at each scrape. `merge` says how the readings of several workers become one."""
        self._register(files.Reading(name, text, "gauge", unit, merge, dict(attributes or {})), read)

    def counter(
        self, name: str, text: str, read: Callable[[], float], *, unit: str = "", attributes: Mapping[str, str] | None = None
    ) -> None:
        """Show a total that somebody else counts and that only ever grows. It stays in the sum when its worker is gone."""
        self._register(files.Reading(name, text, "counter", unit, "sum", dict(attributes or {})), read)

    def _register(self, reading: files.Reading, read: Callable[[], float]) -> None:
        self._callables[reading.key] = reading, read

    def _readings(self) -> Iterator[files.Reading]:
        for reading, read in list(self._callables.values()):
            try:
                yield msgspec.structs.replace(reading, value=float(read()))
            except Exception:  # noqa: BLE001  # one broken gauge must not take the others with it
                self.failures += 1

    def snapshot(self, *, last: bool = False) -> files.Snapshot:
        """The numbers of this worker at this moment. May be called from any thread. `last`: it is going; its gauges no longer count."""
        series = [(labels, list(cells)) for labels, cells in list(self._series.items())]
        return files.Snapshot(
            layout=LAYOUT,
            worker=self._worker,
            pid=os.getpid(),
            born_ns=self.born_ns,
            at=0.0 if last else self._clock(),
            series=series,
            readings=list(self._readings()),
        )

    def save(self, path: Path, *, last: bool = False) -> None:
        """Write this worker's file in one piece. Raises OSError."""
        with self._saving:
            files.write(path, self.snapshot(last=last))

    async def run(self, path: Path, interval: float) -> None:
        """Save every `interval` seconds until cancelled, and once more then. A full disk costs freshness, and one line in the log."""
        await asyncio.to_thread(self._take_over, path)
        healthy = True
        try:
            while True:
                healthy = await asyncio.to_thread(self._try_save, path, healthy)
                await asyncio.sleep(interval)
        finally:
            self._try_save(path, healthy, last=True)

    def _take_over(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.retire(path.parent, keeper=self.snapshot(), limit=self._max_series)
        except OSError as error:
            _log.warning("the metrics of workers that are gone could not be put together: %s", error)

    def _try_save(self, path: Path, healthy: bool, *, last: bool = False) -> bool:  # noqa: FBT001  # whether the last one worked
        try:
            self.save(path, last=last)
        except OSError as error:
            if healthy:
                _log.warning("metrics cannot be written to %s: %s", path, error)
            return False
        return True

    def exposition(self, directory: Path) -> bytes:
        """All workers' metrics in Prometheus' text format. Reads files: call it in a thread."""
        own = self.snapshot()
        others = [one for one in files.read_all(directory, LAYOUT) if one.identity != own.identity]
        merged = files.merge([own, *others], now=self._clock())
        live = files.Reading(WORKERS, "Workers alive.", "gauge", "", "sum", {}, float(merged.alive))
        return text(INSTRUMENTS, merged.series.items(), [*merged.readings, live])


def _count_attempt(cells: list[int], entry: LedgerEntry) -> None:
    """Count a call to a provider."""
    cells[AT_SPENT] += entry.cost_microusd
    latency = entry.latency_us
    cells[AT_DURATION] += latency
    cells[AT_DURATION + 1 + bisect_left(SECONDS, latency)] += 1
    first = entry.ttft_us
    if first is not None:
        cells[AT_FIRST] += first
        cells[AT_FIRST + 1 + bisect_left(SECONDS, first)] += 1
    if entry.usage_source == "none":
        return
    tokens = entry.tokens_in
    cells[AT_INPUT] += tokens
    cells[AT_INPUT + 1 + bisect_left(TOKENS, tokens)] += 1
    tokens = entry.tokens_out
    if tokens:
        cells[AT_OUTPUT] += tokens
        cells[AT_OUTPUT + 1 + bisect_left(TOKENS, tokens)] += 1
    if entry.usage_source == "estimated":
        cells[AT_ESTIMATED] += 1
    cells[AT_READ] += entry.tokens_cache_read
    cells[AT_WRITTEN] += entry.tokens_cache_write
    cells[AT_REASONED] += entry.tokens_reasoning


def _codes(error: type[FarthingError]) -> Iterator[str]:
    yield error.code
    for below in error.__subclasses__():
        yield from _codes(below)
