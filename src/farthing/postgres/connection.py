"""How a connection to PostgreSQL is opened, and how a wait on one is ended for certain."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from farthing.errors import SettingsError

Connection = AsyncConnection[TupleRow]

VECTOR_SCHEMA = """
SELECT quote_ident(nspname) FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'
"""
"""Where pgvector is: in `public` or where an administrator put it. Its types and operators are looked up there, after all else."""

_DEFAULTS = {
    "application_name": "farthing",
    "client_encoding": "UTF8",
    # A peer that vanished without a word is noticed in 20 s (idle) or 10 s (data under way).
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "10000",
}


def conninfo(url: str, *, connect_timeout_s: float) -> str:
    """The connection string of libpq for a URL, with our defaults for what the URL leaves open.

    Raises `SettingsError` when the URL is none (the message does not repeat it: it may hold a password).
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise SettingsError("database.url is not a PostgreSQL URL such as postgresql://user@host/database.") from error
    # libpq counts whole seconds and takes 1 for 2.
    defaults = {**_DEFAULTS, "connect_timeout": str(max(2, round(connect_timeout_s)))}
    return make_conninfo("", **{**defaults, **given})


@contextmanager
def cut_off_after(connection: Connection, seconds: float) -> Iterator[None]:
    """End whatever is waited for on this connection after so many seconds: the wait then raises `OperationalError`.

    The socket is shut down instead of the task cancelled, because psycopg answers a cancellation by asking the server to cancel the
    query, and a server that hangs would make us wait for that too.
    """
    timer = asyncio.get_running_loop().call_later(seconds, cut, connection)
    try:
        yield
    finally:
        timer.cancel()


def cut(connection: psycopg.BaseConnection[Any]) -> None:
    """Shut the connection's socket down, from whichever thread: who waits on it gets an `OperationalError`. A no-op when it is closed."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
