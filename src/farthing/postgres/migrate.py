"""Bring a database to the schema of this version: roles first, then the plain SQL files of `sql/migrations/`, by yoyo-migrations.

yoyo splits, orders and books the files. What it lacks for several hosts that start at once, and may be killed while they migrate, is
done here: a PostgreSQL advisory lock instead of its lock row (which a killed migrator would leave behind for ever), and each
migration in one transaction with its entry in the books (yoyo's own commits them apart).
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from farthing.errors import SettingsError, Unavailable
from farthing.postgres.connection import VECTOR_SCHEMA, conninfo, cut
from farthing.postgres.translate import translated
from farthing.types import new_id

MIGRATIONS = Path(__file__).parent / "sql" / "migrations"
ROLES = Path(__file__).parent / "sql" / "roles.sql"

_OLDEST_SERVER = 150_000
_LOCK = 0x6661_7274_6869_6E67  # "farthing" in ASCII
_OLDEST_VECTOR = (0, 8)
_ROLE_NAMES = ("farthing_app", "farthing_service")
_BOOKS = "_yoyo_migration"
_LAST_WORDS_S = 1.0
"""For the server to end a statement that has reached the deadline, before its connection is cut."""


async def migrate(url: str, *, timeout_s: float = 60.0, connect_timeout_s: float = 5.0) -> list[str]:
    """Apply what is missing and return its names; an empty list when all was there.

    Any number of processes may call this at the same time: one works, the others wait. Raises `SettingsError` when the login user
    lacks a right (the message holds the SQL that an administrator must run), when the server is too old or the roles are unsafe;
    `Unavailable` when the database is away, hangs, or another migrator is not done after `timeout_s`.
    """
    target, deadline, wires = conninfo(url, connect_timeout_s=connect_timeout_s), time.monotonic() + timeout_s, _Wires()
    try:
        async with asyncio.timeout(timeout_s + _LAST_WORDS_S):
            return await asyncio.to_thread(_migrate, target, deadline, wires)
    except TimeoutError:
        raise Unavailable(f"The database has not answered for {timeout_s:g} s.") from None
    finally:
        wires.cut()


class _Wires:
    """The connections of a thread, so that its waits can be ended from outside: a server that hangs would hold up our exit for ever."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._connections: list[psycopg.Connection[Any]] = []
        self._over = False

    def connect(self, target: str) -> psycopg.Connection[Any]:
        """As psycopg's. Raises `Unavailable` once they are cut."""
        connection = psycopg.connect(target, autocommit=True)
        with self._mutex:
            if not self._over:
                self._connections.append(connection)
                return connection
        connection.close()
        raise Unavailable("The migration was given up.")

    def cut(self) -> None:
        """End all waits on them. A no-op for those that are closed."""
        with self._mutex:
            self._over = True
            for connection in self._connections:
                cut(connection)


def _migrate(target: str, deadline: float, wires: _Wires) -> list[str]:
    with translated(), wires.connect(target) as connection:
        _limit(connection, deadline)
        if connection.info.server_version < _OLDEST_SERVER:
            raise SettingsError(f"Farthing needs PostgreSQL 15 or newer; this server is {connection.info.server_version // 10_000}.")
        with _alone(connection, deadline):
            _prepare(connection)
            return _apply(target, deadline, wires)


def _limit(connection: psycopg.Connection[Any], deadline: float) -> None:
    """No statement of ours outlives the deadline, not even one that waits for a lock."""
    left_ms = min(max(1, round((deadline - time.monotonic()) * 1000)), 2**31 - 1)
    connection.execute(sql.SQL("SET statement_timeout TO {}").format(left_ms))


