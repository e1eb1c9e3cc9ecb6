from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_receiver import Receiver, a_request, an_entry, attributes, receiver

from farthing.settings import TelemetrySettings
from farthing.telemetry.metrics import Metrics
from farthing.telemetry.tracing import Tracing, build
from farthing.types import Operation, Source

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiver() as state:
        yield state


def tracing_to(collector: Receiver, metrics: Metrics | None = None, **fields: Any) -> Tracing:
    settings = TelemetrySettings.model_validate({"otlp_endpoint": collector.url, "sample_ratio": 1.0, **fields})
    return build(settings, "worker-7", metrics or Metrics("7"))


async def test_a_call_to_a_provider_becomes_a_client_span_by_the_conventions(collector: Receiver) -> None:
    tracing = tracing_to(collector)
    request = a_request(traceparent=f"00-{TRACE}-{SPAN}-01")
    entry = an_entry(request)
    before = time.time_ns()
    tracing.observe(entry, request)
    await tracing.aclose()
    (span,) = collector.spans()
    assert span.name == "chat gpt-4o-mini"
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert span.span_id == entry.id.bytes[8:]
    assert span.end_time_unix_nano - span.start_time_unix_nano == 30_000_000
    assert before <= span.end_time_unix_nano <= time.time_ns()
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.25,
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.response.time_to_first_chunk": 0.012,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.usage.reasoning.output_tokens": 8,
        "farthing.usage.source": "provider",
        "farthing.model": "fast",
        "farthing.source": "model",
        "farthing.status": 200,
        "farthing.cost_microusd": 45,
        "farthing.saved_microusd": 5,
        "farthing.price.source": "settings",
        "farthing.tenant": "acme",
        "farthing.attempt": 1,
        "farthing.final": True,
        "farthing.route": "direct",
        "farthing.request.id": str(request.id),
    }
    assert attributes(collector.traces()[0].resource_spans[0].resource)["service.instance.id"] == "worker-7"


async def test_no_prompt_text_leaves_the_house(collector: Receiver) -> None:
    metrics = Metrics("7")
    tracing = tracing_to(collector, metrics)
    for request in (a_request(), a_request(operation=Operation.EMBEDDINGS, body={"input": "the secret plan"})):
        entry = an_entry(request, error="bad word: the secret plan", status=400)
        metrics.observe(entry, request)
        tracing.observe(entry, request)
    await tracing.aclose()
    assert len(collector.spans()) == 2
    assert not [path for path, _, body in collector.requests if b"secret plan" in body]


async def test_attempts_share_the_trace_of_their_request(collector: Receiver) -> None:
    tracing = tracing_to(collector)
    request = a_request()
    late = {"source": Source.NONE, "status": 504, "error": "upstream_timeout", "usage_source": "none", "ttft_us": None}
    tracing.observe(an_entry(request, attempt=1, final=False, **late), request)
    tracing.observe(an_entry(request, attempt=2, provider="azure", route="fallback"), request)
    await tracing.aclose()
    failed, answered = collector.spans()
    assert failed.trace_id == answered.trace_id == request.id.bytes
    assert failed.span_id != answered.span_id
    assert not failed.parent_span_id
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "upstream_timeout")
    assert attributes(failed)["error.type"] == "upstream_timeout"
    assert not {"gen_ai.response.model", "gen_ai.usage.input_tokens"} & attributes(failed).keys()
    assert attributes(answered)["farthing.route"] == "fallback"


async def test_a_cache_hit_is_an_internal_span_of_our_own(collector: Receiver) -> None:
    tracing = tracing_to(collector)
    request = a_request()
    hit = {"attempt": 0, "provider": None, "upstream_model": None, "source": Source.EXACT, "usage_source": "none", "ttft_us": None}
    tracing.observe(an_entry(request, saved_microusd=45, cost_microusd=0, latency_us=80, **hit), request)
    await tracing.aclose()
    (span,) = collector.spans()
    assert (span.name, span.kind) == ("chat fast", Span.SPAN_KIND_INTERNAL)
    shown = attributes(span)
    assert (shown["gen_ai.provider.name"], shown["farthing.source"], shown["farthing.saved_microusd"]) == ("farthing", "exact", 45)


async def test_one_odd_character_does_not_cost_the_batch(collector: Receiver) -> None:
    tracing = tracing_to(collector)
    for tenant in ("fine", "odd \ud800", "größer"):
        request = a_request()
        tracing.observe(an_entry(request, tenant=tenant), request)
    await tracing.aclose()
    assert [attributes(span)["farthing.tenant"] for span in collector.spans()] == ["fine", "odd ?", "größer"]


