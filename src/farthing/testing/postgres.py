"""A real, throw-away PostgreSQL for tests: one embedded server for many tests, and fresh databases on it in milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from farthing.postgres.embedded import EmbeddedPostgres
from farthing.postgres.migrate import migrate

_TEMPLATE = "farthing_template"


@contextmanager
def embedded_server(folder: Path) -> Iterator[str]:
    """Run a server in a folder and give its URL. Nothing on it survives a crash of the machine (`fsync` is off).

    It holds a migrated database that `fresh_database` copies.
    """
    server = EmbeddedPostgres(folder, settings={"fsync": "off", "full_page_writes": "off", "autovacuum": "off"})
    asyncio.run(server.start())
    try:
        with psycopg.connect(server.uri, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
        asyncio.run(migrate(make_conninfo(server.uri, dbname=_TEMPLATE)))
        yield server.uri
    finally:
        asyncio.run(server.stop())


@contextmanager
def fresh_database(server: str, *, migrated: bool = True) -> Iterator[str]:
    """Give the URL of a new database on a server of `embedded_server`, migrated or empty, and drop it afterwards."""
    name = sql.Identifier(f"test_{uuid4().hex}")
    template = sql.Identifier(_TEMPLATE if migrated else "template0")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, template))
        try:
            yield make_conninfo(server, dbname=name.as_string(None).strip('"'))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
