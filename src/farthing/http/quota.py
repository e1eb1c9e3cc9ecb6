"""The headers `x-ratelimit-…`, as OpenAI sends them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from farthing.types import Quota, Request

_SECOND, _MINUTE, _HOUR = 1000, 60_000, 3_600_000


def quota_headers(request: Request) -> Sequence[tuple[bytes, bytes]]:
    """How the limits of the caller's key stand; nothing for a key without."""
    return () if request.quotas is None else _headers(tuple(request.quotas()))


@lru_cache(maxsize=256)  # a busy key with a high limit has the same for a tenth of a second
def _headers(quotas: tuple[Quota, ...]) -> tuple[tuple[bytes, bytes], ...]:
    headers = []
    for quota in quotas:
        name = quota.name.encode()
        headers.append((b"x-ratelimit-limit-" + name, b"%d" % quota.limit))
        headers.append((b"x-ratelimit-remaining-" + name, b"%d" % quota.remaining))
        headers.append((b"x-ratelimit-reset-" + name, duration(quota.reset_s).encode()))
    return tuple(headers)


def duration(seconds: float) -> str:
    """As Go writes durations, whence OpenAI's `1s`, `6m0s` and `850ms`. Rounded up to milliseconds."""
    left = math.ceil(seconds * _SECOND)
    if left <= 0:
        return "0s"
    if left < _SECOND:
        return f"{left}ms"
    hours, left = divmod(left, _HOUR)
    minutes, left = divmod(left, _MINUTE)
    text = f"{left / _SECOND:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
