"""An HTTP/1.1 client for the request path: pooled connections, streamed answers, deadlines, and cancellation that closes the socket.

Why our own: see docs/decisions/0002-http-client.md. Parsing is httptools (llhttp); framing errors follow RFC 9112. What it leaves out on
purpose: redirects, cookies, compression (identity is asked for), HTTP/2 and proxies.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast
from urllib.parse import urlsplit

import httptools

from farthing.errors import Overloaded, SettingsError, UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamUnavailable

_MAX_HEAD = 64 * 1024
_HIGH_WATER = 512 * 1024
_NO_BODY = frozenset({204, 304})


class Connection(asyncio.Protocol):
    """One socket, one exchange at a time. The parser calls `on_…`; the exchange waits on `_waiter`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self.idle_since = 0.0
        self.alive = False
        self._parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Forget the last exchange."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.head_done = False
        self.complete = False
        self.error: UpstreamError | None = None
        self.keep = False
        self._head_bytes = 0
        self._framed = False
        self.pieces: deque[bytes] = deque()
        self.buffered = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self.alive = True

    def data_received(self, data: bytes) -> None:
        """Feed the parser; bytes outside an exchange mean a confused peer."""
        if not self.head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self.complete:
                self._fail(UpstreamMalformed(f"{self._name} answered something that is not HTTP/1.1"))
            self.abort()
            return
        if not self.head_done and self._head_bytes > _MAX_HEAD:
            self._fail(UpstreamMalformed(f"{self._name} sent more than {_MAX_HEAD} bytes of headers"))
            self.abort()
        if self.buffered > _HIGH_WATER and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange: well, when its body lasts until the end of the connection; else broken."""
        self.alive = False
        if not self.complete:
            if self.head_done and not self._framed and exc is None:
                self.complete = True
            else:
                self._fail(UpstreamUnavailable(f"{self._name} broke the connection{' in mid-answer' if self.head_done else ''}"))
        self._wake()
        del self._parser  # it knows our methods: another ring

    # httptools

    def on_message_begin(self) -> None:
        """Refuse an answer that nobody asked for: taken for the next one, it would go to the wrong caller."""
        if self.complete:
            raise ValueError("an answer without a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the last value of each header; trailers are skipped."""
        if self.head_done:
            return
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Read the status; interim answers (1xx) are skipped in `on_message_complete`."""
        self.status = self._parser.get_status_code()
        self.keep = self._parser.should_keep_alive()
        self._framed = (
            "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower() or self.status in _NO_BODY
        )
        self.head_done = self.status >= 200  # noqa: PLR2004 - RFC 9110: 1xx is interim

    def on_body(self, body: bytes) -> None:
        """Queue a piece."""
        self.pieces.append(body)
        self.buffered += len(body)

    def on_message_complete(self) -> None:
        """Mark the end."""
        if self.head_done:
            self.complete = True
        else:
            self.headers = {}

    # for the exchange

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None:
            self._transport.write(data)

    async def wait(self, seconds: float, what: str) -> None:
        """Sleep until something arrives. Raises `UpstreamTimeout` naming what was waited for."""
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(max(seconds, 0), self._expire, seconds, what)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def resume(self) -> None:
        """Read on after the queue was emptied."""
        if self._paused and self._transport:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, dropping what is unsent."""
        self.alive = False
        if self._transport is not None:
            self._transport.abort()

    def _expire(self, seconds: float, what: str) -> None:
        self._fail(UpstreamTimeout(f"{self._name} gave no {what} within {seconds:.3g} s"))
        self.abort()
        self._wake()

    def _fail(self, error: UpstreamError) -> None:
        self.error = self.error or error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Exchange:
    """An answer under way. Read it to the end or close it: a finished one gives its connection back, an unfinished one ends it."""

    def __init__(self, client: Http1Client, connection: Connection, total_deadline: float) -> None:
        self._client = client
        self._connection: Connection | None = connection
        self._deadline = total_deadline
        self.status = connection.status
        self.headers = connection.headers

    async def read(self, timeout_s: float) -> bytes:
        """Whatever has arrived, waiting at most `timeout_s` seconds for it; b"" at the end. Raises an `UpstreamError`."""
        connection = self._connection
        if connection is None:
            return b""
        while not connection.pieces:
            if connection.complete:
                self.close()
                return b""
            if connection.error:
                raise connection.error
            connection.resume()
            await self._client.wait(connection, timeout_s, self._deadline, "further data")
        data = connection.pieces.popleft() if len(connection.pieces) == 1 else b"".join(connection.pieces)
        connection.pieces.clear()
        connection.buffered = 0
        return data

    async def body(self, limit: int, timeout_s: float) -> bytes:
        """The whole body. Raises `UpstreamMalformed` past `limit` bytes."""
        parts = []
        size = 0
        while part := await self.read(timeout_s):
            parts.append(part)
            size += len(part)
            if size > limit:
                self.close()
                raise UpstreamMalformed(f"{self._client.name} sent more than {limit} bytes (provider setting max_response_bytes)")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Give the connection back or end it. A no-op the second time."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.release(connection)


