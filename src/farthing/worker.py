"""One gateway worker: `python -m farthing.worker`, started by the supervisor.

It reads one JSON line from standard input: the settings, what the supervisor adds to them, and the file descriptor of the listening
socket, which all workers share. Standard input stays open: a line there says that others have taken over, its end that the supervisor is
gone. Either way, and on SIGTERM, the worker drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from farthing.app import SOCKET_PATH, Farthing
from farthing.app_stores import postgres_stores
from farthing.errors import Unavailable
from farthing.http.protocol import DoorProtocol
from farthing.http.socket_protocol import SocketProtocol
from farthing.orders import Orders
from farthing.settings import Settings
from farthing.worker_process import announce, read_orders, settle_garbage_collector

_KEEP_ALIVE_S = 75
_BACKLOG = 2048
_POLL_S = 0.02
_LINGER_S = 0.5
"""At a stop, how long an idle connection is kept for a request that may be on its way; there is nobody else to ask."""
_RETIRED_LINGER_S = 5.0
"""The same when others have taken over, and nobody waits for the end."""
_LAST_WORDS_S = 1
"""For the errors of requests that were cut to reach their clients."""


def main() -> None:
    """Read the orders and serve until told to stop."""
    read = read_orders(sys.stdin.fileno())
    if read is not None:
        settings, orders = read
        uvloop.run(serve(settings, orders, watch=sys.stdin.fileno()))


async def serve(settings: Settings, orders: Orders, *, watch: int) -> None:
    """Serve on the listening socket until SIGTERM or SIGINT, or until something comes from the file `watch`; then drain."""
    listener = socket.socket(fileno=orders.socket)
    farthing = Farthing(settings, orders.runtime, postgres_stores(settings, orders.runtime.database_url))
    fixed = {"header_timeout_s": settings.server.header_timeout_s, "socket_paths": frozenset({SOCKET_PATH.encode()})}
    protocol = type("Protocol", (DoorProtocol,), fixed)
    config = uvicorn.Config(
        farthing.asgi,
        http=protocol,
        ws=SocketProtocol,
        ws_max_size=settings.server.max_body_bytes,
        ws_ping_interval=settings.generate.socket.ping_interval_s,
        ws_ping_timeout=settings.generate.socket.ping_timeout_s,
        ws_per_message_deflate=False,  # a small message must not grow into a large one
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_WORDS_S,
    )
    server = _Server(config, farthing, settings.server.drain_s)
    asyncio.get_running_loop().add_reader(watch, _heard, server, watch)
    await farthing.start()
    settle_garbage_collector()
    announcing = asyncio.create_task(announce(farthing, orders.ready))
    try:
        with server.capture_signals():
            await server.hold(announcing, orders.hold_s)
            if announcing.done() or not server.should_exit:  # told to end before it knows its keys, it leaves all connections to others
                await server.serve(sockets=[listener])
    finally:
        announcing.cancel()
        await farthing.stop()


class _Server(uvicorn.Server):
    """A uvicorn server whose end loses no request and cuts no answer short without a word.

    The door is closed first. Then each connection gets one more answer, with `connection: close`, while it lingers; answers under way
    have `drain_s` seconds; what is left then ends with an error.
    """

    def __init__(self, config: uvicorn.Config, farthing: Farthing, drain_s: float) -> None:
        super().__init__(config)
        self._farthing = farthing
        self._drain_s = drain_s
        self._linger_s = _LINGER_S
        self._told = asyncio.Event()

    async def hold(self, ready: asyncio.Task[None], seconds: float) -> None:
        """Wait until ready, or told to stop."""
        told = asyncio.create_task(self._told.wait())
        await asyncio.wait({ready, told}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()

    def retire(self) -> None:
        """End because others have taken over."""
        self._linger_s = _RETIRED_LINGER_S
        self.handle_exit(signal.SIGTERM, None)

    def handle_exit(self, sig: int, frame: object) -> None:
        """See uvicorn."""
        del frame
        self._told.set()
        super().handle_exit(sig, None)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without raising the signal anew after the drain: the process would end before `Farthing.stop` is through."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See the class."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        loop = asyncio.get_running_loop()
        cut_at = loop.time() + self._drain_s
        await self._wait_for_connections(min(loop.time() + self._linger_s, cut_at))
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._wait_for_connections(cut_at)
        if self._farthing.asgi.in_flight:
            self._farthing.asgi.cut(Unavailable("Farthing is being stopped before this answer was complete.", retry_after_s=1.0))
        await super().shutdown(sockets)

    async def _wait_for_connections(self, until: float) -> None:
        """Until there is none. Those that were on their way when the door was closed may still join."""
        loop = asyncio.get_running_loop()
        while self.server_state.connections and loop.time() < until:
            for connection in list(self.server_state.connections):
                if isinstance(connection, DoorProtocol):
                    connection.wind_up()
            await asyncio.sleep(_POLL_S)


def _heard(server: _Server, watch: int) -> None:
    """From the supervisor: that others have taken over, or nothing any more because it is gone."""
    asyncio.get_running_loop().remove_reader(watch)
    if os.read(watch, 64):
        server.retire()
    else:
        server.handle_exit(signal.SIGTERM, None)


if __name__ == "__main__":
    main()
