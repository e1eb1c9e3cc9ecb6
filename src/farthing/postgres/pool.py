"""The pooled way to the database: every use is one transaction, in one role, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import psycopg
from psycopg import AsyncConnection, AsyncCursor, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from farthing.breaker import Breaker
from farthing.errors import FarthingError, Unavailable
from farthing.postgres.connection import VECTOR_SCHEMA, Connection, conninfo, cut_off_after
from farthing.postgres.translate import translated

_SERVICE = "BEGIN; SET LOCAL ROLE farthing_service"
_LAZY = "; SET LOCAL synchronous_commit TO off"
_ROWS = 1000
"""Changed in one transaction, so that nothing holds locks for long."""
_BEFORE = 2
"""Results before that of the query: of BEGIN, and of saying which tenant."""
_COMMIT = sql.SQL("COMMIT")
_TENANT = sql.SQL("BEGIN; SELECT set_config('farthing.tenant', {}, true)")


class Database:
    """A pool of connections that fails fast and comes back by itself.

    `url` is anything libpq takes. `max_size` connections at most, `min_size` kept when idle. A use waits at most `wait_s` for a
    connection, behind at most `max_waiting` others. A statement may take `statement_timeout_s`, a whole use `use_s`, after which its
    connection is cut. After `failures` failures to reach the database in a row, uses fail at once for `cooldown_s`. All in seconds.

    Every connection works as `farthing_app`, which sees the rows of the tenant that is set and none when none is set. Needs a direct
    connection or a pooler in session mode. All uses raise `Unavailable` or `InvalidRequest` and nothing of psycopg's.
    """

    def __init__(
        self,
        url: str,
        *,
        min_size: int = 1,
        max_size: int = 4,
        max_waiting: int = 256,
        wait_s: float = 1.0,
        connect_timeout_s: float = 3.0,
        statement_timeout_s: float = 10.0,
        use_s: float = 15.0,
        failures: int = 3,
        cooldown_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conninfo = conninfo(url, connect_timeout_s=connect_timeout_s)
        self._min_size = min(min_size, max_size)
        self._max_size = max_size
        self._max_waiting = max_waiting
        self._wait_s = wait_s
        self._use_s = use_s
        self._statement_timeout_ms = round(statement_timeout_s * 1000)
        self._breaker = Breaker(failures=failures, cooldown_s=cooldown_s, fatal=(psycopg.OperationalError,), clock=clock)
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._in_use = 0

    async def open(self) -> None:
        """Start to connect in the background. Returns at once, whether the database is there or not. A no-op when open."""
        if self._pool is not None:
            return
        self._pool = AsyncConnectionPool(
            self._conninfo,
            connection_class=AsyncConnection,
            kwargs={"autocommit": True},
            configure=self._configure,
            open=False,
            min_size=self._min_size,
            max_size=self._max_size,
            max_waiting=self._max_waiting,
            timeout=self._wait_s,
            # The pool doubles the pause between attempts from one second until it gives a connection up, and starts afresh at the next
            # use. Giving up early keeps the pause, and so the time to recover, at two seconds.
            reconnect_timeout=2.0,
            name="farthing",
        )
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close the connections. Those in use are closed when their use ends. A no-op when closed."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=2.0)

    def tenant(self, tenant: str) -> AbstractAsyncContextManager[Connection]:
        """A transaction that sees, by row-level security, the rows of this tenant only. Commits at the end, rolls back on any error."""
        with translated():
            return self._transaction(_TENANT.format(sql.Literal(tenant)).as_string(None))

    def service(self, *, lazy: bool = False) -> AbstractAsyncContextManager[Connection]:
        """A transaction over all tenants, for the work that is nobody's: the ledger writer, reports, snapshots, pruning.

        `lazy`: it does not wait for the disk, so that the server's crash may undo it, as if it had never been.
        """
        return self._transaction(_SERVICE + _LAZY if lazy else _SERVICE)

    async def look(self, tenant: str, query: sql.Composed) -> list[TupleRow]:
        """The rows of one SELECT that sees the tenant's rows only, in one round trip: for what requests wait for.

        Values are in the query (`sql.Literal`): several statements at once take no parameters.
        """
        with translated():
            cursor, _ = await self._begin(sql.SQL("; ").join((_TENANT.format(sql.Literal(tenant)), query, _COMMIT)).as_string(None))
            try:
                for _ in range(_BEFORE):
                    cursor.nextset()
                return await cursor.fetchall()
            finally:
                await self._put_back(cursor.connection)

    async def repeat(self, statement: str, values: Mapping[str, object], *, alone: str | None = None) -> int:
        """A statement on at most `%(rows)s` rows over all tenants, each time in a transaction of its own, until there are no more.

        So that nobody waits long for locks. `alone` is a query that takes a lock of the transaction; where it does not say true, another
        worker is at it, and the rest is left to that one. Returns how many rows it were.
        """
        done = 0
        while True:
            async with self.service() as connection:
                if alone is not None and await (await connection.execute(alone.encode())).fetchone() != (True,):
                    return done
                changed = (await connection.execute(statement.encode(), {**values, "rows": _ROWS})).rowcount
            done += changed
            if changed < _ROWS:
                return done

    async def present(self) -> bool:
        """Whether the database can be used. It also can when all connections are busy: somebody is being served."""
        try:
            async with self.service() as connection:
                await connection.execute(b"SELECT 1")
        except FarthingError:
            return self._in_use >= self._max_size
        return True

    @asynccontextmanager
    async def _transaction(self, prelude: str) -> AsyncIterator[Connection]:
        with translated():
            cursor, deadline = await self._begin(prelude)
            connection = cursor.connection
            try:
                with cut_off_after(connection, deadline - time.monotonic()):
                    try:
                        yield connection
                        await _commit(connection)
                    except BaseException:
                        await _roll_back(connection)
                        raise
            except psycopg.OperationalError:
                if connection.closed:
                    self._breaker.failed()
                raise
            finally:
                await self._put_back(connection)

    async def _begin(self, prelude: str) -> tuple[AsyncCursor[TupleRow], float]:
        """What the prelude says, on a connection on which the transaction has begun, and until when it may be used by the monotonic clock.

        Connections found dead on the way are dropped: this is also the pool's check of what it holds.
        """
        with self._breaker.attempt():
            connection = await self._take()
            deadline = time.monotonic() + self._use_s
            while True:
                try:
                    with cut_off_after(connection, deadline - time.monotonic()):
                        cursor = await connection.execute(prelude.encode())
                except BaseException as error:
                    await _roll_back(connection)
                    await self._put_back(connection)
                    lost = isinstance(error, psycopg.OperationalError) and connection.closed
                    if not lost or time.monotonic() >= deadline:
                        raise
                    connection = await self._take()
                else:
                    return cursor, deadline

    async def _take(self) -> Connection:
        if self._pool is None:
            raise Unavailable("The database is not open.")
        try:
            connection = await self._pool.getconn()
        except (PoolTimeout, TooManyRequests) as error:
            if self._in_use >= self._max_size or isinstance(error, TooManyRequests):
                # Busy, not away: no reason for the breaker to open.
                raise Unavailable(f"All {self._max_size} database connections are busy.", retry_after_s=1.0) from error
            raise
        self._in_use += 1
        return connection

    async def _put_back(self, connection: Connection) -> None:
        self._in_use -= 1
        if self._pool is None:
            await connection.close()
        else:
            await self._pool.putconn(connection)

    async def _configure(self, connection: Connection) -> None:
        """Give up the rights of the login user for as long as the connection lives."""
        timeout = self._statement_timeout_ms
        statements = (
            "SET ROLE farthing_app",
            f"SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', 'farthing', ({VECTOR_SCHEMA})), false)",  # ours
            "SET timezone TO 'UTC'",
            f"SET statement_timeout TO {timeout}",
            f"SET lock_timeout TO {timeout}",
            f"SET idle_in_transaction_session_timeout TO {round(self._use_s * 1000)}",
        )
        try:
            async with asyncio.timeout(self._use_s):
                await connection.execute("; ".join(statements).encode())
        except BaseException:
            await connection.close()
            raise


async def _commit(connection: Connection) -> None:
    cursor = await connection.execute("COMMIT")
    if cursor.statusmessage != "COMMIT":
        # A statement failed and its error was swallowed: PostgreSQL answers ROLLBACK to our COMMIT.
        raise Unavailable("The transaction had failed and was rolled back.")


async def _roll_back(connection: Connection) -> None:
    if connection.closed or connection.info.transaction_status is TransactionStatus.IDLE:
        return
    with suppress(psycopg.Error):
        await connection.execute("ROLLBACK")