class Http1Client:
    """Connections to one origin.

    `name` appears in error messages. At most `max_connections` sockets are open; further requests wait `connect_timeout_s` for one and
    then raise `Overloaded`. `headers` are sent with each request. `address_of` says which address to connect to, of those that the host
    has; it may refuse by raising an `UpstreamError`. None: the system's choice.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        headers: dict[str, str],
        connect_timeout_s: float,
        max_connections: int,
        max_idle_s: float = 30.0,
        address_of: Callable[[str, int], Awaitable[str]] | None = None,
    ) -> None:
        url = urlsplit(base_url)
        self._address_of = address_of
        self.name = name
        self._tls = url.scheme == "https"
        self._host = url.hostname or ""
        self._port = url.port or (443 if self._tls else 80)
        self._prefix = url.path.rstrip("/")
        head = {"host": url.netloc, "user-agent": "farthing", "accept-encoding": "identity", "content-type": "application/json", **headers}
        for key, value in head.items():
            if not (key + value).isprintable() or not key.isascii() or max(value, default="") > "\xff":
                raise SettingsError(f"providers.{name}: the header {key!r} holds characters that HTTP does not allow")
        self._head = "".join(f"{key}: {value}\r\n" for key, value in head.items()).encode("latin-1")
        self._connect_timeout = connect_timeout_s
        self._max_connections = max_connections
        self._max_idle = max_idle_s
        self._idle: list[Connection] = []
        self._open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._context: ssl.SSLContext | None = None
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Sockets in use or idle."""
        return self._open

    async def send(
        self, method: bytes, path: str, body: bytes, *, extra: bytes = b"", head_timeout_s: float, total_timeout_s: float
    ) -> Exchange:
        """Send a request and wait for the head of the answer. `extra` holds encoded header lines, each ending in CRLF."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + total_timeout_s
        connection = await self._acquire(loop)
        try:
            connection.begin()
            target = (self._prefix + path).encode("ascii")
            size = b"content-length: %d\r\n\r\n" % len(body)
            connection.write(b"".join((method, b" ", target, b" HTTP/1.1\r\n", self._head, extra, size, body)))
            while not connection.head_done:
                if connection.error:
                    raise connection.error
                await self.wait(connection, head_timeout_s, deadline, "answer")
        except BaseException:
            self.release(connection)
            raise
        if connection.headers.get("content-encoding", "identity") != "identity":
            self.release(connection)
            raise UpstreamMalformed(f"{self.name} compressed its answer although identity was asked for")
        return Exchange(self, connection, deadline)

    def wait(self, connection: Connection, seconds: float, deadline: float, what: str) -> Awaitable[None]:
        """Wait on a connection, no longer than to the exchange's total deadline."""
        left = deadline - asyncio.get_running_loop().time()
        return connection.wait(left, "complete answer") if left < seconds else connection.wait(seconds, what)

    async def _acquire(self, loop: asyncio.AbstractEventLoop) -> Connection:
        give_up_at = 0.0
        while True:
            while self._idle:
                connection = self._idle.pop()
                if connection.alive and loop.time() - connection.idle_since < self._max_idle:
                    return connection
                self._discard(connection)
            if self._open < self._max_connections:
                break
            give_up_at = give_up_at or loop.time() + self._connect_timeout
            await self._wait_for_slot(loop, give_up_at)
        self._open += 1
        try:
            return await self._connect(loop)
        except BaseException:
            self._open -= 1
            self._wake_one()
            raise

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> Connection:
        if self._tls and self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context)
        try:
            async with asyncio.timeout(self._connect_timeout):
                address = self._host if self._address_of is None else await self._address_of(self._host, self._port)
                _, connection = await loop.create_connection(
                    lambda: Connection(self.name),
                    address,
                    self._port,
                    ssl=self._context,
                    server_hostname=self._host if self._tls else None,
                )
        except TimeoutError:
            raise UpstreamTimeout(f"{self.name} did not accept a connection within {self._connect_timeout:.3g} s") from None
        except (OSError, ssl.SSLError, UnicodeError) as error:  # UnicodeError: a host name that IDNA cannot express
            raise UpstreamUnavailable(f"{self.name} cannot be reached at {self._host}:{self._port}: {error}") from error
        return connection

    async def _wait_for_slot(self, loop: asyncio.AbstractEventLoop, give_up_at: float) -> None:
        slot: asyncio.Future[None] = loop.create_future()
        self._waiting.append(slot)
        try:
            async with asyncio.timeout_at(give_up_at):
                await slot
        except BaseException as error:
            if slot in self._waiting:
                self._waiting.remove(slot)
            else:  # woken too late to use it: the next one may
                self._wake_one()
            if isinstance(error, TimeoutError):
                raise Overloaded(f"all {self._max_connections} connections to {self.name} are busy", retry_after_s=1.0) from None
            raise

    def release(self, connection: Connection) -> None:
        """Take back a connection: keep it when its exchange is complete and both sides want to go on, else close it."""
        if connection.complete and connection.keep and connection.alive and not connection.error and not self._closed:
            connection.idle_since = asyncio.get_running_loop().time()
            connection.resume()
            self._idle.append(connection)
            self._wake_one()
        else:
            self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        connection.abort()
        connection.error = None  # once raised, it leads back here by its traceback: a ring, which only the garbage collector opens
        self._open -= 1
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            slot = self._waiting.popleft()
            if not slot.done():
                slot.set_result(None)
                return

    async def aclose(self) -> None:
        """Close idle connections now and the others as they finish."""
        self._closed = True
        while self._idle:
            self._discard(self._idle.pop())
