from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import RateLimited
from farthing.http.asgi import error_headers
from farthing.http.quota import duration, quota_headers
from farthing.types import ANONYMOUS, Extras, Lifeline, Operation, Quota, Request, new_id


def request(*quotas: Quota) -> Request:
    return Request(
        id=new_id(),
        principal=ANONYMOUS,
        operation=Operation.CHAT,
        body={},
        model="",
        extras=Extras(),
        started_ns=0,
        lifeline=Lifeline(None),
        quotas=(lambda: quotas) if quotas else None,
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.017, "17ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9991, "1m0s"),
        (72, "1m12s"),
        (90.951, "1m30.951s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (-3, "0s"),
    ],
)
def test_durations_read_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 90_000))
def test_a_duration_is_never_shorter_than_what_it_stands_for(seconds: float) -> None:
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s|(\d+)ms)", duration(seconds))
    assert parts
    hours, minutes, rest, millis = (float(part or 0) for part in parts.groups())
    total = hours * 3600 + minutes * 60 + rest + millis / 1000
    assert seconds - 1e-6 <= total <= seconds + 0.0011


def test_headers_are_openais() -> None:
    requests = Quota(name="requests", limit=60, remaining=59, reset_s=1)
    tokens = Quota(name="tokens", limit=150_000, remaining=149_984, reset_s=0.006)
    assert list(quota_headers(request(requests, tokens))) == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"150000"),
        (b"x-ratelimit-remaining-tokens", b"149984"),
        (b"x-ratelimit-reset-tokens", b"6ms"),
    ]


def test_a_key_without_limits_gets_no_such_headers() -> None:
    assert not quota_headers(request())


def test_a_refusal_says_which_limit_and_when() -> None:
    error = RateLimited("too many", limit="tokens", retry_after_s=1.2)
    assert dict(error_headers(error)) == {
        b"x-should-retry": b"true",
        b"retry-after": b"2",
        b"retry-after-ms": b"1200",
        b"x-farthing-limit": b"tokens",
    }
    assert error.wire() == (429, {"message": "too many", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"})
