"""The way to an OpenTelemetry collector: spans and metrics by OTLP over HTTP, from one thread of their own."""

from __future__ import annotations

import http.client
import logging
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from email.message import Message
from typing import IO, Protocol

from farthing import __version__
from farthing.telemetry.encoding import Sample, metrics_encoder, spans_encoder
from farthing.telemetry.files import Snapshot

_log = logging.getLogger("farthing.telemetry")

_BATCH = 512
_SPAN_DELAY_S = 1.0
_EXPORT_TIMEOUT_S = 5.0
_FIRST_BACKOFF_S = 0.5
_WORTH_ANOTHER_TRY = frozenset({429, 502, 503, 504})
"""By the OTLP specification (OTLP/HTTP response, retryable codes)."""


class Counters(Protocol):
    """What is exported as metrics: `telemetry.Metrics`."""

    def snapshot(self) -> Snapshot:
        """The numbers of this moment. Called from the exporter's thread."""

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show a total that somebody else counts."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Headers may hold a key: they go to the host in the settings and to no other."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002  # urllib's signature
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: Message,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> urllib.request.Request | None:
        return None


class Exporter:
    """Sends spans once a second or when a batch is full, and metrics every `metrics_interval_s`. See `tracing.SpanSink`.

    At most `max_queue` spans wait; when the collector is away, further ones are dropped and counted. A batch that the collector has not
    taken within five seconds, retries included, is dropped too. `endpoint` is the base URL: `/v1/traces` and `/v1/metrics` are added.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        headers: Mapping[str, str],
        service_instance_id: str,
        metrics: Counters,
        metrics_interval_s: float,
        max_queue: int,
    ) -> None:
        resource = {"service.name": "farthing", "service.version": __version__, "service.instance.id": service_instance_id}
        self._encode_spans = spans_encoder(resource)
        self._encode_metrics = metrics_encoder(resource)
        self._base = endpoint.rstrip("/")
        self._headers = {**headers, "content-type": "application/x-protobuf", "user-agent": f"farthing/{__version__}"}
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._metrics = metrics
        self._metrics_interval_s = metrics_interval_s
        self._max_queue = max_queue
        self._queue: deque[Sample] = deque()
        self._full = self._lost = 0
        self._healthy = True
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="farthing-otlp", daemon=True)
        self._thread.start()

    def offer(self, sample: Sample) -> None:
        """See `tracing.SpanSink.offer`."""
        waiting = len(self._queue)
        if waiting >= self._max_queue or self._closing.is_set():
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
        """See `tracing.SpanSink.close`. Past the deadline the thread is left to itself; it does not hold up the end of the process."""
        self._closing.set()
        self._wake.set()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        due = time.monotonic() + self._metrics_interval_s
        while not self._closing.is_set():
            self._wake.wait(max(0.0, min(_SPAN_DELAY_S, due - time.monotonic())))
            self._wake.clear()
            self._send_spans()
            if time.monotonic() >= due:
                self._send_metrics()
                due = time.monotonic() + self._metrics_interval_s
        self._send_spans()
        self._send_metrics()

    def _send_spans(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            try:
                sent = self._post("/v1/traces", self._encode_spans(batch))
            except Exception:  # noqa: BLE001  # whatever it is, the thread goes on
                _log.exception("spans could not be sent")
                sent = False
            self._lost += 0 if sent else len(batch)

    def _send_metrics(self) -> None:
        try:
            self._post("/v1/metrics", self._encode_metrics(self._metrics.snapshot(), time.time_ns()))
        except Exception:  # noqa: BLE001  # whatever it is, the thread goes on
            _log.exception("metrics could not be sent")

    def _post(self, path: str, body: bytes) -> bool:
        """Send, again if the collector says that it is worth it, for five seconds in all; when closing, once."""
        deadline = time.monotonic() + _EXPORT_TIMEOUT_S
        backoff = _FIRST_BACKOFF_S
        while True:
            problem, again = self._try(path, body, max(0.1, deadline - time.monotonic()))
            if problem is None:
                self._say(healthy=True, problem="")
                return True
            if not again or time.monotonic() + backoff >= deadline or self._closing.wait(backoff):
                self._say(healthy=False, problem=problem)
                return False
            backoff *= 2

    def _try(self, path: str, body: bytes, timeout_s: float) -> tuple[str | None, bool]:
        """What went wrong (None: nothing) and whether it may go better in a while."""
        request = urllib.request.Request(self._base + path, data=body, headers=self._headers, method="POST")  # noqa: S310  # http(s), as set
        try:
            with self._opener.open(request, timeout=timeout_s):
                return None, False
        except urllib.error.HTTPError as error:
            error.close()
            return f"HTTP {error.code}", error.code in _WORTH_ANOTHER_TRY
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}", True

    def _say(self, *, healthy: bool, problem: str) -> None:
        """One line when the collector stops taking what it is sent, one when it takes it again."""
        if healthy != self._healthy:
            self._healthy = healthy
            if healthy:
                _log.warning("the OpenTelemetry collector is back")
            else:
                _log.warning("the OpenTelemetry collector at %s does not take what it is sent: %s", self._base, problem)
