"""What Farthing measures: every metric, span and attribute name, and the counters behind `/metrics`.

Names follow OpenTelemetry's GenAI conventions (open-telemetry/semantic-conventions-genai, 0.1.0); what they have no name for is under
`farthing.`. No label ever holds a tenant, a user, a key or text that a caller chose.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from farthing import telemetry_files as files
from farthing.errors import FarthingError
from farthing.telemetry_text import CONTENT_TYPE, Instrument, text, width
from farthing.types import ANONYMOUS, LedgerEntry, Request

_log = logging.getLogger("farthing.telemetry")

# OpenTelemetry's attributes.
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  # an attribute, not a secret
USAGE_INPUT = "gen_ai.usage.input_tokens"
USAGE_OUTPUT = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING = "gen_ai.usage.reasoning.output_tokens"
ERROR_TYPE = "error.type"
REQUEST_PARAMETERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}
"""Numbers of a chat request that its span shows. Nothing else of the body is ever shown."""

# Our attributes.
MODEL = "farthing.model"
SOURCE = "farthing.source"
STATUS_CLASS = "farthing.status_class"
STATUS = "farthing.status"
PRICE_KIND = "farthing.price"
TOKEN_KIND = "farthing.token.type"  # noqa: S105  # an attribute, not a secret
COST = "farthing.cost_microusd"
SAVED = "farthing.saved_microusd"
PRICE_SOURCE = "farthing.price.source"
USAGE_SOURCE = "farthing.usage.source"
TENANT = "farthing.tenant"
ATTEMPT = "farthing.attempt"
FINAL = "farthing.final"
ROUTE = "farthing.route"
MODE = "farthing.mode"
REQUEST_ID = "farthing.request.id"

# Gauges and counters that the composition root registers.
LEDGER_BACKLOG = "farthing.ledger.backlog"
LEDGER_DROPPED = "farthing.ledger.dropped"
CACHE_ENTRIES = "farthing.cache.entries"
CACHE_SIZE = "farthing.cache.size"
CACHE_FLIGHTS = "farthing.cache.flights"
UPSTREAM_CONNECTIONS = "farthing.upstream.connections"
CLIENT_CONNECTIONS = "farthing.client.connections"
STORE_AWAY = "farthing.store.away"
SPANS_DROPPED = "farthing.telemetry.spans_dropped"
WORKERS = "farthing.workers"
SERIES = "farthing.telemetry.series"
FAILURES = "farthing.telemetry.failures"

ABSENT = "-"
_VENDOR_ERRORS = frozenset(
    {"client_disconnected", "content_filter", "content_policy_violation", "context_length_exceeded", "insufficient_quota", "server_error"}
)
_PLAIN_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_LONGEST_LABEL = 128

# What a series is told apart by: positions in its tuple of labels.
_OPERATION, _MODEL, _UPSTREAM, _PROVIDER, _SOURCE, _STATUS, _ERROR, _PRICE = range(8)

_SECONDS = tuple(10_000 * 2**step for step in range(14))
"""Microseconds: 0.01 s to 81.92 s, the buckets that the GenAI conventions advise for all durations."""
_TOKENS = tuple(4**step for step in range(14))
"""1 to 67,108,864, as the GenAI conventions advise."""
_REQUEST_SECONDS = (250, 500, 1_000, 2_500, 5_000, *_SECONDS)
"""Microseconds: finer at the fast end, where answers from the cache are."""


# Where in the cells of a series each number is. Counters first, then histograms.
_REQUESTS, _UNAUTHENTICATED, _ESTIMATED, _SPENT, _SAVED, _OVERSPENT, _READ, _WRITTEN, _REASONED = range(9)
_DURATION = 9
_INPUT = _DURATION + width(_SECONDS)
_OUTPUT = _INPUT + width(_TOKENS)
_FIRST = _OUTPUT + width(_TOKENS)
_ELAPSED = _FIRST + width(_SECONDS)
_WIDTH = _ELAPSED + width(_REQUEST_SECONDS)
LAYOUT = f"1.{_WIDTH}"


_GEN_AI = ((OPERATION, _OPERATION), (PROVIDER, _PROVIDER), (REQUEST_MODEL, _UPSTREAM), (MODEL, _MODEL))
_MADE_BY = ((MODEL, _MODEL), (PROVIDER, _PROVIDER))

INSTRUMENTS = (
    Instrument(
        name="gen_ai.client.operation.duration",
        unit="s",
        help="Duration of calls to model providers, failed ones included.",
        attributes=(*_GEN_AI, (ERROR_TYPE, _ERROR)),
        parts=(((), _DURATION),),
        bounds=_SECONDS,
        scale=1_000_000,
    ),
    Instrument(
        name="gen_ai.client.token.usage",
        unit="{token}",
        help="Input and output tokens of calls to model providers.",
        attributes=_GEN_AI,
        parts=((((TOKEN_TYPE, "input"),), _INPUT), (((TOKEN_TYPE, "output"),), _OUTPUT)),
        bounds=_TOKENS,
    ),
    Instrument(
        name="gen_ai.client.operation.time_to_first_chunk",
        unit="s",
        help="Time from the call to the first chunk with content, of streams.",
        attributes=_GEN_AI,
        parts=(((), _FIRST),),
        bounds=_SECONDS,
        scale=1_000_000,
    ),
    Instrument(
        name="farthing.requests",
        unit="{request}",
        help="Requests, by what answered them.",
        attributes=((OPERATION, _OPERATION), (MODEL, _MODEL), (SOURCE, _SOURCE), (STATUS_CLASS, _STATUS)),
        parts=(((), _REQUESTS),),
    ),
    Instrument(
        name="farthing.request.duration",
        unit="s",
        help="Time from a request's arrival to the end of its answer, all attempts included.",
        attributes=((OPERATION, _OPERATION), (SOURCE, _SOURCE)),
        parts=(((), _ELAPSED),),
        bounds=_REQUEST_SECONDS,
        scale=1_000_000,
    ),
    Instrument(
        name="farthing.requests.unauthenticated",
        unit="{request}",
        help="Requests refused for want of a valid key.",
        parts=(((), _UNAUTHENTICATED),),
    ),
    Instrument(
        name="farthing.usage.estimated",
        unit="{attempt}",
        help="Attempts whose tokens were estimated because the provider did not say.",
        attributes=_MADE_BY,
        parts=(((), _ESTIMATED),),
    ),
    Instrument(
        name="farthing.spent.microusd",
        unit="{microusd}",
        help="Spent, in micro-dollars. Notional: at a stand-in price that nobody bills.",
        attributes=(*_MADE_BY, (PRICE_KIND, _PRICE)),
        parts=(((), _SPENT),),
    ),
    Instrument(
        name="farthing.saved.microusd",
        unit="{microusd}",
        help="Saved against doing without Farthing, in micro-dollars. Net savings: this less farthing.overspent.microusd.",
        attributes=((MODEL, _MODEL), (SOURCE, _SOURCE)),
        parts=(((), _SAVED),),
    ),
    Instrument(
        name="farthing.overspent.microusd",
        unit="{microusd}",
        help="What fallbacks cost beyond the model that was asked for, in micro-dollars.",
        attributes=((MODEL, _MODEL), (SOURCE, _SOURCE)),
        parts=(((), _OVERSPENT),),
    ),
    Instrument(
        name="farthing.provider.tokens",
        unit="{token}",
        help="Tokens that providers read from or wrote to their prompt caches, or spent on reasoning; part of gen_ai.client.token.usage.",
        attributes=_MADE_BY,
        parts=(
            (((TOKEN_KIND, "cache_read"),), _READ),
            (((TOKEN_KIND, "cache_write"),), _WRITTEN),
            (((TOKEN_KIND, "reasoning"),), _REASONED),
        ),
    ),
)

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
        self._errors = frozenset(_codes(FarthingError)) | _VENDOR_ERRORS
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
            cells[_REQUESTS] += 1
            elapsed = (time.perf_counter_ns() - request.started_ns) // 1000
            cells[_ELAPSED] += elapsed
            cells[_ELAPSED + 1 + bisect_left(_REQUEST_SECONDS, elapsed)] += 1
            saved = entry.saved_microusd
            if saved > 0:
                cells[_SAVED] += saved
            elif saved < 0:
                cells[_OVERSPENT] -= saved
            if request.principal is ANONYMOUS:
                cells[_UNAUTHENTICATED] += 1
        if entry.provider is not None:
            _count_attempt(cells, entry)

    def _admit(self, key: _Key) -> list[int]:
        """The cells of a key seen for the first time."""
        operation, model, upstream, provider, source, status, error, price = key
        shown = "" if error is None else error if error in self._errors else files.ERROR_OTHER
        kind = "notional" if price == "notional" else "billed"
        labels: files.Labels = (
            str(operation),
            (model or ABSENT)[:_LONGEST_LABEL],
            (upstream or ABSENT)[:_LONGEST_LABEL],
            (provider or ABSENT)[:_LONGEST_LABEL],
            str(source),
            f"{status}xx",
            shown,
            kind,
        )
        labels = files.fitting(labels, self._series, self._max_series)
        cells = self._series.setdefault(labels, [0] * _WIDTH)
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
        healthy = True
        try:
            await asyncio.to_thread(self._take_over, path)
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
    cells[_SPENT] += entry.cost_microusd
    latency = entry.latency_us
    cells[_DURATION] += latency
    cells[_DURATION + 1 + bisect_left(_SECONDS, latency)] += 1
    first = entry.ttft_us
    if first is not None:
        cells[_FIRST] += first
        cells[_FIRST + 1 + bisect_left(_SECONDS, first)] += 1
    if entry.usage_source == "none":
        return
    tokens = entry.tokens_in
    cells[_INPUT] += tokens
    cells[_INPUT + 1 + bisect_left(_TOKENS, tokens)] += 1
    tokens = entry.tokens_out
    if tokens:
        cells[_OUTPUT] += tokens
        cells[_OUTPUT + 1 + bisect_left(_TOKENS, tokens)] += 1
    if entry.usage_source == "estimated":
        cells[_ESTIMATED] += 1
    cells[_READ] += entry.tokens_cache_read
    cells[_WRITTEN] += entry.tokens_cache_write
    cells[_REASONED] += entry.tokens_reasoning


def error_type(code: str) -> str:
    """An error's code for spans and logs. A provider may send anything as its code: only what looks like a code is shown."""
    return code if _PLAIN_CODE.fullmatch(code) else files.ERROR_OTHER


def _codes(error: type[FarthingError]) -> Iterator[str]:
    yield error.code
    for below in error.__subclasses__():
        yield from _codes(below)
