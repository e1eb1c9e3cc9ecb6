"""The pool: what it does when the database is away, slow, busy or back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg
import psycopg_pool
import pytest

from farthing.breaker import Breaker
from farthing.errors import InvalidRequest, SettingsError, Unavailable
from farthing.postgres.pool import Database
from farthing.postgres.translate import TABLE, translate

_PATIENCE_S = 20


@asynccontextmanager
async def opened(url: str, **bounds: float) -> AsyncIterator[Database]:
    database = Database(url, **bounds)  # type: ignore[arg-type]  # the sizes are whole numbers
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def _one(database: Database, query: bytes = b"SELECT 1") -> object:
    async with database.service() as connection:
        row = await (await connection.execute(query)).fetchone()
        return row[0] if row else None


async def _until_served(database: Database) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            with suppress(Unavailable):
                assert await _one(database) == 1
                return
            await asyncio.sleep(0.05)


def _subclasses(kind: type[psycopg.Error]) -> Iterator[type[psycopg.Error]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def test_every_error_of_the_driver_and_its_pool_is_in_the_table() -> None:
    kinds = set(_subclasses(psycopg.Error))
    assert {psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests, psycopg.errors.UniqueViolation} <= kinds
    for kind in kinds:
        assert any(base in TABLE for base in kind.__mro__), kind
        assert type(translate(kind("x"))) in {InvalidRequest, Unavailable}


def test_what_depends_on_the_values_is_the_requests_fault_and_nothing_else_is() -> None:
    faults = {kind.__name__ for kind in set(_subclasses(psycopg.Error)) if type(translate(kind("x"))) is InvalidRequest}
    assert {"UntranslatableCharacter", "NumericValueOutOfRange", "NotNullViolation", "CheckViolation", "ProgramLimitExceeded"} <= faults
    assert not {"AdminShutdown", "DeadlockDetected", "QueryCanceled", "DiskFull", "UndefinedTable", "InsufficientPrivilege"} & faults


async def test_opening_does_not_wait_for_a_database_that_is_away(tmp_path: Path) -> None:
    async with opened(f"postgresql:///x?host={tmp_path}", wait_s=0.1) as database:
        with pytest.raises(Unavailable) as caught:
            await _one(database)
        assert str(tmp_path) not in caught.value.message


async def test_after_some_failures_uses_fail_without_trying(tmp_path: Path) -> None:
    now = 0.0
    async with opened(f"postgresql:///x?host={tmp_path}", wait_s=0.05, failures=2, cooldown_s=5.0, clock=lambda: now) as database:  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(Unavailable, match="PoolTimeout"):
                await _one(database)
        with pytest.raises(Unavailable, match="away") as caught:
            await _one(database)
        assert caught.value.retry_after_s == 5.0
        now = 5.0
        with pytest.raises(Unavailable, match="PoolTimeout"):
            await _one(database)
        with pytest.raises(Unavailable, match="away"):
            await _one(database)


def test_a_half_open_breaker_lets_one_probe_through() -> None:
    now = 0.0
    breaker = Breaker(failures=1, cooldown_s=1.0, fatal=(OSError,), clock=lambda: now)
    with pytest.raises(OSError, match="down"), breaker.attempt():
        raise OSError("down")
    now = 1.0
    with breaker.attempt(), pytest.raises(Unavailable), breaker.attempt():
        pytest.fail("a second one was let through")
    with breaker.attempt():
        pass


def test_a_probe_that_is_cancelled_frees_its_place_and_proves_nothing() -> None:
    now = 0.0
    breaker = Breaker(failures=1, cooldown_s=1.0, fatal=(OSError,), clock=lambda: now)
    breaker.failed()
    now = 1.0
    with pytest.raises(asyncio.CancelledError), breaker.attempt():
        raise asyncio.CancelledError
    with breaker.attempt(), pytest.raises(Unavailable), breaker.attempt():
        pass


async def test_connections_that_died_in_the_pool_are_replaced_without_an_error(url: str) -> None:
    async with opened(url, min_size=3, max_size=3, wait_s=5.0) as database:
        async with database.service() as one, database.service() as two, database.service() as three:
            pids = [connection.info.backend_pid for connection in (one, two, three)]
        with psycopg.connect(url) as admin:
            for pid in pids:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        assert await _one(database) == 1


async def test_a_slow_statement_is_ended_by_the_server(url: str) -> None:
    async with opened(url, statement_timeout_s=0.1, wait_s=5.0) as database:
        with pytest.raises(Unavailable, match="QueryCanceled"):
            await _one(database, b"SELECT pg_sleep(60)")
        assert await _one(database) == 1


async def test_a_server_that_hangs_is_cut_off_at_the_deadline(url: str) -> None:
    async with opened(url, max_size=1, use_s=1.0, wait_s=5.0) as database:
        await _until_served(database)
        pid = await _one(database, b"SELECT pg_backend_pid()")
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                with pytest.raises(Unavailable):
                    await _one(database)
        finally:
            os.kill(pid, signal.SIGCONT)
        await _until_served(database)


async def test_a_use_that_takes_too_long_is_cut_off_though_each_statement_is_quick(url: str) -> None:
    async with opened(url, use_s=1.0, wait_s=5.0) as database:

        async def many() -> None:
            async with asyncio.timeout(_PATIENCE_S), database.service() as connection:
                while True:
                    await connection.execute("SELECT 1")
                    await asyncio.sleep(0.01)

        with pytest.raises(Unavailable):
            await many()
        assert await _one(database) == 1


async def test_a_busy_pool_refuses_without_opening_the_breaker(url: str) -> None:
    async with opened(url, max_size=1, wait_s=0.05, failures=1) as database:
        await _until_served(database)
        async with database.service():
            for _ in range(3):
                with pytest.raises(Unavailable, match="busy"):
                    await _one(database)
        assert await _one(database) == 1


async def test_a_cancelled_use_gives_its_connection_back_and_leaves_nothing_behind(url: str) -> None:
    async with opened(url, max_size=1, wait_s=5.0) as database:
        started = asyncio.Event()

        async def slow() -> None:
            async with database.service() as connection:
                await connection.execute("UPDATE farthing.answers SET model = 'x'")
                started.set()
                await connection.execute("SELECT pg_sleep(60)")

        task = asyncio.create_task(slow())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await _one(database) == 1


async def test_an_error_rolls_back_and_a_swallowed_one_is_no_success(url: str) -> None:
    async with opened(url, wait_s=5.0) as database:

        async def swallow() -> None:
            async with database.service() as connection:
                with suppress(psycopg.Error):
                    await connection.execute("SELECT 1/0")

        with pytest.raises(Unavailable, match="rolled back"):
            await swallow()
        with pytest.raises(InvalidRequest):
            await _one(database, b"SELECT 1/0")
        with pytest.raises(ZeroDivisionError):
            async with database.service():
                raise ZeroDivisionError
        assert await _one(database) == 1


@pytest.mark.parametrize("tenant", ["a\0b", "\ud800"])
async def test_a_tenant_that_is_no_text_is_the_requests_fault(url: str, tenant: str) -> None:
    async with opened(url, wait_s=5.0) as database:
        with pytest.raises(InvalidRequest):
            async with database.tenant(tenant):
                pass


async def test_a_database_that_was_never_opened_or_is_closed_is_unavailable(url: str) -> None:
    database = Database(url)
    with pytest.raises(Unavailable):
        await _one(database)
    await database.open()
    await database.open()
    await database.close()
    await database.close()
    with pytest.raises(Unavailable):
        await _one(database)


def test_something_that_is_no_url_is_a_settings_error() -> None:
    with pytest.raises(SettingsError):
        Database("http://user:secret@host")
