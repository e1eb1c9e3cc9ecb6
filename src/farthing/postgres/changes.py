"""News from other workers, by LISTEN/NOTIFY."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from psycopg import AsyncConnection

from farthing.errors import Unavailable
from farthing.ports import CHANNELS
from farthing.postgres.connection import Connection, conninfo, cut_off_after
from farthing.postgres.translate import translated

_PREFIX = "farthing_"


class PostgresChanges:
    """`ports.Changes` on one connection of its own, outside the pool.

    Each watch first yields every channel with an empty payload, once it listens: what changed before then cannot be told, so reload.
    A peer that died silently is found out within `check_every_s` + `deadline_s` seconds.
    """

    def __init__(self, url: str, *, connect_timeout_s: float = 3.0, check_every_s: float = 10.0, deadline_s: float = 5.0) -> None:
        self._conninfo = conninfo(url, connect_timeout_s=connect_timeout_s)
        self._check_every_s = check_every_s
        self._deadline_s = deadline_s

    async def watch(self) -> AsyncGenerator[tuple[str, str], None]:
        """See `ports.Changes.watch`. Raises `Unavailable` when the connection cannot be made or is lost."""
        with translated():
            connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
            async with connection:
                with cut_off_after(connection, self._deadline_s):
                    await connection.execute("SET ROLE farthing_app; " + "; ".join(f"LISTEN {_PREFIX}{name}" for name in CHANNELS))
                for channel in CHANNELS:
                    yield channel, ""
                async with aclosing(self._notifications(connection)) as notifications:
                    async for news in notifications:
                        yield news
        raise Unavailable("The database ended the connection.")

    async def _notifications(self, connection: Connection) -> AsyncGenerator[tuple[str, str], None]:
        while not connection.closed:
            async with aclosing(connection.notifies(timeout=self._check_every_s)) as received:
                async for notification in received:
                    yield notification.channel.removeprefix(_PREFIX), notification.payload
            with cut_off_after(connection, self._deadline_s):
                await connection.execute("SELECT 1")