async def test_metrics_are_sent_with_the_numbers_of_the_worker(collector: Receiver) -> None:
    metrics = Metrics("7")
    metrics.gauge("farthing.cache.entries", "Entries.", lambda: 3)
    tracing = tracing_to(collector, metrics, export_interval_s=0.05)
    request = a_request()
    metrics.observe(an_entry(request, saved_microusd=-4), request)
    metrics.observe(an_entry(request, latency_us=5_000, final=False, error="upstream_timeout", status=504), request)
    for _ in range(200):
        await asyncio.sleep(0.02)
        if any(path == "/v1/metrics" for path, _, _ in collector.requests):
            break
    await tracing.aclose()
    found = collector.metrics()
    duration = found["gen_ai.client.operation.duration"]
    assert duration.unit == "s"
    by_error = {attributes(point).get("error.type"): point for point in duration.histogram.data_points}
    assert by_error.keys() == {None, "upstream_timeout"}
    answered = by_error[None]
    assert (answered.count, answered.sum, list(answered.bucket_counts)) == (1, 0.03, [0, 0, 1] + [0] * 12)
    assert list(answered.explicit_bounds) == [0.01 * 2**n for n in range(14)]
    assert duration.histogram.aggregation_temporality == 2
    assert 0 < answered.start_time_unix_nano <= answered.time_unix_nano
    usage = {attributes(point)["gen_ai.token.type"]: point.sum for point in found["gen_ai.client.token.usage"].histogram.data_points}
    assert usage == {"input": 200, "output": 100}
    assert found["farthing.requests"].sum.is_monotonic
    assert [point.as_int for point in found["farthing.requests"].sum.data_points] == [1]
    assert [point.as_int for point in found["farthing.overspent.microusd"].sum.data_points] == [4]
    assert [point.as_double for point in found["farthing.cache.entries"].gauge.data_points] == [3]


async def test_headers_of_the_settings_are_sent(collector: Receiver) -> None:
    tracing = tracing_to(collector, otlp_headers={"x-api-key": "hush"})
    request = a_request()
    tracing.observe(an_entry(request), request)
    await tracing.aclose()
    _, headers, _ = collector.requests[0]
    assert headers["x-api-key"] == "hush"
    assert headers["content-type"] == "application/x-protobuf"


async def test_a_collector_that_is_busy_for_a_moment_loses_nothing(collector: Receiver) -> None:
    collector.statuses = [503]
    tracing = tracing_to(collector)
    request = a_request()
    tracing.observe(an_entry(request), request)
    for _ in range(500):
        await asyncio.sleep(0.01)
        if len(collector.requests) == 2:
            break
    await tracing.aclose()
    assert collector.requests[0][2] == collector.requests[1][2]
    assert tracing.dropped == 0


@pytest.mark.parametrize("status", [400, 401, 302])
async def test_a_collector_that_refuses_is_not_asked_again_and_its_redirects_not_followed(
    collector: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    collector.statuses = [status, status]
    metrics = Metrics("7")
    tracing = tracing_to(collector, metrics)
    request = a_request()
    with caplog.at_level(logging.WARNING):
        tracing.observe(an_entry(request), request)
        await tracing.aclose()
    assert [path for path, _, _ in collector.requests] == ["/v1/traces", "/v1/metrics"]
    assert tracing.dropped == 1
    assert sum("does not take" in record.message for record in caplog.records) == 1
    (lost,) = [reading for reading in metrics.snapshot().readings if reading.name == "farthing.telemetry.spans_dropped"]
    assert lost.value == 1


async def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end(collector: Receiver) -> None:
    collector.hold.clear()
    tracing = tracing_to(collector)
    request = a_request()
    entry = an_entry(request)
    for _ in range(20_000):
        tracing.observe(entry, request)
    async with asyncio.timeout(10):
        await tracing.aclose(0.3)
    assert tracing.dropped >= 20_000 - 4096 - 512 - 1
    collector.hold.set()


async def test_no_collector_at_all_is_survived() -> None:
    with receiver() as gone:
        url = gone.url
    tracing = build(TelemetrySettings(otlp_endpoint=url, sample_ratio=1.0), "1", Metrics("1"))
    request = a_request()
    tracing.observe(an_entry(request), request)
    await tracing.aclose()
    assert tracing.dropped == 1


def test_nothing_is_sent_when_it_is_off_whatever_the_environment_says(collector: Receiver) -> None:
    code = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from otlp_receiver import a_request, an_entry
for module in [name for name in sys.modules if name.startswith("opentelemetry")]:
    del sys.modules[module]
from farthing.settings import TelemetrySettings
from farthing.telemetry.metrics import Metrics
from farthing.telemetry.tracing import build
async def main():
    metrics = Metrics("1")
    tracing = build(TelemetrySettings(export_interval_s=0.05), "1", metrics)
    request = a_request(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    for observe in (metrics.observe, tracing.observe):
        observe(an_entry(request), request)
    await asyncio.sleep(0.3)
    await tracing.aclose()
asyncio.run(main())
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_EXPORTER": "otlp"}
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], check=True, env=environment)
    assert collector.requests == []
