"""The way to an OpenTelemetry collector: ledger entries as spans, counters as metrics, by OTLP over HTTP from one thread.

The OpenTelemetry SDK (0.3 s, 20 MB) is imported when an `Exporter` is made, not before.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from farthing import __version__
from farthing import telemetry as names
from farthing.telemetry import Metrics
from farthing.telemetry_files import ERROR_OTHER, Reading, Snapshot
from farthing.telemetry_text import Instrument, points
from farthing.types import LedgerEntry

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

_log = logging.getLogger("farthing.telemetry")

_BATCH = 512
_SPAN_DELAY_S = 1.0
_EXPORT_TIMEOUT_S = 5.0
_LOW_64_BITS = (1 << 64) - 1
_PLAIN_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_SCOPE = "farthing"
_OURSELVES = "farthing"
"""`gen_ai.provider.name` of an answer that no provider gave."""

Attributes = dict[str, str | bool | int | float]


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's span."""

    trace_id: int
    span_id: int
    sampled: bool


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger entry that becomes a span. `ended_ns` is Unix time; `parameters` are span attributes read off the request."""

    entry: LedgerEntry
    parent: Parent | None
    parameters: dict[str, int | float]
    ended_ns: int


class Exporter:
    """Sends spans once a second or when a batch is full, and metrics every `metrics_interval_s`. See `tracing.SpanSink`.

    At most `max_queue` spans wait; when the collector is away, further ones are dropped and counted. A batch that the collector has not
    taken within five seconds, retries included, is dropped too.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        headers: Mapping[str, str],
        service_instance_id: str,
        metrics: Metrics,
        metrics_interval_s: float,
        max_queue: int,
    ) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415  # heavy
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # heavy
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # heavy
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415  # heavy

        base = endpoint.rstrip("/")
        own = dict(headers)
        self._spans = OTLPSpanExporter(endpoint=f"{base}/v1/traces", headers=own, timeout=_EXPORT_TIMEOUT_S)
        self._points = OTLPMetricExporter(endpoint=f"{base}/v1/metrics", headers=own, timeout=_EXPORT_TIMEOUT_S)
        self._success = SpanExportResult.SUCCESS
        self._resource = Resource.create(
            {"service.name": "farthing", "service.version": __version__, "service.instance.id": service_instance_id}
        )
        self._span_of = span_encoder(self._resource)
        self._metrics = metrics
        self._metrics_interval_s = metrics_interval_s
        self._max_queue = max_queue
        self._queue: deque[Sample] = deque()
        self._full = self._lost = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="farthing-otlp", daemon=True)
        self._thread.start()

    def offer(self, sample: Sample) -> None:
        """See `tracing.SpanSink.offer`."""
        waiting = len(self._queue)
        if waiting >= self._max_queue or self._closing:
            self._full += 1
            return
        self._queue.append(sample)
        if waiting == _BATCH - 1:
            self._wake.set()

    @property
    def dropped(self) -> int:
        """See `tracing.SpanSink.dropped`."""
        return self._full + self._lost

    def close(self, deadline_s: float) -> None:
        """See `tracing.SpanSink.close`."""
        self._closing = True
        self._wake.set()
        self._thread.join(deadline_s)
        if self._thread.is_alive():  # it is waiting for a collector that does not answer: interrupt it
            with contextlib.suppress(Exception):
                self._spans.shutdown()  # type: ignore[no-untyped-call]  # theirs
                self._points.shutdown()

    def _run(self) -> None:
        due = time.monotonic() + self._metrics_interval_s
        while not self._closing:
            self._wake.wait(max(0.0, min(_SPAN_DELAY_S, due - time.monotonic())))
            self._wake.clear()
            self._send_spans()
            if time.monotonic() >= due:
                self._send_metrics()
                due = time.monotonic() + self._metrics_interval_s
        self._send_spans()
        self._send_metrics()
        self._spans.shutdown()  # type: ignore[no-untyped-call]  # theirs
        self._points.shutdown()

    def _send_spans(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            try:
                sent = self._spans.export([self._span_of(sample) for sample in batch]) is self._success
            except Exception:  # noqa: BLE001  # whatever it is, the thread goes on
                _log.exception("spans could not be sent")
                sent = False
            self._lost += 0 if sent else len(batch)

    def _send_metrics(self) -> None:
        try:
            self._points.export(metrics_of(self._metrics.snapshot(), self._resource, time.time_ns()))
        except Exception:  # noqa: BLE001  # whatever it is, the thread goes on
            _log.exception("metrics could not be sent")


def span_encoder(resource: Resource) -> Callable[[Sample], ReadableSpan]:
    """How samples become spans: CLIENT for a call to a provider, INTERNAL for what we answered or refused ourselves."""
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415  # heavy
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415  # heavy
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415  # heavy

    scope = InstrumentationScope(_SCOPE, __version__)
    fine = Status(StatusCode.UNSET)
    yes, no = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)

    def span_of(sample: Sample) -> ReadableSpan:
        entry, parent = sample.entry, sample.parent
        trace_id = parent.trace_id if parent else entry.request_id.int
        model = _text(entry.upstream_model or entry.model_used or "")
        return ReadableSpan(
            name=f"{entry.operation} {model}".rstrip(),
            context=SpanContext(trace_id, entry.id.int & _LOW_64_BITS, is_remote=False, trace_flags=yes),
            parent=SpanContext(trace_id, parent.span_id, is_remote=True, trace_flags=yes if parent.sampled else no) if parent else None,
            resource=resource,
            attributes={**_attributes(entry, model), **sample.parameters},
            kind=SpanKind.INTERNAL if entry.provider is None else SpanKind.CLIENT,
            status=fine if entry.error is None else Status(StatusCode.ERROR, _error(entry.error)),
            start_time=sample.ended_ns - entry.latency_us * 1000,
            end_time=sample.ended_ns,
            instrumentation_scope=scope,
        )

    return span_of


