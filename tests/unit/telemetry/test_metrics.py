from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from farthing.telemetry.instruments import INSTRUMENTS
from farthing.telemetry.metrics import Metrics
from farthing.telemetry.text import prometheus_name
from farthing.types import ANONYMOUS, Source

from .conftest import MakeEntry, MakeRequest


def scrape(metrics: Metrics, directory: Path) -> list[Sample]:
    text = metrics.exposition(directory).decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """The sum of the samples that have these labels, whatever else they have."""
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def test_a_paid_answer_shows_in_duration_tokens_requests_and_money(
    tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry
) -> None:
    metrics = Metrics("1")
    request = make_request()
    metrics.observe(make_entry(request, ttft_us=5_000, tokens_cache_read=64), request)
    samples = scrape(metrics, tmp_path)
    call = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "gpt-4o-mini"}
    assert value(samples, "gen_ai_client_operation_duration_seconds_count", **call, error_type="") == 1
    assert value(samples, "gen_ai_client_operation_duration_seconds_sum", **call) == 0.03
    assert value(samples, "gen_ai_client_operation_duration_seconds_bucket", **call, le="0.02") == 0
    assert value(samples, "gen_ai_client_operation_duration_seconds_bucket", **call, le="0.04") == 1
    assert value(samples, "gen_ai_client_token_usage_sum", **call, gen_ai_token_type="input") == 100
    assert value(samples, "gen_ai_client_token_usage_sum", **call, gen_ai_token_type="output") == 50
    assert value(samples, "gen_ai_client_operation_time_to_first_chunk_seconds_count", **call) == 1
    assert value(samples, "farthing_requests_total", farthing_source="model", farthing_status_class="2xx", farthing_model="fast") == 1
    assert value(samples, "farthing_spent_microusd_total", farthing_price="billed") == 45
    assert value(samples, "farthing_provider_tokens_total", farthing_token_type="cache_read") == 64
    assert value(samples, "farthing_request_duration_seconds_count", farthing_source="model") == 1


def test_a_cache_hit_saves_and_is_no_call_to_a_provider(tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry) -> None:
    metrics = Metrics("1")
    request = make_request()
    metrics.observe(make_entry(request, provider=None, source=Source.EXACT, saved_microusd=45), request)
    samples = scrape(metrics, tmp_path)
    assert value(samples, "farthing_requests_total", farthing_source="exact") == 1
    assert value(samples, "farthing_saved_microusd_total", farthing_source="exact", farthing_model="fast") == 45
    assert not [one for one in samples if one.name.startswith("gen_ai_")]


def test_notional_money_is_told_apart(tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry) -> None:
    metrics = Metrics("1")
    request = make_request()
    metrics.observe(make_entry(request, price_source="notional", cost_microusd=7), request)
    metrics.observe(make_entry(request, cost_microusd=5), request)
    samples = scrape(metrics, tmp_path)
    assert value(samples, "farthing_spent_microusd_total", farthing_price="notional") == 7
    assert value(samples, "farthing_spent_microusd_total", farthing_price="billed") == 5


def test_a_dearer_fallback_never_makes_a_counter_fall(tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry) -> None:
    metrics = Metrics("1")
    request = make_request()
    metrics.observe(make_entry(request, saved_microusd=10), request)
    metrics.observe(make_entry(request, saved_microusd=-4), request)
    samples = scrape(metrics, tmp_path)
    assert value(samples, "farthing_saved_microusd_total") == 10
    assert value(samples, "farthing_overspent_microusd_total") == 4


def test_an_attempt_that_is_not_final_counts_as_a_call_and_as_money_but_not_as_a_request(
    tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry
) -> None:
    metrics = Metrics("1")
    request = make_request()
    failed = make_entry(request, final=False, source=Source.NONE, status=504, error="upstream_timeout", usage_source="estimated")
    metrics.observe(failed, request)
    metrics.observe(make_entry(request, attempt=2), request)
    samples = scrape(metrics, tmp_path)
    assert value(samples, "farthing_requests_total") == 1
    assert value(samples, "gen_ai_client_operation_duration_seconds_count", error_type="upstream_timeout") == 1
    assert value(samples, "gen_ai_client_operation_duration_seconds_count") == 2
    assert value(samples, "farthing_spent_microusd_total") == 90
    assert value(samples, "farthing_usage_estimated_total") == 1


def test_a_failure_without_usage_adds_no_tokens(tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry) -> None:
    metrics = Metrics("1")
    request = make_request()
    metrics.observe(make_entry(request, tokens_in=0, tokens_out=0, usage_source="none", status=502, error="upstream_unavailable"), request)
    samples = scrape(metrics, tmp_path)
    assert value(samples, "gen_ai_client_token_usage_count") == 0
    assert value(samples, "gen_ai_client_operation_duration_seconds_count") == 1


def test_requests_without_a_key_are_counted_from_zero(tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry) -> None:
    metrics = Metrics("1")
    assert value(scrape(metrics, tmp_path), "farthing_requests_unauthenticated_total") == 0
    request = make_request(principal=ANONYMOUS)
    refused = make_entry(request, provider=None, source=Source.NONE, model_used=None, status=401, error="invalid_api_key")
    metrics.observe(refused, request)
    samples = scrape(metrics, tmp_path)
    assert [one.value for one in samples if one.name == "farthing_requests_unauthenticated_total"] == [1]
    assert value(samples, "farthing_requests_total", farthing_status_class="4xx", farthing_model="-") == 1


