"""One gateway worker: `python -m farthing.worker`, started by the supervisor.

It reads one JSON line from standard input: where the settings are, what the supervisor adds to them, and the file descriptor of the
listening socket, which all workers share. Standard input stays open; its end means that the supervisor is gone, and the worker drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from farthing import logs
from farthing.app import Farthing, postgres_stores
from farthing.http.protocol import DoorProtocol
from farthing.orders import Orders, Runtime
from farthing.settings import Settings, load

_KEEP_ALIVE_S = 75
_BACKLOG = 2048


def main() -> None:
    """Read the orders and serve until told to stop."""
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the supervisor gave up before it had orders
    orders = msgspec.json.decode(line, type=Orders)
    settings = load(Path(orders.settings) if orders.settings else None, os.environ, orders.overrides)
    logs.setup(settings.telemetry.log_level)
    uvloop.run(serve(settings, orders.runtime, socket.socket(fileno=orders.socket), watch=sys.stdin.fileno()))


async def serve(settings: Settings, runtime: Runtime, listener: socket.socket, *, watch: int | None = None) -> None:
    """Serve on a listening socket until SIGTERM or SIGINT, or until the end of the file `watch`; then drain."""
    farthing = Farthing(settings, runtime, postgres_stores(settings, runtime.database_url))
    protocol = type("Protocol", (DoorProtocol,), {"header_timeout_s": settings.server.header_timeout_s})
    config = uvicorn.Config(
        farthing.asgi,
        http=protocol,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.server.drain_s),
    )
    server = _Server(config)
    if watch is not None:
        asyncio.get_running_loop().add_reader(watch, _supervisor_gone, server, watch)
    await farthing.start()
    _settle_garbage_collector()
    try:
        await server.serve(sockets=[listener])
    finally:
        await farthing.stop()


def _settle_garbage_collector() -> None:
    """What is loaded by now stays: full collections need not walk it, and come less often. They were the longest pauses of a worker."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


class _Server(uvicorn.Server):
    """uvicorn's own way raises the signal anew after the drain: the process would end before `Farthing.stop` has stored what is left."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def _supervisor_gone(server: uvicorn.Server, watch: int) -> None:
    if not os.read(watch, 1):
        asyncio.get_running_loop().remove_reader(watch)
        server.handle_exit(signal.SIGTERM, None)


if __name__ == "__main__":
    main()
