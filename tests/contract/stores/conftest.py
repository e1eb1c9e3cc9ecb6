import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from farthing.inprocess.budgets import InProcessBudgets
from farthing.inprocess.stores import InProcessAnswers, InProcessChanges, InProcessKeys, InProcessLedger
from farthing.postgres.answers import PostgresAnswers
from farthing.postgres.budgets import PostgresBudgets
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.embedded import EmbeddedPostgres
from farthing.postgres.keys import PostgresKeys
from farthing.postgres.ledger import PostgresLedger
from farthing.postgres.migrate import migrate
from farthing.postgres.pool import Database
from farthing.testing.stores import Clock, Stores

_TEMPLATE = "farthing_template"


@contextmanager
def _embedded_server(folder: Path) -> Iterator[str]:
    """A real server for all tests of a session, with a migrated database that others are copied from in milliseconds."""
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
def _fresh_database(server: str, *, migrated: bool = True) -> Iterator[str]:
    name = sql.Identifier(f"test_{uuid4().hex}")
    template = sql.Identifier(_TEMPLATE if migrated else "template0")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, template))
        try:
            yield make_conninfo(server, dbname=name.as_string(None).strip('"'))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _embedded_server(tmp_path_factory.mktemp("farthing") / "postgres") as uri:
        yield uri


@pytest.fixture(scope="module")
def module_database(server: str) -> Iterator[str]:
    with _fresh_database(server) as url:
        yield url


@pytest.fixture
def empty(server: str) -> Iterator[str]:
    with _fresh_database(server, migrated=False) as url:
        yield url


@pytest.fixture
def empty_too(server: str) -> Iterator[str]:
    with _fresh_database(server, migrated=False) as url:
        yield url


@pytest.fixture
def url(module_database: str) -> str:
    with psycopg.connect(module_database) as connection:
        connection.execute("TRUNCATE farthing.keys, farthing.ledger, farthing.ledger_daily, farthing.answers")
        connection.execute("TRUNCATE farthing.budgets, farthing.budget_spend, farthing.budget_leases, farthing.erasures")
    return module_database


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url, wait_s=5.0)
    await database.open()
    yield database
    await database.close()


@pytest.fixture(params=["inprocess", "postgres"])
def stores(request: pytest.FixtureRequest) -> Stores:
    clock = Clock()
    if request.param == "inprocess":
        news = InProcessChanges()
        ledger = InProcessLedger()
        return Stores(
            keys=InProcessKeys(news),
            ledger=ledger,
            budgets=InProcessBudgets(ledger, news),
            answers=InProcessAnswers(news, clock=clock),
            changes=news,
            clock=clock,
        )
    database: Database = request.getfixturevalue("database")
    return Stores(
        keys=PostgresKeys(database),
        ledger=PostgresLedger(database),
        budgets=PostgresBudgets(database),
        answers=PostgresAnswers(database, clock=clock),
        changes=PostgresChanges(request.getfixturevalue("url")),
        clock=clock,
    )