@contextmanager
def _alone(connection: psycopg.Connection[Any], deadline: float) -> Iterator[None]:
    """Hold the advisory lock. It dies with its connection, so a killed migrator leaves nothing behind."""
    while connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise Unavailable("Another process is migrating the database and is not done yet.")
        time.sleep(0.1)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _prepare(connection: psycopg.Connection[Any]) -> None:
    """Make the roles and the schema, become a member of the roles, and check that they are what row-level security relies on."""
    user = sql.Identifier(connection.info.user)
    try:
        connection.execute(ROLES.read_bytes())
        for name in _ROLE_NAMES:
            if not _may_become(connection, name):
                connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(name), user))
        if connection.execute("SELECT to_regnamespace('farthing')").fetchone() == (None,):
            connection.execute("CREATE SCHEMA farthing")
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.errors.InsufficientPrivilege as error:
        raise SettingsError(_for_the_administrator(connection, user, error)) from error
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
        raise SettingsError(
            "Farthing needs pgvector, and this PostgreSQL server does not have it: install it there (on Debian the package "
            f"postgresql-{connection.info.server_version // 10_000}-pgvector; managed services have it), then start again."
        ) from error
    _check_vector(connection)
    unsafe = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND (rolsuper OR rolbypassrls)", (list(_ROLE_NAMES),)
    ).fetchone()
    if unsafe:
        raise SettingsError(f"The role {unsafe[0]} escapes row-level security. Run: ALTER ROLE {unsafe[0]} NOSUPERUSER NOBYPASSRLS;")


def _check_vector(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = row[0] if row else ""
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < _OLDEST_VECTOR:
        wanted = ".".join(map(str, _OLDEST_VECTOR))
        raise SettingsError(f"Farthing needs pgvector {wanted} or newer; this database has {version}. Run: ALTER EXTENSION vector UPDATE;")


def _may_become(connection: psycopg.Connection[Any], role: str) -> bool:
    # Since PostgreSQL 16 who creates a role is its member, but may not become it before granting that to itself.
    right = "SET" if connection.info.server_version >= 160_000 else "MEMBER"  # noqa: PLR2004  # a version
    return connection.execute("SELECT pg_has_role(current_user, %s, %s)", (role, right)).fetchone() == (True,)


def _for_the_administrator(connection: psycopg.Connection[Any], user: sql.Identifier, error: psycopg.Error) -> str:
    statements = sql.SQL("\n").join(
        (
            sql.SQL("CREATE ROLE farthing_app NOLOGIN;    -- where it does not exist"),
            sql.SQL("CREATE ROLE farthing_service NOLOGIN;    -- where it does not exist"),
            sql.SQL("GRANT farthing_app, farthing_service TO {};").format(user),
            sql.SQL("GRANT CREATE ON DATABASE {} TO {};").format(sql.Identifier(connection.info.dbname), user),
            sql.SQL("CREATE EXTENSION IF NOT EXISTS vector;"),
        )
    )
    return (
        f"The database user {connection.info.user} may not set the database up ({error.diag.message_primary}). "
        f"Let an administrator run this in the database {connection.info.dbname}:\n{statements.as_string(connection)}"
    )


def _apply(target: str, deadline: float, wires: _Wires) -> list[str]:
    with _Backend(target, deadline, wires) as books:
        books.ensure_internal_schema_updated()
        missing = books.to_apply(read_migrations(str(MIGRATIONS)))
        for migration in missing:
            books.apply_one(migration)
        return [migration.id for migration in missing]


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo has no types
    """yoyo's back end on a libpq connection string, under our lock, with migration and entry in one transaction."""

    def __init__(self, target: str, deadline: float, wires: _Wires) -> None:
        self._target = target
        self._deadline = deadline
        self._wires = wires
        # yoyo keeps this object in a cache of the process; it holds no secret.
        super().__init__(DatabaseURI("postgresql", None, None, None, None, None, {}), _BOOKS)

    def connect(self, _uri: DatabaseURI) -> psycopg.Connection[Any]:
        connection = self._wires.connect(self._target)
        try:
            connection.execute(
                sql.SQL("SELECT set_config('search_path', concat_ws(', ', 'farthing', ({})), false)").format(sql.SQL(VECTOR_SCHEMA))
            )
            _limit(connection, self._deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    def lock(self, timeout: float = 0) -> AbstractContextManager[None]:  # noqa: ARG002  # yoyo's signature
        return nullcontext()

    def copy(self) -> AbstractContextManager[_Backend]:
        return nullcontext(self)

    def apply_one(self, migration: Any, force: bool = False, mark: bool = True) -> None:  # noqa: FBT001, FBT002  # yoyo's signature
        migration.load()
        with self.transaction() if migration.use_transactions else nullcontext():
            super().apply_one(migration, force, mark)

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, object]:
        """What the log keeps. Without asking the system for a user that a container may not know, nor the name server for the host."""
        return {
            "id": str(new_id()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": "farthing",
            "hostname": socket.gethostname(),
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }
