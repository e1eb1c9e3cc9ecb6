"""What gateway workers and background processes have in common: their orders, the word that they are ready, their memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os

import msgspec

from farthing import logs
from farthing.app import Farthing
from farthing.app_secrets import fresh_secrets
from farthing.orders import Orders
from farthing.settings import Settings, load_text

_POLL_S = 0.02


def read_orders(fd: int) -> tuple[Settings, Orders] | None:
    """Wait for the supervisor's line, and begin to log as it says. None: the supervisor gave up before it had orders."""
    line = read_line(fd)
    if not line:
        return None
    orders = msgspec.json.decode(line, type=Orders)
    settings = load_text(orders.settings, os.environ, orders.overrides, fresh_secrets(orders.secrets))
    logs.setup(settings.telemetry.log_level)
    return settings, orders


def read_line(fd: int) -> bytes:
    """The next line, empty at the end. Not through a buffer, which might take in the supervisor's next word with it."""
    with open(fd, "rb", buffering=0, closefd=False) as raw:
        return raw.readline()


async def announce(farthing: Farthing, ready: int) -> None:
    """Tell the supervisor when requests can be answered."""
    while farthing.state().waiting:  # noqa: ASYNC110 - many parts; none of them tells
        await asyncio.sleep(_POLL_S)
    with contextlib.suppress(OSError):  # it is gone
        os.write(ready, b"!")
    os.close(ready)


def settle_garbage_collector() -> None:
    """What is loaded by now stays: full collections need not walk it, and come less often. They were the longest pauses of a worker.

    A request leaves nothing behind that needs one. What errors leave is taken before it makes up megabytes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 100)
