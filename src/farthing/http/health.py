"""The doors that tell how things are: /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from farthing.http.asgi import Receive, Scope, Send, send_whole
from farthing.types import Request

_encode = msgspec.json.Encoder().encode
_METRICS_TYPE = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class State(msgspec.Struct, frozen=True, kw_only=True):
    """`waiting` names what the first request must wait for; `degraded` what is away while requests go on."""

    waiting: list[str]
    degraded: list[str]


class HealthDoors:
    """`state` is asked at each call; `metrics` returns Prometheus text for all workers; it reads files and runs in a thread."""

    def __init__(self, state: Callable[[], State], metrics: Callable[[], bytes]) -> None:
        self._state = state
        self._metrics = metrics

    async def healthz(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /healthz: this worker's event loop turns."""
        del receive
        await send_whole(scope, send, 200, _ids(request), b'{"status":"ok"}')

    async def readyz(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /readyz: 200 once requests can be answered; what is degraded does not make it fail."""
        del receive
        state = self._state()
        word = "starting" if state.waiting else "degraded" if state.degraded else "ready"
        body = {"status": word, "waiting": state.waiting, "degraded": state.degraded}
        await send_whole(scope, send, 503 if state.waiting else 200, _ids(request), _encode(body))

    async def metrics(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /metrics: Prometheus text."""
        del scope, receive
        body = await asyncio.to_thread(self._metrics)
        headers = [*_ids(request), _METRICS_TYPE, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _ids(request: Request) -> list[tuple[bytes, bytes]]:
    return [(b"x-request-id", str(request.id).encode())]
