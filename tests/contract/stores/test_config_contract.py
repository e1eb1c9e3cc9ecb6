"""The config stores in process and in PostgreSQL, and what only the database can show."""

import asyncio
from contextlib import aclosing

import psycopg
import pytest

from farthing.config import MOST_NAMES
from farthing.errors import InvalidRequest, Unavailable
from farthing.inprocess.config import InProcessConfig
from farthing.inprocess.stores import InProcessChanges
from farthing.ports import Changes
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.config import PostgresConfig
from farthing.postgres.pool import Database
from farthing.testing.config import ConfigStoreContract, Shared
from farthing.testing.stores import watched


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.config, farthing.config_history")
    return url


@pytest.fixture(params=["inprocess", "postgres"])
def shared(request: pytest.FixtureRequest) -> Shared:
    if request.param == "inprocess":
        store = InProcessConfig(InProcessChanges(), kept=200)
        return Shared(store=store, other=store)
    request.getfixturevalue("clean")
    database: Database = request.getfixturevalue("database")
    return Shared(store=PostgresConfig(database, kept=200), other=PostgresConfig(database, kept=200), writers=16)


class TestConfig(ConfigStoreContract):
    pass


@pytest.fixture(params=["inprocess", "postgres"])
def told(request: pytest.FixtureRequest) -> tuple[Shared, Changes]:
    if request.param == "inprocess":
        news = InProcessChanges()
        store = InProcessConfig(news, kept=3)
        return Shared(store=store, other=store), news
    url: str = request.getfixturevalue("clean")
    store_there = PostgresConfig(request.getfixturevalue("database"), kept=3)
    return Shared(store=store_there, other=store_there), PostgresChanges(url)


async def test_a_new_version_is_told_by_the_documents_name(told: tuple[Shared, Changes]) -> None:
    shared, changes = told
    async with aclosing(watched(changes)) as news:
        await anext(news)
        await shared.store.write("modes", {"n": 1}, expect=0, by="", reason="")
        heard = [await anext(news)]
        while heard[-1] != ("config", "modes"):
            assert heard[-1][1] == "", "what comes at the beginning of a watch"
            heard.append(await anext(news))


async def test_old_versions_go(told: tuple[Shared, Changes]) -> None:
    store = told[0].store
    for number in range(5):
        await store.write("modes", {"n": number}, expect=number, by="", reason="")
    assert [one.version for one in await store.history("modes", 99)] == [5, 4, 3]


async def test_documents_are_apart_and_not_without_end(told: tuple[Shared, Changes]) -> None:
    store = told[0].store
    for number in range(MOST_NAMES):
        assert (await store.write(f"d{number}", {"n": number}, expect=0, by="", reason="")).version == 1
    with pytest.raises(InvalidRequest, match=f"{MOST_NAMES} documents"):
        await store.write("one-more", {}, expect=None, by="", reason="")
    assert (await store.write("d7", {}, expect=1, by="", reason="")).version == 2
    seen = await store.read("d8")
    assert seen is not None
    assert seen.body == {"n": 8}


async def test_a_writer_that_is_cut_off_leaves_nothing(database: Database, clean: str) -> None:
    store = PostgresConfig(database)
    await store.write("modes", {"n": 1}, expect=0, by="", reason="")
    with psycopg.connect(clean, autocommit=True) as blocking:
        blocking.execute("BEGIN")
        blocking.execute("LOCK TABLE farthing.config_history IN EXCLUSIVE MODE")
        writing = asyncio.create_task(store.write("modes", {"n": 2}, expect=1, by="", reason=""))
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%config_history%'"
        with psycopg.connect(clean, autocommit=True) as looking:
            while (row := looking.execute(waits).fetchone()) is None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
            looking.execute("SELECT pg_terminate_backend(%s)", (row[0],))
        blocking.execute("ROLLBACK")
    with pytest.raises(Unavailable):
        await writing
    seen = await store.read("modes")
    assert seen is not None
    assert (seen.version, seen.body) == (1, {"n": 1})
    assert len(await store.history("modes", 9)) == 1


async def test_no_tenant_sees_it(database: Database, clean: str) -> None:
    del clean
    await PostgresConfig(database).write("modes", {"n": 1}, expect=0, by="", reason="")
    for table in (b"config", b"config_history"):
        with pytest.raises(Unavailable):  # no rights at all
            async with database.tenant("acme") as connection:
                await connection.execute(b"SELECT count(*) FROM farthing." + table)


async def test_a_store_that_is_away_is_unavailable(tmp_path: object) -> None:
    database = Database(f"postgresql:///x?host={tmp_path}", wait_s=0.2)
    await database.open()
    store = PostgresConfig(database)
    try:
        for call in (store.read("modes"), store.history("modes", 1), store.write("modes", {}, expect=None, by="", reason="")):
            with pytest.raises(Unavailable):
                await call
    finally:
        await database.close()
