"""The embedded server, with servers of its own: killed, restarted, taken over, contested."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from farthing.errors import SettingsError, Unavailable
from farthing.ports import CHANNELS
from farthing.postgres import server_process
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.embedded import EmbeddedPostgres
from farthing.postgres.keys import PostgresKeys
from farthing.postgres.ledger import PostgresLedger
from farthing.postgres.migrate import migrate
from farthing.postgres.pool import Database
from farthing.testing.stores import encoded, key_record, ledger_entry

_PATIENCE_S = 20


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "data" / "postgres")
    await server.start()
    yield server
    await server.stop()


async def _eventually(check: Callable[[], object]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not check():  # noqa: ASYNC110  # processes set no events
            await asyncio.sleep(0.02)


def _kill(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


async def test_it_starts_answers_stops_and_keeps_its_data(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data" / "postgres")
    assert not await server.healthy()
    with pytest.raises(Unavailable):
        _ = server.uri
    await server.start()
    await server.start()
    assert await server.healthy()
    await migrate(server.uri)
    await server.stop()
    await server.stop()
    assert server.pid is None
    assert not await server.healthy()
    await server.start()
    assert await migrate(server.uri) == []
    await server.stop()


async def test_it_is_tuned_and_listens_on_a_socket_only(embedded: EmbeddedPostgres) -> None:
    with psycopg.connect(embedded.uri) as connection:
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)",
            (["listen_addresses", "synchronous_commit", "fsync", "unix_socket_permissions", "shared_buffers", "log_min_error_statement"],),
        ).fetchall()
    assert dict(rows) == {
        "listen_addresses": "",
        "synchronous_commit": "on",
        "fsync": "on",
        "unix_socket_permissions": "0700",
        "shared_buffers": "8192",
        "log_min_error_statement": "panic",
    }


async def test_a_killed_server_is_back_with_all_that_was_committed(embedded: EmbeddedPostgres) -> None:
    await migrate(embedded.uri)
    database = Database(embedded.uri, wait_s=1.0, cooldown_s=0.2)
    await database.open()
    ledger, keys, record = PostgresLedger(database), PostgresKeys(database), key_record("a")
    batch = encoded(*(ledger_entry() for _ in range(10)))
    supervisor = asyncio.create_task(embedded.supervise(interval_s=0.05))
    try:
        await _stored(ledger, batch)
        await keys.add(record)
        for _ in range(2):
            before = embedded.pid
            with psycopg.connect(embedded.uri, autocommit=True) as busy:
                # A backend in the middle of a query does not notice that its server has gone, and holds the shared memory.
                query = asyncio.create_task(asyncio.to_thread(_endless, busy))
                await _eventually(lambda: _is_active(embedded.uri))
                _kill(embedded)
                await _eventually(lambda: embedded.pid not in {None, before})  # noqa: B023  # awaited here
                await query
            assert await _stored(ledger, batch) == 0
            assert await keys.find(record.digest) == record
    finally:
        supervisor.cancel()
        await database.close()


async def _stored(ledger: PostgresLedger, batch: list[bytes]) -> int:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            with suppress(Unavailable):
                return await ledger.append(batch)
            await asyncio.sleep(0.05)


def _endless(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    with suppress(psycopg.Error):
        connection.execute("SELECT count(*) FROM generate_series(1, 100000000000)")


def _is_active(uri: str) -> bool:
    with psycopg.connect(uri) as connection:
        query = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT count%%' AND state = 'active' AND pid <> pg_backend_pid()"
        return connection.execute(query.encode()).fetchone() is not None


async def test_a_watch_ends_with_the_server(embedded: EmbeddedPostgres) -> None:
    await migrate(embedded.uri)
    watch = PostgresChanges(embedded.uri).watch()
    assert [await anext(watch) for _ in CHANNELS] == [(channel, "") for channel in CHANNELS]
    _kill(embedded)
    with pytest.raises(Unavailable):
        async with asyncio.timeout(_PATIENCE_S):
            await anext(watch)
    await embedded.ensure()
    async with asyncio.timeout(_PATIENCE_S):
        assert await anext(PostgresChanges(embedded.uri).watch()) == ("keys", "")


async def test_a_watch_finds_out_that_its_server_hangs(embedded: EmbeddedPostgres) -> None:
    await migrate(embedded.uri)
    watch = PostgresChanges(embedded.uri, check_every_s=0.1, deadline_s=0.2).watch()
    for _ in CHANNELS:
        await anext(watch)
    with psycopg.connect(embedded.uri) as connection:
        row = connection.execute("SELECT pid FROM pg_stat_activity WHERE query LIKE '%%LISTEN%%' AND pid <> pg_backend_pid()").fetchone()
    assert row is not None
    os.kill(row[0], signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            async with asyncio.timeout(_PATIENCE_S):
                await anext(watch)
    finally:
        os.kill(row[0], signal.SIGCONT)


async def test_a_process_that_ends_without_a_word_stops_its_server(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "postgres"
    script = (
        "import asyncio, sys; from pathlib import Path; from farthing.postgres.embedded import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); asyncio.run(server.start()); print(server.pid)\n"
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) > 0
    assert EmbeddedPostgres(folder).pid is None


async def test_two_holders_of_one_folder_are_refused(embedded: EmbeddedPostgres, tmp_path: Path) -> None:
    rival = EmbeddedPostgres(tmp_path / "data" / "postgres")
    with pytest.raises(SettingsError, match=f"in use by process {os.getpid()}"):
        await rival.start()
    await rival.stop()
    assert await embedded.healthy()


async def test_of_two_processes_that_start_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from farthing.errors import SettingsError\n"
        "from farthing.postgres.embedded import EmbeddedPostgres\n"
        "async def main():\n"
        "    server = EmbeddedPostgres(Path(sys.argv[1]))\n"
        "    try: await server.start()\n"
        "    except SettingsError: print('refused', flush=True)\n"
        "    else: print('started', await server.healthy(), flush=True)\n"
        "    await asyncio.to_thread(sys.stdin.read)\n"
        "    await server.stop()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "data" / "postgres")]
    pipe = asyncio.subprocess.PIPE
    rivals = [await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(2)]
    said = sorted(await asyncio.gather(*(rival.stdout.readline() for rival in rivals if rival.stdout)))
    for rival in rivals:
        await rival.communicate(b"")
    assert said == [b"refused\n", b"started True\n"]
    assert [rival.returncode for rival in rivals] == [0, 0]


async def test_a_server_whose_holder_was_killed_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "postgres"
    script = (
        "import asyncio, sys; from pathlib import Path; from farthing.postgres.embedded import EmbeddedPostgres\n"
        "async def main():\n"
        "    server = EmbeddedPostgres(Path(sys.argv[1])); await server.start(); print(server.pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(folder), stdout=asyncio.subprocess.PIPE)
    assert holder.stdout is not None
    pid = int(await holder.stdout.readline())
    holder.kill()
    await holder.wait()
    heir = EmbeddedPostgres(folder)
    await heir.start()
    try:
        assert heir.pid == pid
        assert await heir.healthy()
    finally:
        await heir.stop()
    assert heir.pid is None


async def test_a_pid_file_that_names_another_program_stops_nobody(embedded: EmbeddedPostgres, tmp_path: Path) -> None:
    pid_file = tmp_path / "data" / "postgres" / "postmaster.pid"
    _kill(embedded)
    await _eventually(lambda: embedded.pid is None)
    lines = pid_file.read_text().split("\n")
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]))
    assert await embedded.ensure()
    assert await embedded.healthy()


async def test_the_log_stays_small(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data" / "postgres", max_log_bytes=2000)
    await server.start()
    try:
        log = tmp_path / "data" / "postgres" / "log"
        for _ in range(3):
            for _ in range(40):
                with suppress(psycopg.OperationalError):
                    psycopg.connect(server.uri.replace("@/postgres", "@/no_such_database"))
            await server.ensure()
            assert log.stat().st_size == 0
            assert log.with_name("log.1").stat().st_size == 2000
        assert "no_such_database" in log.with_name("log.1").read_text()
    finally:
        await server.stop()


async def test_the_log_quotes_no_values(embedded: EmbeddedPostgres, tmp_path: Path) -> None:
    with psycopg.connect(embedded.uri, autocommit=True) as connection:
        for statement in ("SELECT 'a secret'::int", "SELECT a_secret", "DO $$ BEGIN RAISE WARNING 'a secret'; END $$"):
            with suppress(psycopg.Error):
                connection.execute(statement.encode())
    assert "secret" not in (tmp_path / "data" / "postgres" / "log").read_text()


def test_the_log_that_is_small_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("short")
    server_process.shorten(log, 2000)
    server_process.shorten(tmp_path / "missing", 2000)
    assert log.read_text() == "short"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may not keep the data in its home")
def test_data_in_roots_home_is_refused_before_anything_is_opened() -> None:
    folder = Path("~root").expanduser() / "farthing-test-never-made" / "postgres"
    with pytest.raises(SettingsError, match="root's home"):
        asyncio.run(EmbeddedPostgres(folder).start())
    assert not folder.parent.exists()


async def test_a_path_that_the_starter_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="character"):
        await EmbeddedPostgres(tmp_path / "a; touch b" / "postgres").start()


async def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("long" * 30) / "postgres")
    await server.start()
    try:
        assert await server.healthy()
        _kill(server)
        await _eventually(lambda: server.pid is None)
        assert await server.ensure()
        assert await server.healthy()
    finally:
        await server.stop()


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data" / "postgres", settings={"shared_buffers": "nonsense"}, start_s=3.0)
    with pytest.raises(Unavailable, match="shared_buffers"):
        await server.start()
    await server.stop()


async def test_a_plain_role_that_may_create_roles_can_set_a_new_server_up(embedded: EmbeddedPostgres) -> None:
    """All but pgvector, which takes a superuser."""
    with psycopg.connect(embedded.uri, autocommit=True) as admin:
        admin.execute("CREATE ROLE landlord LOGIN CREATEROLE")
        admin.execute("CREATE DATABASE flat OWNER landlord")
    url = embedded.uri.replace("postgres@/postgres", "landlord@/flat")
    with pytest.raises(SettingsError, match="CREATE EXTENSION IF NOT EXISTS vector"):
        await migrate(url)
    with psycopg.connect(embedded.uri.replace("@/postgres", "@/flat"), autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
    assert await migrate(url)
    database = Database(url, wait_s=5.0)
    await database.open()
    try:
        ledger = PostgresLedger(database)
        assert await ledger.append(encoded(ledger_entry())) == 1
        async with database.tenant("rival") as connection:
            assert await (await connection.execute("SELECT * FROM farthing.ledger")).fetchall() == []
    finally:
        await database.close()
