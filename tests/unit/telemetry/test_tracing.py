from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import SettingsError
from farthing.settings import TelemetrySettings
from farthing.telemetry.encoding import Sample
from farthing.telemetry.metrics import Metrics
from farthing.telemetry.tracing import Tracing, build, outgoing, parse
from farthing.types import ANONYMOUS, Operation

from .conftest import MakeEntry, MakeRequest

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
NOT_VALID = (
    "",
    "nonsense",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01-more",
    f" 00-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01\n",
    f"00-{TRACE}-{SPAN}-01\r\nauthorization: x",
    f"01-{TRACE}-{SPAN}-01-\r\nauthorization: x",
    f"01-{TRACE}-{SPAN}-01-" + "x" * 1000,
)


class Kept:
    """A sink that keeps what it is offered."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.dropped = 0

    def offer(self, sample: Sample) -> None:
        self.samples.append(sample)

    def close(self, deadline_s: float) -> None:
        self.dropped += int(deadline_s * 0)


@pytest.mark.parametrize("header", NOT_VALID)
def test_a_traceparent_that_is_not_valid_is_as_if_it_were_not_there(header: str) -> None:
    assert parse(header) is None
    assert outgoing(header) is None


def test_a_valid_traceparent_is_passed_on() -> None:
    assert outgoing(SAMPLED) == SAMPLED
    assert outgoing(NOT_SAMPLED) == NOT_SAMPLED
    assert outgoing(None) is None


def test_a_traceparent_of_a_version_to_come_is_passed_on_as_version_00() -> None:
    assert outgoing(f"cc-{TRACE}-{SPAN}-ff-what-the-future-brings") == f"00-{TRACE}-{SPAN}-03"


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"))
def test_what_goes_out_is_always_one_clean_header(header: str) -> None:
    sent = outgoing(header)
    assert sent is None or re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", sent)
    assert (sent is None) == (parse(header) is None)


def test_the_callers_flag_decides_before_the_ratio(make_request: MakeRequest, make_entry: MakeEntry) -> None:
    for ratio, header, expected in ((0.0, SAMPLED, 1), (1.0, NOT_SAMPLED, 0), (1.0, "nonsense", 1), (0.0, None, 0), (1.0, None, 1)):
        sink = Kept()
        request = make_request(traceparent=header)
        Tracing(sink, sample_ratio=ratio).observe(make_entry(request), request)
        assert len(sink.samples) == expected, (ratio, header)


def test_a_caller_without_a_key_cannot_ask_for_spans(make_request: MakeRequest, make_entry: MakeEntry) -> None:
    sink = Kept()
    request = make_request(traceparent=SAMPLED, principal=ANONYMOUS)
    Tracing(sink, sample_ratio=0.0).observe(make_entry(request, provider=None, status=401, error="invalid_api_key"), request)
    assert sink.samples == []


def test_all_attempts_of_a_request_are_sampled_or_none(make_request: MakeRequest, make_entry: MakeEntry) -> None:
    sink = Kept()
    tracing = Tracing(sink, sample_ratio=0.2)
    for _ in range(2000):
        request = make_request()
        tracing.observe(make_entry(request, final=False, attempt=1), request)
        tracing.observe(make_entry(request, attempt=2), request)
    attempts = [sample.entry.request_id for sample in sink.samples]
    assert len(attempts) == 2 * len(set(attempts))
    assert 250 < len(set(attempts)) < 550  # 400 expected; ten standard deviations are 180


def test_numbers_of_the_request_are_kept_and_nothing_else_of_it(make_request: MakeRequest, make_entry: MakeEntry) -> None:
    sink = Kept()
    body = {
        "messages": [{"role": "user", "content": "the secret plan"}],
        "temperature": 0.5,
        "max_completion_tokens": 10,
        "top_p": "the secret plan",
        "seed": 10**40,
        "n": 1,
        "presence_penalty": True,
        "stop": ["the secret plan"],
        "user": "the secret plan",
    }
    request = make_request(body=body)
    Tracing(sink, sample_ratio=1.0).observe(make_entry(request), request)
    assert sink.samples[0].parameters == {"gen_ai.request.temperature": 0.5, "gen_ai.request.max_tokens": 10}


def test_embeddings_have_no_chat_parameters(make_request: MakeRequest, make_entry: MakeEntry) -> None:
    sink = Kept()
    request = make_request(operation=Operation.EMBEDDINGS, body={"input": "x", "temperature": 1})
    Tracing(sink, sample_ratio=1.0).observe(make_entry(request), request)
    assert sink.samples[0].parameters == {}


def test_a_request_that_cannot_be_observed_costs_nothing_but_its_span(make_request: MakeRequest, make_entry: MakeEntry) -> None:
    tracing = Tracing(Kept(), sample_ratio=1.0)
    request = make_request(body="not an object")
    tracing.observe(make_entry(request), request)
    assert tracing.dropped == 1


async def test_without_an_endpoint_nothing_is_made(make_request: MakeRequest, make_entry: MakeEntry) -> None:
    tracing = build(TelemetrySettings(), "1", Metrics("1"))
    request = make_request(traceparent=SAMPLED)
    tracing.observe(make_entry(request), request)
    assert (tracing.enabled, tracing.dropped) == (False, 0)
    await tracing.aclose()


@pytest.mark.parametrize("endpoint", ["file:///etc/passwd", "collector:4318", ""])
def test_an_endpoint_that_is_no_http_url_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="otlp_endpoint"):
        build(TelemetrySettings(otlp_endpoint=endpoint), "1", Metrics("1"))


def test_a_header_that_would_break_out_is_refused_and_its_value_not_shown() -> None:
    settings = TelemetrySettings.model_validate({"otlp_endpoint": "http://127.0.0.1:1", "otlp_headers": {"x-key": "hush\r\nevil: 1"}})
    with pytest.raises(SettingsError) as caught:
        build(settings, "1", Metrics("1"))
    assert "x-key" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_off_means_that_opentelemetry_is_not_even_imported() -> None:
    code = """
import sys, threading
from farthing import logs
from farthing.telemetry import metrics, tracing
from farthing.settings import TelemetrySettings
tracing.build(TelemetrySettings(), "1", metrics.Metrics("1"))
heavy = [name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "google", "requests", "prometheus_client")]
assert not heavy, heavy
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
