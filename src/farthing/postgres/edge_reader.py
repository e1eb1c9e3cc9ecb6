"""Reads at the edge: on a connection of their own, those that come at the same time in one statement.

A click waits for one look into the database, so that it sees every change that was committed before it came. A transaction of the pool
takes three round trips for that, and each reader one of few connections; here it is one round trip, and what comes while a statement is
under way shares the next one. A statement is sent after all whose answer it brings have come: none of them can miss a change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from farthing.breaker import Breaker
from farthing.errors import FarthingError, Overloaded, Unavailable
from farthing.postgres.connection import Connection, conninfo, cut_off_after
from farthing.postgres.translate import translated

_MOST_AT_ONCE = 256
Place = tuple[str, str, str]


class EdgeReader:
    """`read` gives the row of a place, None where there is none. `query` takes arrays of tenants, users and actions.

    Its rows begin with their number among those asked for, from 1. At most `max_waiting` wait; a statement may take `timeout_s` seconds.
    After failures in a row it fails at once for a while.
    """

    def __init__(self, url: str, query: str, *, connect_timeout_s: float, timeout_s: float = 2.0, max_waiting: int = 4096) -> None:
        self._conninfo = conninfo(url, connect_timeout_s=connect_timeout_s)
        self._query = query.encode()
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._connection: Connection | None = None
        self._waiting: list[tuple[Place, asyncio.Future[TupleRow | None]]] = []
        self._reading: asyncio.Task[None] | None = None
        self._breaker = Breaker(failures=3, cooldown_s=1.0, fatal=(psycopg.OperationalError,), clock=time.monotonic)
        self.statements = 0

    async def read(self, place: Place) -> TupleRow | None:
        """The row of a place now. Raises `Unavailable`, and `Overloaded` where too many wait."""
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded("too many wait for the database", retry_after_s=1.0)
        landed: asyncio.Future[TupleRow | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, landed))
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read_all())
        return await landed

    async def close(self) -> None:
        """Close the connection. Who waits gets an error."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._give_up(self._waiting)  # a task that is cancelled before it has begun tells nobody
        self._waiting = []
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _read_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            batch = [one for one in batch if not one[1].done()]
            try:
                with translated(), self._breaker.attempt():
                    rows = await self._rows([place for place, _ in batch])
            except BaseException as error:
                if not isinstance(error, FarthingError):
                    self._give_up(batch)
                    raise
                self._give_up(batch, error)
                continue
            for number, (_, landed) in enumerate(batch, 1):
                if not landed.done():
                    landed.set_result(rows.get(number))

    @staticmethod
    def _give_up(batch: Sequence[tuple[Place, asyncio.Future[TupleRow | None]]], error: FarthingError | None = None) -> None:
        for _, landed in batch:
            if not landed.done():
                landed.set_exception(error or Unavailable("The edge store is closed, or failed."))

    async def _rows(self, places: Sequence[Place]) -> dict[int, TupleRow]:
        if not places:
            return {}
        self.statements += 1
        connection = await self._connected()
        try:
            with cut_off_after(connection, self._timeout_s):
                columns = [list(column) for column in zip(*places, strict=True)]
                cursor = await connection.execute(self._query, columns, prepare=True, binary=True)
                return {row[0]: row[1:] for row in await cursor.fetchall()}
        except BaseException:
            self._connection = None
            await connection.close()
            raise

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
            try:
                with cut_off_after(connection, self._timeout_s):
                    await connection.execute("SET ROLE farthing_service; SET timezone TO 'UTC'; SET plan_cache_mode TO force_generic_plan")
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection
