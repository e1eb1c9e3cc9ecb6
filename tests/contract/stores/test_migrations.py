"""Migrations: from nothing, again, at the same time, by a user with few rights; and that schema.sql and the documents agree with them."""

import asyncio
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from yoyo import read_migrations

from farthing.errors import SettingsError, Unavailable
from farthing.postgres import migrate as migrating
from farthing.postgres.ledger_sql import FIELDS
from farthing.postgres.migrate import MIGRATIONS, ROLES, migrate
from farthing.postgres.pool import Database
from farthing.postgres.questions import PostgresQuestions
from farthing.testing.questions import partition, question, vector
from farthing.testing.stores import Clock
from farthing.types import LedgerEntry

_SCHEMA = MIGRATIONS.parent / "schema.sql"
_DOCUMENT = Path(__file__).parents[3] / "docs" / "schema.md"
_ALL = [migration.id for migration in read_migrations(str(MIGRATIONS))]

# ruff: noqa: S608  # all parts of the queries are ours
_OURS = "relnamespace = 'farthing'::regnamespace AND relname NOT LIKE '\\_yoyo%'"
_CATALOGUE = {
    "tables": f"SELECT relname, relkind, relrowsecurity, relforcerowsecurity, relacl::text FROM pg_class WHERE {_OURS}",
    "columns": f"""SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attgenerated, attacl::text,
        pg_get_expr(adbin, adrelid), attnum
        FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE {_OURS} AND attnum > 0 AND NOT attisdropped""",
    "constraints": f"""SELECT relname, conname, pg_get_constraintdef(o.oid)
        FROM pg_constraint o JOIN pg_class c ON conrelid = c.oid WHERE {_OURS}""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'farthing' AND tablename NOT LIKE '\\_yoyo%'",
    "policies": "SELECT * FROM pg_policies WHERE schemaname = 'farthing'",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'farthing'::regnamespace",
    "schema": "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'farthing'",
}


def _catalogue(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return {name: sorted(connection.execute(query.encode()).fetchall(), key=repr) for name, query in _CATALOGUE.items()}


async def test_migrating_from_empty_equals_the_documented_schema(empty: str, empty_too: str) -> None:
    assert await migrate(empty) == _ALL
    with psycopg.connect(empty_too) as connection:
        connection.execute(_SCHEMA.read_bytes())
    assert _catalogue(empty) == _catalogue(empty_too)


def test_the_documented_schema_makes_the_roles_that_the_migrator_makes() -> None:
    assert ROLES.read_text() in _SCHEMA.read_text()


async def test_migrating_again_does_nothing(empty: str) -> None:
    await migrate(empty)
    before = _catalogue(empty)
    assert await migrate(empty) == []
    assert _catalogue(empty) == before


async def test_of_hosts_that_start_together_one_migrates(empty: str) -> None:
    applied = await asyncio.gather(*(migrate(empty) for _ in range(5)))
    assert sorted(applied, key=len) == [[], [], [], [], _ALL]


async def test_a_lock_row_left_by_a_killed_migrator_blocks_nobody(empty: str) -> None:
    with psycopg.connect(empty) as connection:
        connection.execute("CREATE SCHEMA farthing CREATE TABLE yoyo_lock (locked int PRIMARY KEY, ctime timestamp, pid int NOT NULL)")
        connection.execute("INSERT INTO farthing.yoyo_lock VALUES (1, now(), 1)")
    assert await migrate(empty, timeout_s=20) == _ALL


async def test_a_migrator_that_is_not_done_in_time_is_reported(empty: str) -> None:
    with psycopg.connect(empty) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (migrating._LOCK,))
        with pytest.raises(Unavailable, match="Another process"):
            await migrate(empty, timeout_s=0.3)
    assert await migrate(empty) == _ALL


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_server_that_hangs_in_the_middle_holds_nobody_up(
    empty: str,
    cancelled: bool,  # noqa: FBT001 - a table
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither whoever waits for the migration nor, when he gives up, the end of his process, which waits for its threads."""
    over = threading.Event()
    migrate_in_thread = migrating._migrate

    def watched(*arguments: Any) -> list[str]:
        try:
            return migrate_in_thread(*arguments)
        finally:
            over.set()

    monkeypatch.setattr(migrating, "_migrate", watched)
    with psycopg.connect(empty, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (migrating._LOCK,))  # so that there is a middle
        task = asyncio.create_task(migrate(make_conninfo(empty, application_name="stuck"), timeout_s=60 if cancelled else 1))
        pid = await _backend(other, "stuck")
        os.kill(pid, signal.SIGSTOP)
        try:
            if cancelled:
                task.cancel()
            async with asyncio.timeout(20):
                with pytest.raises(asyncio.CancelledError if cancelled else Unavailable):
                    await task
            assert await asyncio.to_thread(over.wait, 20)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert await migrate(empty) == _ALL


async def _backend(connection: psycopg.Connection[Any], name: str) -> int:
    """The server process that serves the application of this name."""
    async with asyncio.timeout(20):
        look = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
        while not (row := connection.execute(look, (name,)).fetchone()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    return int(row[0])


async def test_a_migration_that_fails_leaves_nothing_and_can_be_repeated(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA farthing")
        connection.execute("CREATE TABLE farthing.answers (in_the_way int)")
        with pytest.raises(Unavailable):
            await migrate(empty)
        tables = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'farthing'::regnamespace AND relkind = 'r'")
        assert {name for (name,) in tables if not name.startswith("_yoyo")} == {"answers"}
        connection.execute("DROP TABLE farthing.answers")
    assert await migrate(empty) == _ALL


async def test_a_database_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await migrate(f"postgresql:///x?host={tmp_path}")


async def test_something_that_is_no_url_is_a_settings_error_that_does_not_repeat_it() -> None:
    with pytest.raises(SettingsError) as caught:
        await migrate("mysql://root:secret@localhost/x")
    assert "secret" not in str(caught.value)


async def test_a_user_without_rights_is_told_the_sql_and_it_suffices(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute('CREATE ROLE "poor User" LOGIN')
        url = make_conninfo(empty, user="poor User")
        try:
            with pytest.raises(SettingsError) as caught:
                await migrate(url)
            statements = [line for line in str(caught.value).splitlines() if line.startswith(("CREATE", "GRANT"))]
            assert len(statements) == 5
            for statement in statements[2:]:  # the roles exist on this server
                admin.execute(statement.encode())
            assert await migrate(url) == _ALL
            assert await migrate(url) == []
        finally:
            admin.execute('DROP OWNED BY "poor User" CASCADE')
            admin.execute('REVOKE farthing_app, farthing_service FROM "poor User"')
            admin.execute('DROP ROLE "poor User"')


async def test_a_server_without_pgvector_is_named_as_the_trouble(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} SET extension_control_path = '/nowhere'").format(sql.Identifier(admin.info.dbname)))
        with pytest.raises(SettingsError, match="needs pgvector, and this PostgreSQL server does not have it"):
            await migrate(empty)


async def test_an_old_pgvector_is_named_as_the_trouble(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
        admin.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
        with pytest.raises(SettingsError, match="ALTER EXTENSION vector UPDATE"):
            await migrate(empty)
        admin.execute("UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'vector'")
        assert await migrate(empty) == _ALL


async def test_pgvector_may_be_in_a_schema_of_its_own(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute('CREATE SCHEMA "Extra"')
        admin.execute('CREATE EXTENSION vector SCHEMA "Extra"')
        admin.execute('GRANT USAGE ON SCHEMA "Extra" TO PUBLIC')
    await migrate(empty)
    database, clock = Database(empty, wait_s=5.0), Clock()
    await database.open()
    try:
        index = PostgresQuestions(database, clock=clock)
        await index.put([question("q", clock)])
        (near,) = await index.search("acme", partition(), vector("q"), most=1)
        assert near.question == question("q", clock)
    finally:
        await database.close()


async def test_roles_that_escape_row_level_security_are_refused(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute("ALTER ROLE farthing_app BYPASSRLS")
        try:
            with pytest.raises(SettingsError, match="NOBYPASSRLS"):
                await migrate(empty)
        finally:
            admin.execute("ALTER ROLE farthing_app NOBYPASSRLS")


async def test_every_migration_can_be_rolled_back(empty: str) -> None:
    await migrate(empty)
    with migrating._Backend(empty, time.monotonic() + 60, migrating._Wires()) as backend:
        backend.rollback_migrations(backend.to_rollback(read_migrations(str(MIGRATIONS))))
    left = _catalogue(empty)
    assert not any(left[name] for name in ("tables", "columns", "constraints", "indexes", "policies", "functions"))
    assert await migrate(empty) == _ALL


def test_every_table_and_column_is_documented(module_database: str) -> None:
    documented: set[tuple[str, ...]] = set()
    table = ""
    for line in _DOCUMENT.read_text().splitlines():
        if heading := re.match(r"## (?:`farthing\.(\w+)`)?", line):
            table = heading[1] or ""
        elif table and (row := re.match(r"\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", line)):
            documented.add((table, row[1], row[2].strip()))
    with psycopg.connect(module_database) as connection:
        rows = connection.execute(
            f"SELECT relname, attname, format_type(atttypid, atttypmod) FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid "
            f"WHERE {_OURS} AND relkind IN ('r', 'p', 'v', 'm') AND attnum > 0 AND NOT attisdropped".encode()
        ).fetchall()
    assert documented == set(rows)


def test_the_append_statement_knows_every_field_of_an_entry(module_database: str) -> None:
    assert [name for name, _, _ in FIELDS] == list(LedgerEntry.__struct_fields__)
    with psycopg.connect(module_database) as connection:
        rows = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'farthing.ledger'::regclass AND attnum > 0"
        ).fetchall()
    assert dict(rows) == {"at": "timestamp with time zone"} | {name: kind for name, kind, _ in FIELDS}
