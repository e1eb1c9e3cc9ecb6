"""Spans by OpenTelemetry's GenAI conventions, made after the fact from ledger entries, and W3C trace context.

Off unless `telemetry.otlp_endpoint` is set: then no thread, no connection, and nothing of OpenTelemetry imported. No prompt or answer
text is ever in a span.

A trace that nobody began for us has the request's id as its id, so that all attempts of a request share a trace and anyone who has an
`x-farthing-request-id` finds it. A span has the random half of its ledger entry's id.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Protocol, cast

from farthing.errors import SettingsError
from farthing.settings import TelemetrySettings
from farthing.telemetry import instruments as names
from farthing.telemetry.encoding import Parent, Sample
from farthing.telemetry.otlp import Counters, Exporter
from farthing.types import ANONYMOUS, Json, LedgerEntry, Operation, Request

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_Fields = tuple[str, str, str, str, str | None]
_LONGEST_TRACEPARENT = 256
_SAMPLED, _RANDOM = 0x01, 0x02
_ODD = frozenset("13579bdf")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_RANDOMNESS_BITS = 56
"""The part of a trace id that is random: its last seven bytes (W3C Trace Context, level 2). So are those of a request's id."""
_RANDOMNESS = (1 << _RANDOMNESS_BITS) - 1
_MAX_QUEUE = 4096
_MAX_INT64 = 2**63
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


class SpanSink(Protocol):
    """Where samples go. Bounded; sends from a thread of its own."""

    def offer(self, sample: Sample) -> None:
        """Take a sample, or drop and count it when there is no room. Never blocks."""

    @property
    def dropped(self) -> int:
        """How many samples were dropped."""

    def close(self, deadline_s: float) -> None:
        """Send what is left, for at most so many seconds. A no-op the second time."""


def parse(traceparent: str) -> Parent | None:
    """The caller's span by its `traceparent` header (W3C Trace Context, 3.2); None when the header is not valid."""
    fields = _fields(traceparent)
    return fields and _parent(fields)


def outgoing(traceparent: str | None) -> str | None:
    """What to tell the provider: the caller's `traceparent`, cleaned; None when there is none or it is not valid.

    A header of a version to come is passed on as version 00 with the flags that version 00 knows, as the standard asks.
    """
    fields = None if traceparent is None else _fields(traceparent)
    if fields is None:
        return None
    _, trace_id, span_id, flags, _ = fields
    return f"00-{trace_id}-{span_id}-{int(flags, 16) & (_SAMPLED | _RANDOM):02x}"


def _fields(traceparent: str) -> _Fields | None:
    """Version, trace id, span id and flags in lower-case hex, and what a later version has appended; None when it is not valid."""
    if len(traceparent) > _LONGEST_TRACEPARENT:
        return None
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, span_id, _, more = fields = cast("_Fields", match.groups())
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return fields


def _is_sampled(fields: _Fields) -> bool:
    return fields[3][1] in _ODD


def _parent(fields: _Fields) -> Parent:
    return Parent(trace_id=int(fields[1], 16), span_id=int(fields[2], 16), sampled=_is_sampled(fields))


class Tracing:
    """An observer that makes spans. Without a sink it does nothing.

    A request is sampled when its caller's trace is, else (no trace, or a caller without a key) at `sample_ratio`, by its id: all attempts
    of a request or none.
    """

    def __init__(self, sink: SpanSink | None, *, sample_ratio: float) -> None:
        self._sink = sink
        self._threshold = int(sample_ratio * (_RANDOMNESS + 1))
        self._failures = 0

    @property
    def enabled(self) -> bool:
        """Whether anything is sent at all."""
        return self._sink is not None

    @property
    def dropped(self) -> int:
        """Spans that were not made, because the collector was slow or away or a value was odd."""
        return self._failures + (self._sink.dropped if self._sink else 0)

    def observe(self, entry: LedgerEntry, request: Request) -> None:
        """Make a span of an entry, if it is sampled. Never raises and never blocks."""
        if self._sink is None:
            return
        try:
            fields = None if request.traceparent is None else _fields(request.traceparent)
            if fields is None or request.principal is ANONYMOUS:
                sampled = (request.id.int & _RANDOMNESS) < self._threshold
            else:
                sampled = _is_sampled(fields)
            if sampled:
                parent = fields and _parent(fields)
                sample = Sample(entry=entry, parent=parent, parameters=_parameters(request), ended_ns=time.time_ns())
                self._sink.offer(sample)
        except Exception:  # noqa: BLE001  # telemetry must not cost an answer
            self._failures += 1

    async def aclose(self, deadline_s: float = 3.0) -> None:
        """Send what is left, for at most so many seconds, and stop."""
        if self._sink is not None:
            await asyncio.to_thread(self._sink.close, deadline_s)


def _parameters(request: Request) -> dict[str, int | float]:
    """The numbers among the request's parameters. Never text: the request itself is not kept."""
    if request.operation is not Operation.CHAT:
        return {}
    body: Json = request.body
    found: dict[str, int | float] = {}
    for field, attribute in names.REQUEST_PARAMETERS.items():
        value = body.get(field)
        if value is None or isinstance(value, bool):
            continue
        if isinstance(value, float) or (isinstance(value, int) and -_MAX_INT64 <= value < _MAX_INT64):
            found[attribute] = value
    if found.get("gen_ai.request.choice.count") == 1:
        del found["gen_ai.request.choice.count"]  # by the conventions, only when it is not 1
    return found


def build(settings: TelemetrySettings, service_instance_id: str, metrics: Counters) -> Tracing:
    """Tracing as the settings want it. When it is on, `metrics` are exported too, every `export_interval_s`.

    Raises `SettingsError` when the endpoint is no HTTP URL or a header cannot be sent.
    """
    if settings.otlp_endpoint is None:
        return Tracing(None, sample_ratio=0.0)
    if not settings.otlp_endpoint.startswith(("http://", "https://")):
        raise SettingsError("telemetry.otlp_endpoint must be an http:// or https:// URL such as http://127.0.0.1:4318")
    headers = {name: value.get_secret_value() for name, value in settings.otlp_headers.items()}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise SettingsError(f"telemetry.otlp_headers: {name!r} or its value has characters that no HTTP header can hold")
    sink = Exporter(
        endpoint=settings.otlp_endpoint,
        headers=headers,
        service_instance_id=service_instance_id,
        metrics=metrics,
        metrics_interval_s=settings.export_interval_s,
        max_queue=_MAX_QUEUE,
    )
    tracing = Tracing(sink, sample_ratio=settings.sample_ratio)
    metrics.counter(names.SPANS_DROPPED, "Spans not sent: the collector was slow or away.", lambda: tracing.dropped)
    return tracing
