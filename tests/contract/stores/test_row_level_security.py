"""Row-level security, for every table that has a tenant, as the catalogue knows them: new tables are covered by themselves."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from farthing.postgres.pool import Database

Connection = psycopg.Connection[TupleRow]

_VALUES = {
    "uuid": "gen_random_uuid()",
    "text": "'x'",
    "text[]": "'{x}'",
    "bytea": "decode(repeat('00', 32), 'hex')",
    "json": "'{}'",
    "jsonb": "'{}'",
    "boolean": "true",
    "date": "current_date",
    "timestamp with time zone": "now()",
    "integer": "1",
    "bigint": "1",
    "bigint[]": "'{1}'",
    "double precision": "1",
    "double precision[]": "'{1}'",
    "halfvec(384)": "array_fill(1::real, ARRAY[384])::halfvec",
}


@pytest.fixture
def owner(url: str) -> Iterator[Connection]:
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


def _tenant_tables(owner: Connection) -> list[str]:
    rows = owner.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relnamespace = 'farthing'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'tenant' AND NOT a.attisdropped"
    )
    return [name for (name,) in rows]


def _insert(owner: Connection, table: str, tenant: str) -> None:
    """A row of any table, by the types of its columns."""
    columns = owner.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = format('farthing.%%I', %s::text)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        (table,),
    ).fetchall()
    names = sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
    values = sql.SQL(", ").join(sql.Literal(tenant) if name == "tenant" else sql.SQL(_VALUES[kind]) for name, kind in columns)
    owner.execute(sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier("farthing", table), names, values))


def _act_as(owner: Connection, role: str, tenant: str | None = None) -> None:
    owner.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
    if tenant is not None:
        owner.execute("SELECT set_config('farthing.tenant', %s, true)", (tenant,))


def _count(owner: Connection, table: str) -> int:
    row = owner.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("farthing", table))).fetchone()
    assert row is not None
    return int(row[0])


def test_there_are_tables_with_a_tenant(owner: Connection) -> None:
    assert {"keys", "ledger", "ledger_daily", "answers"} <= set(_tenant_tables(owner))


@pytest.mark.parametrize(("tenant", "seen"), [(None, 0), ("", 0), ("wrong", 0), ("acme", 1)])
def test_the_app_sees_only_the_tenant_that_is_set(owner: Connection, tenant: str | None, seen: int) -> None:
    tables = _tenant_tables(owner)
    for table in tables:
        _insert(owner, table, "acme")
    _act_as(owner, "farthing_app", tenant)
    assert {table: _count(owner, table) for table in tables} == dict.fromkeys(tables, seen)


def test_a_setting_that_has_ended_shows_not_even_a_tenant_without_a_name(owner: Connection) -> None:
    owner.execute("SELECT set_config('farthing.tenant', 'acme', true)")
    owner.commit()
    tables = _tenant_tables(owner)
    for table in tables:
        _insert(owner, table, "")
    _act_as(owner, "farthing_app")
    assert owner.execute("SELECT current_setting('farthing.tenant', true)").fetchone() == ("",)
    assert {table: _count(owner, table) for table in tables} == dict.fromkeys(tables, 0)


def test_the_app_cannot_write_for_another_tenant_whatever_it_is_granted(owner: Connection) -> None:
    for table in _tenant_tables(owner):
        owner.execute(sql.SQL("GRANT ALL ON {} TO farthing_app").format(sql.Identifier("farthing", table)))
        _insert(owner, table, "acme")
        name = sql.Identifier("farthing", table)
        for tenant in (None, "wrong"):
            with owner.transaction(force_rollback=True):
                _act_as(owner, "farthing_app", tenant)
                assert owner.execute(sql.SQL("UPDATE {} SET tenant = 'wrong'").format(name)).rowcount == 0
                assert owner.execute(sql.SQL("DELETE FROM {}").format(name)).rowcount == 0
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                    owner.execute(sql.SQL("INSERT INTO {} (tenant) VALUES ('acme')").format(name))
        with owner.transaction(force_rollback=True):
            _act_as(owner, "farthing_app", "acme")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                owner.execute(sql.SQL("UPDATE {} SET tenant = 'wrong'").format(name))


def test_the_app_is_granted_no_writing_at_all(owner: Connection) -> None:
    granted = owner.execute(
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants "
        "WHERE table_schema = 'farthing' AND grantee IN ('farthing_app', 'PUBLIC') AND privilege_type <> 'SELECT'"
    ).fetchall()
    assert granted == []


def test_the_service_sees_all_tenants(owner: Connection) -> None:
    tables = _tenant_tables(owner)
    for table in tables:
        _insert(owner, table, "acme")
    _act_as(owner, "farthing_service")
    assert {table: _count(owner, table) for table in tables} == dict.fromkeys(tables, 1)


def test_an_owner_without_superuser_rights_sees_nothing_either(owner: Connection) -> None:
    owner.execute("CREATE ROLE plain_owner")
    owner.execute("GRANT USAGE ON SCHEMA farthing TO plain_owner")
    tables = _tenant_tables(owner)
    for table in tables:
        _insert(owner, table, "acme")
        owner.execute(sql.SQL("ALTER TABLE {} OWNER TO plain_owner").format(sql.Identifier("farthing", table)))
    _act_as(owner, "plain_owner")
    assert {table: _count(owner, table) for table in tables} == dict.fromkeys(tables, 0)


async def test_a_pooled_connection_forgets_tenant_and_role_after_each_use(url: str) -> None:
    database = Database(url, max_size=1, wait_s=5.0)
    await database.open()
    try:
        seen = []
        for use in (database.service(), database.tenant("acme"), database.service(), database.tenant("it's \\ odd")):
            async with use as connection:
                row = await (await connection.execute("SELECT current_user, current_setting('farthing.tenant', true)")).fetchone()
                assert row is not None
                seen.append((row[0], row[1] or None))
    finally:
        await database.close()
    assert seen == [("farthing_service", None), ("farthing_app", "acme"), ("farthing_service", None), ("farthing_app", "it's \\ odd")]
