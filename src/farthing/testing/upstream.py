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

from farthing.testing.http1 import BadRequest, RawRequest, Wire
from farthing.testing.replies import (
    CLOSE,
    DONE,
    RESET,
    STALL,
    Cut,
    Json,
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
_ECHO_DIMENSIONS: Final = 8


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came. `body` is the decoded JSON, or the bytes where they are not JSON. `at` is `time.monotonic()`."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float

    @property
    def model(self) -> str | None:
        """The model asked for."""
        return self.body.get("model") if isinstance(self.body, dict) else None


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
        yield
        await self.__aenter__()

    def _check(self, until: float) -> None:
        if time.monotonic() > until:
            counters = f"received={self.received} disconnects={self.disconnects} open_connections={self.open_connections}"
            raise TimeoutError(f"the upstream did not get there in time: {counters}")

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
            await _send_reply(wire, error(400, str(bad), "invalid_request_error"), keep_alive=False)
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
        sending = asyncio.ensure_future(_send_reply(wire, self._reply(received), keep_alive=request.keep_alive))
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
            return _models(["echo", *self._scripts])
        script = self._scripts.get(received.model or "") or self._scripts.get(ANY_MODEL)
        if not script:
            return echo(received)
        step = script.popleft() if len(script) > 1 else script[0]
        return step if isinstance(step, Reply) else step(received)


@contextmanager
def serve_in_thread(**options: Any) -> Iterator[ScriptedUpstream]:
    """A `ScriptedUpstream` on a loop of its own in a thread, for code without a loop. Wait with `wait_until`."""
    upstream = ScriptedUpstream(**options)
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


def echo(received: Received) -> Reply:
    """What an unscripted model answers: the last user message, or one vector per input, or 404 for other paths."""
    body = received.body
    if not isinstance(body, dict):
        return error(400, "the body is not a JSON object", "invalid_request_error")
    model = str(body.get("model", "echo"))
    if received.path.endswith("/embeddings"):
        inputs = body.get("input")
        return embeddings(len(inputs) if isinstance(inputs, list) else 1, body.get("dimensions") or _ECHO_DIMENSIONS, model=model)
    if not received.path.endswith("/chat/completions"):
        return error(404, f"no such path: {received.path}", "invalid_request_error")
    text = _last_user_text(body)
    words = text.split(" ")
    counts = usage_object(sum(len(str(message.get("content", "")).split()) for message in body.get("messages", [])) or 1, len(words))
    n = body.get("n") or 1
    if not body.get("stream"):
        return completion(text, usage=counts, model=model, n=n)
    pieces = [word if at == 0 else f" {word}" for at, word in enumerate(words)]
    include = bool((body.get("stream_options") or {}).get("include_usage"))
    return stream(pieces, usage=include, counts=counts, model=model, n=n)


async def _send_reply(wire: Wire, reply: Reply, *, keep_alive: bool) -> bool:
    """Send a reply; True when the connection can carry another request."""
    if reply.delay_s:
        await asyncio.sleep(reply.delay_s)
    headers = reply.all_headers()
    if reply.parts is None:
        payload = reply.payload()
        await wire.send(_head(reply.status, {"content-length": str(len(payload)), **headers}, keep_alive=keep_alive) + payload)
        return keep_alive
    chunked = not reply.raw and "content-length" not in headers
    if not reply.raw:
        framing = {"transfer-encoding": "chunked"} if chunked else {}
        await wire.send(_head(reply.status, {**headers, **framing}, keep_alive=keep_alive))
    for part in reply.parts:
        if isinstance(part, Cut):
            return await _break_off(wire, part)
        if isinstance(part, Repeat):
            await _repeat(wire, part, chunked=chunked)
        elif isinstance(part, bytes):
            await wire.send(_framed(part) if chunked else part)
        elif part:
            await asyncio.sleep(part)
    if chunked:
        await wire.send(b"0\r\n\r\n")
    return keep_alive


async def _break_off(wire: Wire, cut: Cut) -> bool:
    if cut is STALL:
        await wire.gone.wait()
        raise ConnectionResetError("the client gave up on a stalled answer")
    if cut is RESET:
        wire.reset()
    return False


async def _repeat(wire: Wire, part: Repeat, *, chunked: bool) -> None:
    data = _framed(part.data) if chunked else part.data
    sent = 0
    while part.times is None or sent < part.times:
        await wire.send(data)
        await asyncio.sleep(0)  # drain() does not yield while the peer keeps up
        sent += 1


def _framed(data: bytes) -> bytes:
    """An HTTP chunk; nothing for nothing, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _head(status: int, headers: dict[str, str], *, keep_alive: bool) -> bytes:
    """Status line and headers. Names and values go out as given, so that a test can send odd ones."""
    given = headers if keep_alive or "connection" in headers else {**headers, "connection": "close"}
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body


def _models(names: list[str]) -> Reply:
    data = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "scripted"} for name in names if name != ANY_MODEL]
    return Reply(json={"object": "list", "data": data})


def _last_user_text(body: Json) -> str:
    for message in reversed(body.get("messages") or []):
        content = message.get("content") if message.get("role") == "user" else None
        if isinstance(content, str):
            return content
        if isinstance(content, list):
            return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return ""
