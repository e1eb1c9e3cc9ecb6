from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from farthing.inprocess.stores import InProcessAnswers, InProcessChanges, InProcessKeys, InProcessLedger
from farthing.postgres.answers import PostgresAnswers
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.keys import PostgresKeys
from farthing.postgres.ledger import PostgresLedger
from farthing.postgres.pool import Database
from farthing.testing.postgres import embedded_server, fresh_database
from farthing.testing.stores import Clock, Stores


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded_server(tmp_path_factory.mktemp("farthing") / "postgres") as uri:
        yield uri


@pytest.fixture(scope="module")
def module_database(server: str) -> Iterator[str]:
    with fresh_database(server) as url:
        yield url


@pytest.fixture
def url(module_database: str) -> str:
    with psycopg.connect(module_database) as connection:
        connection.execute("TRUNCATE farthing.keys, farthing.ledger, farthing.ledger_daily, farthing.answers")
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
        return Stores(
            keys=InProcessKeys(news), ledger=InProcessLedger(), answers=InProcessAnswers(news, clock=clock), changes=news, clock=clock
        )
    database: Database = request.getfixturevalue("database")
    return Stores(
        keys=PostgresKeys(database),
        ledger=PostgresLedger(database),
        answers=PostgresAnswers(database, clock=clock),
        changes=PostgresChanges(request.getfixturevalue("url")),
        clock=clock,
    )
