"""A real OTLP/HTTP receiver on this machine, and the facts that are sent to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from farthing.types import Extras, LedgerEntry, Lifeline, Operation, Principal, Request, Source, new_id


class Receiver:
    """What came in. `statuses` are answered in turn before 200; `hold` delays each answer."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        self.hold.wait(30)
        self.requests.append((path, headers, body))
        return self.statuses.pop(0) if self.statuses else 200

    def traces(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for path, _, body in self.requests if path == "/v1/traces"]

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.traces()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def metrics(self) -> dict[str, Metric]:
        """Those of the last export."""
        body = [body for path, _, body in self.requests if path == "/v1/metrics"][-1]
        (resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
        return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}


@contextmanager
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(state.take(self.path, headers, body))
            self.send_header("content-length", "0")
            self.send_header("location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    """A span's or a data point's attributes as Python values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


def a_request(**fields: Any) -> Request:
    given: dict[str, Any] = {
        "id": new_id(),
        "principal": Principal(key_id=new_id(), tenant="acme"),
        "operation": Operation.CHAT,
        "body": {"messages": [{"role": "user", "content": "the secret plan"}], "temperature": 0.25, "stop": "the secret plan"},
        "model": "fast",
        "extras": Extras(),
        "started_ns": time.perf_counter_ns(),
        "lifeline": Lifeline(None),
    }
    return Request(**{**given, **fields})


def an_entry(request: Request, **fields: Any) -> LedgerEntry:
    given: dict[str, Any] = {
        "id": new_id(),
        "request_id": request.id,
        "attempt": 1,
        "final": True,
        "tenant": request.principal.tenant,
        "key_id": request.principal.key_id,
        "user_id": None,
        "tier": request.principal.tier,
        "operation": request.operation,
        "source": Source.MODEL,
        "model_asked": "the secret plan",
        "model_used": "fast",
        "provider": "openai",
        "upstream_model": "gpt-4o-mini",
        "route": "direct",
        "stream": True,
        "tokens_in": 100,
        "tokens_out": 50,
        "tokens_cache_read": 64,
        "tokens_reasoning": 8,
        "usage_source": "provider",
        "price_source": "settings",
        "cost_microusd": 45,
        "saved_microusd": 5,
        "latency_us": 30_000,
        "ttft_us": 12_000,
    }
    return LedgerEntry(**{**given, **fields})
