"""redis-py's errors as ours, by table.

An index that does not answer is a miss, whatever the reason: `Unavailable`, from which callers go on without it. Only what cannot be put
on the wire at all is an `InvalidRequest`, for sending it again cannot help.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis.exceptions as vendor

from farthing.errors import FarthingError, InvalidRequest, Unavailable

TABLE: dict[type[Exception], type[InvalidRequest | Unavailable]] = {
    vendor.DataError: InvalidRequest,  # a value that is neither bytes, text nor number
    vendor.ConnectionError: Unavailable,  # refused, reset, wrong password, still loading its data
    vendor.TimeoutError: Unavailable,
    vendor.InvalidResponse: Unavailable,  # what answers there does not speak Redis's protocol
    vendor.ResponseError: Unavailable,  # no index, no such command, no memory, no right, a replica, a cluster that moved the key
    vendor.WatchError: Unavailable,  # others were faster, again and again
    vendor.RedisError: Unavailable,  # whatever else the driver raises
    vendor.ChildDeadlockedError: Unavailable,
    vendor.RedisClusterException: Unavailable,
    vendor.IncorrectPolicyType: Unavailable,
    TimeoutError: Unavailable,  # our own deadline
    OSError: Unavailable,  # of a socket or of TLS, before the driver makes it its own
}
"""The nearest class in the order of inheritance counts."""

AWAY: tuple[type[Exception], ...] = (vendor.ConnectionError, vendor.TimeoutError, TimeoutError, OSError)
"""What the circuit breaker counts: the engine cannot be reached, or does not answer in time."""


def translate(error: Exception) -> InvalidRequest | Unavailable:
    """Our error for one of redis-py's. The original belongs into `__cause__`.

    The message may reach a stranger, so it holds no address and nothing that the engine said.
    """
    kind = next((TABLE[base] for base in type(error).__mro__ if base in TABLE), Unavailable)
    if kind is InvalidRequest:
        return InvalidRequest("Redis cannot store this.")
    return Unavailable(f"Redis cannot serve this now ({type(error).__name__}).")


@contextmanager
def translated() -> Iterator[None]:
    """Raise our errors for redis-py's. Text that is not Unicode (lone surrogates) is an `InvalidRequest` too."""
    try:
        yield
    except FarthingError:
        raise
    except tuple(TABLE) as error:
        raise translate(error) from error
    except UnicodeError as error:
        raise InvalidRequest("Redis cannot store this: it is not Unicode.") from error