def test_a_model_name_that_nobody_knows_makes_no_label(tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry) -> None:
    metrics = Metrics("1")
    for number in range(50):
        request = make_request(model=f"invented-{number}")
        unknown = make_entry(request, provider=None, source=Source.NONE, model_used=None, status=404, error="model_not_found")
        metrics.observe(unknown, request)
    text = metrics.exposition(tmp_path).decode()
    assert "invented" not in text
    assert 'farthing_model="-"' in text


def test_error_codes_that_a_provider_made_up_are_one_label(tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry) -> None:
    metrics = Metrics("1")
    request = make_request()
    for number in range(50):
        metrics.observe(make_entry(request, status=400, error=f"made up: the secret plan {number}"), request)
    text = metrics.exposition(tmp_path).decode()
    assert "secret plan" not in text
    assert value(scrape(metrics, tmp_path), "gen_ai_client_operation_duration_seconds_count", error_type="_OTHER") == 50


def test_beyond_the_bound_series_are_counted_as_other_and_nothing_is_lost(
    tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry
) -> None:
    metrics = Metrics("1", max_series=10)
    request = make_request()
    for number in range(500):
        metrics.observe(make_entry(request, model_used=f"model-{number}", upstream_model=f"upstream-{number}"), request)
    samples = scrape(metrics, tmp_path)
    assert len({one.labels["farthing_model"] for one in samples if one.name == "farthing_requests_total"}) == 11
    assert value(samples, "farthing_requests_total") == 500
    assert value(samples, "farthing_requests_total", farthing_model="other") == 490
    assert value(samples, "farthing_telemetry_series") == 11


def test_an_observation_that_fails_is_counted_and_not_raised(tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry) -> None:
    metrics = Metrics("1")
    request = make_request()
    metrics.observe(make_entry(request, status="not a number"), request)
    assert value(scrape(metrics, tmp_path), "farthing_telemetry_failures_total") == 1


def test_gauges_are_read_at_the_scrape_and_a_broken_one_is_left_out(tmp_path: Path) -> None:
    metrics = Metrics("1")
    backlog = [10]
    metrics.gauge("farthing.ledger.backlog", "Bytes.", lambda: backlog[0], unit="By")
    metrics.gauge("farthing.ledger.store_away", "Broken.", lambda: 1 // 0)
    metrics.gauge("farthing.upstream.connections", "Open.", lambda: 3, attributes={"gen_ai.provider.name": "openai"})
    metrics.gauge("farthing.upstream.connections", "Open.", lambda: 4, attributes={"gen_ai.provider.name": "local"})
    backlog[0] = 20
    samples = scrape(metrics, tmp_path)
    assert value(samples, "farthing_ledger_backlog_bytes") == 20
    assert value(samples, "farthing_upstream_connections", gen_ai_provider_name="openai") == 3
    assert value(samples, "farthing_upstream_connections", gen_ai_provider_name="local") == 4
    assert not [one for one in samples if one.name == "farthing_ledger_store_away"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(model=st.text(min_size=1, max_size=300), provider=st.text(min_size=1, max_size=20))
def test_whatever_is_in_a_label_the_text_parses_and_gives_it_back(
    tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry, model: str, provider: str
) -> None:
    metrics = Metrics("1")
    request = make_request()
    metrics.observe(make_entry(request, model_used=model, provider=provider), request)
    samples = scrape(metrics, tmp_path)
    assert value(samples, "farthing_requests_total", farthing_model=model[:128]) == 1


def test_histograms_are_cumulative_and_end_in_their_count(tmp_path: Path, make_request: MakeRequest, make_entry: MakeEntry) -> None:
    metrics = Metrics("1")
    request = make_request()
    for latency in (1, 10_000, 10_001, 81_920_000, 500_000_000):
        metrics.observe(make_entry(request, latency_us=latency), request)
    buckets = {
        one.labels["le"]: one.value for one in scrape(metrics, tmp_path) if one.name == "gen_ai_client_operation_duration_seconds_bucket"
    }
    assert list(map(float, buckets)) == [0.01 * 2**n for n in range(14)] + [float("inf")]
    assert (buckets["0.01"], buckets["0.02"], buckets["81.92"], buckets["+Inf"]) == (2, 3, 4, 5)


def test_names_follow_the_rules_of_opentelemetry_for_prometheus() -> None:
    assert prometheus_name("gen_ai.client.operation.duration", "s") == "gen_ai_client_operation_duration_seconds"
    assert prometheus_name("gen_ai.client.token.usage", "{token}") == "gen_ai_client_token_usage"
    assert prometheus_name("farthing.cache.size", "By") == "farthing_cache_size_bytes"


def test_every_metric_has_its_help_and_type_from_the_start(tmp_path: Path) -> None:
    text = Metrics("1").exposition(tmp_path).decode()
    for instrument in INSTRUMENTS:
        name = prometheus_name(instrument.name, instrument.unit) + ("" if instrument.bounds else "_total")
        assert f"# HELP {name} {instrument.help}\n# TYPE {name} {'histogram' if instrument.bounds else 'counter'}\n" in text


def test_two_metrics_never_read_the_same_cell() -> None:
    cells = [
        at + offset
        for instrument in INSTRUMENTS
        for _, at in instrument.parts
        for offset in range(len(instrument.bounds) + 2 if instrument.bounds else 1)
    ]
    assert sorted(cells) == list(range(len(cells)))


def test_every_metric_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text(encoding="utf-8")
    assert [instrument.name for instrument in INSTRUMENTS if f"`{instrument.name}`" not in page] == []