def _attributes(entry: LedgerEntry, model: str) -> Attributes:
    attributes: Attributes = {
        names.OPERATION: str(entry.operation),
        names.PROVIDER: _text(entry.provider or _OURSELVES),
        names.SOURCE: str(entry.source),
        names.STATUS: entry.status,
        names.COST: entry.cost_microusd,
        names.SAVED: entry.saved_microusd,
        names.PRICE_SOURCE: entry.price_source,
        names.TENANT: _text(entry.tenant),
        names.ATTEMPT: entry.attempt,
        names.FINAL: entry.final,
        names.REQUEST_ID: str(entry.request_id),
    }
    optional = {names.REQUEST_MODEL: model, names.MODEL: entry.model_used, names.ROUTE: entry.route, names.MODE: entry.mode}
    attributes.update({name: _text(value) for name, value in optional.items() if value})
    if entry.stream:
        attributes[names.REQUEST_STREAM] = True
    if entry.error is not None:
        attributes[names.ERROR_TYPE] = _error(entry.error)
    if entry.ttft_us is not None:
        attributes[names.RESPONSE_TIME_TO_FIRST_CHUNK] = entry.ttft_us / 1_000_000
    if entry.upstream_model and (entry.error is None or entry.ttft_us is not None):
        attributes[names.RESPONSE_MODEL] = model
    if entry.usage_source != "none":
        attributes.update(_usage(entry))
    return attributes


def _usage(entry: LedgerEntry) -> Attributes:
    usage: Attributes = {names.USAGE_INPUT: entry.tokens_in, names.USAGE_SOURCE: entry.usage_source}
    optional = {
        names.USAGE_OUTPUT: entry.tokens_out,
        names.USAGE_CACHE_READ: entry.tokens_cache_read,
        names.USAGE_CACHE_CREATION: entry.tokens_cache_write,
        names.USAGE_REASONING: entry.tokens_reasoning,
    }
    return {**usage, **{name: count for name, count in optional.items() if count}}


def _text(value: str) -> str:
    """Text as UTF-8 can carry it: one odd character would cost the whole batch."""
    return value.encode("utf-8", "replace").decode()


def _error(code: str) -> str:
    """An error's code; a provider may send anything as its code, even a piece of the prompt, so only what looks like a code is shown."""
    return code if _PLAIN_CODE.fullmatch(code) else ERROR_OTHER


def metrics_of(snapshot: Snapshot, resource: Resource, now_ns: int) -> MetricsData:
    """One worker's counters as cumulative OTLP metrics."""
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics  # noqa: PLC0415  # heavy
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415  # heavy

    found = [_metric(instrument, snapshot, now_ns) for instrument in names.INSTRUMENTS]
    found += [_reading(reading, snapshot.born_ns, now_ns) for reading in snapshot.readings]
    scope = ScopeMetrics(scope=InstrumentationScope(_SCOPE, __version__), metrics=found, schema_url="")
    return MetricsData(resource_metrics=[ResourceMetrics(resource=resource, scope_metrics=[scope], schema_url="")])


def _metric(instrument: Instrument, snapshot: Snapshot, now_ns: int) -> Metric:
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415  # heavy
        AggregationTemporality,
        Histogram,
        HistogramDataPoint,
        Metric,
        NumberDataPoint,
        Sum,
    )

    born = snapshot.born_ns
    found = [({name: text for name, text in labels.items() if text}, cells) for labels, cells in points(instrument, snapshot.series)]
    data: Sum | Histogram
    if instrument.bounds:
        bounds = [bound / instrument.scale for bound in instrument.bounds]
        histograms = [
            HistogramDataPoint(
                attributes=attributes,
                start_time_unix_nano=born,
                time_unix_nano=now_ns,
                count=sum(counts),
                sum=total / instrument.scale,
                bucket_counts=counts,
                explicit_bounds=bounds,
                min=None,  # type: ignore[arg-type]  # optional in OTLP; not known, and zero would be false
                max=None,  # type: ignore[arg-type]  # the same
            )
            for attributes, (total, *counts) in found
        ]
        data = Histogram(histograms, AggregationTemporality.CUMULATIVE)
    else:
        sums = [NumberDataPoint(attributes, born, now_ns, value) for attributes, (value,) in found]
        data = Sum(sums, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Metric(instrument.name, instrument.help, instrument.unit, data)


def _reading(reading: Reading, born_ns: int, now_ns: int) -> Metric:
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Metric, NumberDataPoint, Sum  # noqa: PLC0415  # heavy

    point = NumberDataPoint(reading.attributes, born_ns, now_ns, reading.value)
    data = Sum([point], AggregationTemporality.CUMULATIVE, is_monotonic=True) if reading.kind == "counter" else Gauge([point])
    return Metric(reading.name, reading.help, reading.unit, data)
