"""A scripted OpenAI-compatible upstream for tests: real sockets, exact bytes, exact timing.

    async with ScriptedUpstream() as up:
        up.script("gpt-4o-mini", stream(["Hel", "lo"]), rate_limited(retry_after="1"))
        ...  # talk to up.base_url
        await up.wait_for(lambda up: up.disconnects == 1)

A model without a script echoes the last user message, as a stream when asked, so that there are as many answers as questions.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Self

import msgspec

from farthing.testing.echo import Received, echo, models
from farthing.testing.http1 import BadRequest, RawRequest, Wire
from farthing.testing.replies import (
    CLOSE,
    DONE,
    RESET,
    STALL,
    Cut,
    Part,
    Repeat,
    Reply,
    completion,
    embeddings,
    error,
    rate_limited,
    sse,
    stream,
    usage_object,
)
from farthing.testing.sending import send_reply

__all__ = [
    "ANY_MODEL",
    "CLOSE",
    "DONE",
    "RESET",
    "STALL",
    "Cut",
    "Part",
    "Received",
    "Repeat",
    "Reply",
    "ScriptedUpstream",
    "completion",
    "embeddings",
    "error",
    "rate_limited",
    "serve_in_thread",
    "sse",
    "stream",
    "usage_object",
]

ANY_MODEL: Final = "*"
"""Scripted under this name: what models without a script of their own answer, instead of an echo."""

_POLL_S: Final = 0.005


Answerer = Callable[[Received], Reply]


class ScriptedUpstream:
    """The server. Read its counters from any thread; enter it once.

    `max_requests` bounds `requests` (`received` counts them all), `max_body_bytes` what a client may send.
    """

    def __init__(self, *, port: int = 0, max_requests: int = 10_000, max_body_bytes: int = 128 * 1024 * 1024) -> None:
        self.port = port
        self.requests: deque[Received] = deque(maxlen=max_requests)
        self.received = 0
        self.disconnects = 0
        self.open_connections = 0
        self.connections = 0
        self._max_body_bytes = max_body_bytes
        self._scripts: dict[str, deque[Reply | Answerer]] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, model: str, *replies: Reply | Answerer) -> None:
        """What requests for `model` get, in this order; the last one repeats. Replaces an earlier script; no replies: echo again."""
        if replies:
            self._scripts[model] = deque(replies)
        else:
            self._scripts.pop(model, None)

    def of(self, model: str) -> list[Received]:
        """The requests for one model, oldest first."""
        return [received for received in list(self.requests) if received.model == model]

    async def wait_for(self, condition: Callable[[ScriptedUpstream], bool], timeout: float = 5.0) -> None:  # noqa: ASYNC109 tests read best so
        """Wait until the condition holds. Raises `TimeoutError` with the counters when it does not within `timeout` seconds."""
        until = time.monotonic() + timeout
        while not condition(self):
            self._check(until)
            await asyncio.sleep(_POLL_S)

    def wait_until(self, condition: Callable[[ScriptedUpstream], bool], timeout: float = 5.0) -> None:
        """`wait_for` for code without a loop."""
        until = time.monotonic() + timeout
        while not condition(self):
            self._check(until)
            time.sleep(_POLL_S)

    async def __aenter__(self) -> Self:
        """Listen on `port`, or on a free one."""
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and break off what is under way, without counting it as disconnects."""
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """While this is open nothing listens on the port and all connections are closed; afterwards the server is back."""
        await self.__aexit__()
        try:
            yield
        finally:
            await self.__aenter__()

    def _check(self, until: float) -> None:
        if time.monotonic() > until:
            counters = f"received={self.received} disconnects={self.disconnects} open_connections={self.open_connections}"
            raise TimeoutError(f"the upstream did not get there in time: {counters}")

    def models(self, names: list[str]) -> Reply:
        """The list of models. For servers of another wire to replace."""
        return models(names)

    def echo(self, received: Received) -> Reply:
        """What a model without a script answers. For servers of another wire to replace."""
        return echo(received)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open_connections += 1
        self.connections += 1
        wire = Wire(reader, writer, max_body_bytes=self._max_body_bytes)
        try:
            while (request := await wire.request()) is not None and await self._exchange(wire, request):
                pass
        except BadRequest as bad:
            await send_reply(wire, error(400, str(bad), "invalid_request_error"), keep_alive=False)
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            pass  # the server is closing: the task ends in order, with its connection
        finally:
            wire.close()
            self.open_connections -= 1
            self._tasks.discard(task)

    async def _exchange(self, wire: Wire, request: RawRequest) -> bool:
        """Answer one request; False when the connection is finished with. The client's close breaks the answer off."""
        received = Received(
            method=request.method, path=request.target, headers=request.headers, body=_decoded(request.body), at=time.monotonic()
        )
        self.requests.append(received)
        self.received += 1
        sending = asyncio.ensure_future(send_reply(wire, self._reply(received), keep_alive=request.keep_alive))
        gone = asyncio.ensure_future(wire.gone.wait())
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not sending.cancelled() and sending.exception() is None:
                return sending.result()
            self.disconnects += 1
            return False
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    def _reply(self, received: Received) -> Reply:
        path = received.path.partition("?")[0].rstrip("/")
        if path.endswith("/models"):
            return self.models(["echo", *(name for name in self._scripts if name != ANY_MODEL)])
        script = self._scripts.get(received.model or "") or self._scripts.get(ANY_MODEL)
        if not script:
            return self.echo(received)
        step = script.popleft() if len(script) > 1 else script[0]
        return step if isinstance(step, Reply) else step(received)


@contextmanager
def serve_in_thread(upstream: ScriptedUpstream | None = None, **options: Any) -> Iterator[ScriptedUpstream]:
    """A `ScriptedUpstream`, or the one given, on a loop of its own in a thread, for code without a loop. Wait with `wait_until`."""
    upstream = upstream or ScriptedUpstream(**options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scripted-upstream", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(upstream.__aenter__(), loop).result(timeout=10)
        try:
            yield upstream
        finally:
            asyncio.run_coroutine_threadsafe(upstream.__aexit__(), loop).result(timeout=10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
