"""One background process: `python -m farthing.job_worker`, started by the supervisor.

The same composition as a gateway worker's, without a door: it handles events, does the items of jobs and keeps schedules. It reads the
same orders, and drains as a gateway worker does: when others have taken over, when the supervisor is gone, on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvloop

from farthing.app import Farthing
from farthing.app_stores import postgres_stores
from farthing.orders import Orders
from farthing.settings import Settings
from farthing.worker_process import announce, read_orders, settle_garbage_collector


def main() -> None:
    """Read the orders and work until told to stop."""
    read = read_orders(sys.stdin.fileno())
    if read is not None:
        settings, orders = read
        uvloop.run(work(lean(settings), orders, watch=sys.stdin.fileno()))


def lean(settings: Settings) -> Settings:
    """Without the caches: their copies in memory are for requests, and what is asked in the background has not been asked before.

    But for the semantic cache in Redis: of that there is no copy, and what is flushed in the background must be flushed there.
    """
    cache = settings.cache
    if cache.semantic.enabled and cache.semantic.backend == "redis":
        return settings
    off = {name: section.model_copy(update={"enabled": False}) for name, section in (("exact", cache.exact), ("semantic", cache.semantic))}
    return settings.model_copy(update={"cache": cache.model_copy(update=off)})


async def work(settings: Settings, orders: Orders, *, watch: int) -> None:
    """Work until SIGTERM or SIGINT, or until something comes from the file `watch`; then let what is under way end."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    loop.add_reader(watch, _heard, told, watch)
    farthing = Farthing(settings, orders.runtime, postgres_stores(settings, orders.runtime.database_url))
    await farthing.start()
    settle_garbage_collector()
    announcing = asyncio.create_task(announce(farthing, orders.ready))
    try:
        await told.wait()
    finally:
        announcing.cancel()
        await farthing.stop()


def _heard(told: asyncio.Event, watch: int) -> None:
    """From the supervisor: that others have taken over, or nothing any more because it is gone."""
    asyncio.get_running_loop().remove_reader(watch)
    os.read(watch, 64)
    told.set()


if __name__ == "__main__":
    main()
