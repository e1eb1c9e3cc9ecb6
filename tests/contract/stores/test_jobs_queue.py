"""What PostgreSQL has of pgqueuer: made by our migration, as this version of pgqueuer wants it, whatever the environment says."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from pgqueuer.domain.schema.declaration import target
from pgqueuer.domain.settings import DBSettings

from farthing.postgres.jobs import PostgresJobs
from farthing.postgres.pool import Database
from farthing.testing.jobs import done, filled


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.runs, farthing.items, farthing.schedules, farthing.pgqueuer, farthing.pgqueuer_log")
    return url


def test_its_tables_have_the_columns_that_it_declares(url: str) -> None:
    declared = {table.name: table for table in target(DBSettings(prefix="", db_schema="farthing")).tables}
    query = (
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        "WHERE attrelid = ('farthing.' || %s)::regclass AND attnum > 0 AND NOT attisdropped"
    )
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path TO farthing")
        for name in ("pgqueuer", "pgqueuer_log"):
            ours = {column: (kind, required) for column, kind, required in connection.execute(query, (name,))}
            assert ours == {column.name: (column.type, column.not_null) for column in declared[name].columns}, name  # type: ignore[index]


def test_its_statuses_are_those_that_it_declares(url: str) -> None:
    (declared,) = target(DBSettings(prefix="", db_schema="farthing")).enums
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT enum_range(NULL::farthing.pgqueuer_status)::text[]").fetchone()
    assert row is not None
    assert tuple(row[0]) == tuple(declared.labels)


async def test_variables_that_are_meant_for_another_pgqueuer_change_nothing(
    clean: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFIX", "SCHEMA", "QUEUE_TABLE", "QUEUE_TABLE_LOG", "QUEUE_STATUS_TYPE"):
        monkeypatch.setenv(f"PGQUEUER_{name}", "elsewhere")
    monkeypatch.setenv("QUEUE_TABLE", "elsewhere")
    store = PostgresJobs(database, lease_s=5)
    run = await filled(store, ["a"])
    (lease,) = await store.claim(["k"], most=1)
    await store.end([done(lease)])
    assert await store.settle() == 1
    with psycopg.connect(clean) as connection:
        assert connection.execute("SELECT count(*) FROM farthing.pgqueuer").fetchone() == (0,)
        assert connection.execute("SELECT DISTINCT entrypoint FROM farthing.pgqueuer_log").fetchall() == [(str(run.id),)]
    assert await store.prune(run.created_at, max_runs=0) == 1
    with psycopg.connect(clean) as connection:
        assert connection.execute("SELECT id FROM farthing.pgqueuer_log UNION ALL SELECT id FROM farthing.items").fetchall() == []


async def test_two_who_look_at_the_same_time_both_get_something(clean: str, database: Database) -> None:
    """The one that lost the race for the same seats tries again at once."""
    del clean
    first, second = PostgresJobs(database, lease_s=30), PostgresJobs(database, lease_s=30)
    await filled(first, [str(n) for n in range(40)], wide=40)
    for _ in range(5):
        one, two = await asyncio.gather(first.claim(["k"], most=4), second.claim(["k"], most=4))
        assert (len(one), len(two)) == (4, 4)
