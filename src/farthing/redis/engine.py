"""The pooled way to Redis or Valkey: every use has a deadline, and none waits for an engine that is known to be away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, ResponseError

from farthing.breaker import Breaker
from farthing.errors import Unavailable
from farthing.redis.translate import AWAY, translated

Command: TypeAlias = tuple[str | bytes | int | float, ...]


class Session:
    """One connection for as long as several exchanges need the same one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and read what comes back for each. Raises the first error among the replies, once all are read."""
        connection = self._connection
        await connection.send_packed_command(connection.pack_commands(commands))
        replies = [await self._reply() for _ in commands]
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def transaction(self, commands: Sequence[Command]) -> list[Any] | None:
        """Run commands as one, all or none. None when a watched key has changed: nothing was done then."""
        *_, done = await self.run([("MULTI",), *commands, ("EXEC",)])
        for reply in done or ():
            if isinstance(reply, ResponseError):
                raise reply
        return None if done is None else list(done)

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error


class Engine:
    """A pool of connections that fails fast and comes back by itself.

    `url` is anything redis-py takes: `redis://`, `rediss://` (TLS), `unix://`, with user and password. At most `pool_size` connections;
    a use waits at most `wait_s` for one of them, and `connect_timeout_s` for a new one to be made. After `failures` failures to reach the
    engine in a row, uses fail at once for `cooldown_s`. All in seconds. All uses raise `Unavailable` or `InvalidRequest` and nothing of
    redis-py's. A connection on which anything went wrong is dropped, so that no reply is ever read by the wrong caller.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        wait_s: float = 0.1,
        connect_timeout_s: float = 1.0,
        failures: int = 3,
        cooldown_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool: ConnectionPool = ConnectionPool.from_url(
            url,
            max_connections=pool_size,
            socket_connect_timeout=connect_timeout_s,
            socket_timeout=None,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            client_name="farthing",
        )
        self._pool_size = pool_size
        self._places = asyncio.Semaphore(pool_size)
        self._wait_s = wait_s
        self._connect_timeout_s = connect_timeout_s
        self._breaker = Breaker(failures=failures, cooldown_s=cooldown_s, fatal=AWAY, clock=clock, name="Redis")

    async def close(self) -> None:
        """Close the connections. A use afterwards opens new ones."""
        await self._pool.disconnect()

    async def run(self, commands: Sequence[Command], *, limit_s: float) -> list[Any]:
        """Send commands together, outside of any transaction. The replies come back within `limit_s`, or `Unavailable` is raised."""
        async with self.session(limit_s=limit_s) as session:
            return await session.run(commands)

    async def transaction(self, commands: Sequence[Command], *, limit_s: float) -> list[Any]:
        """Run commands as one, all or none, within `limit_s`."""
        async with self.session(limit_s=limit_s) as session:
            done = await session.transaction(commands)
        assert done is not None  # nothing is watched
        return done

    @asynccontextmanager
    async def session(self, *, limit_s: float) -> AsyncIterator[Session]:
        """One connection, for at most `limit_s` from when there is one. What it watches is forgotten at the end."""
        async with self._place():
            with translated(), self._breaker.attempt(), self._impatience(limit_s):
                async with asyncio.timeout(self._connect_timeout_s):
                    connection: Connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                try:
                    async with asyncio.timeout(limit_s):
                        yield Session(connection)
                except BaseException as error:
                    await connection.disconnect(nowait=True)
                    if isinstance(error, ReadOnlyError):
                        # What was the primary is a replica now: the other connections lead there too.
                        await self._pool.disconnect(inuse_connections=False)
                    raise
                finally:
                    await self._pool.release(connection)

    @contextmanager
    def _impatience(self, limit_s: float) -> Iterator[None]:
        """Learn from a caller whose own deadline comes before ours: who gives up after a quarter of it has seen that nothing comes."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        except asyncio.CancelledError:
            if loop.time() - began >= limit_s / 4:
                self._breaker.failed()
            raise

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for a connection to be free. A busy engine is not an absent one: the breaker does not hear of it."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise Unavailable(f"All {self._pool_size} connections to Redis are busy.", retry_after_s=1.0) from error
        try:
            yield
        finally:
            self._places.release()
