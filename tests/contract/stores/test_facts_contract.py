"""The adapters of the fact store, and what only the database can show."""

import asyncio
import random
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest

from farthing.errors import Unavailable
from farthing.facts import Most
from farthing.inprocess.facts import InProcessFacts
from farthing.inprocess.stores import InProcessChanges
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.facts import PostgresFacts
from farthing.postgres.pool import Database
from farthing.testing.facts import FactStoreContract, Minded, fact
from farthing.testing.stores import Clock
from farthing.types import new_id

_FIVE = Most(facts=5)


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.facts, farthing.profiles")
    return url


@pytest.fixture(params=["inprocess", "postgres"])
def minded(request: pytest.FixtureRequest) -> Minded:
    clock = Clock()
    if request.param == "inprocess":
        changes = InProcessChanges()
        return Minded(store=InProcessFacts(changes, most=_FIVE, clock=clock), clock=clock, changes=changes)
    url, database = request.getfixturevalue("clean"), request.getfixturevalue("database")
    return Minded(store=PostgresFacts(database, most=_FIVE, clock=clock), clock=clock, changes=PostgresChanges(url))


class TestFacts(FactStoreContract):
    pass


@pytest.fixture
def in_postgres(clean: str, database: Database) -> Minded:
    del clean
    clock = Clock()
    return Minded(store=PostgresFacts(database, clock=clock), clock=clock)


async def test_no_tenant_sees_anothers_facts(in_postgres: Minded, database: Database) -> None:
    await in_postgres.learn(fact(in_postgres, "city", "Oslo"))
    for tenant, seen in (("acme", 1), ("rival", 0)):
        async with database.tenant(tenant) as connection:
            for table in (b"farthing.facts", b"farthing.profiles"):
                row = await (await connection.execute(b"SELECT count(*) FROM " + table)).fetchone()
                assert row == (seen,)


def _rows_and_profiles(url: str) -> tuple[list[object], list[object]]:
    """The ids of the facts that hold, as the rows say and as the profiles do."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT id::text FROM farthing.facts WHERE valid_to IS NULL AND known_to IS NULL ORDER BY 1").fetchall()
        hot = connection.execute("SELECT f ->> 'id' FROM farthing.profiles, jsonb_array_elements(facts) f ORDER BY 1").fetchall()
    return [*rows], [*hot]


async def test_those_who_learn_forget_and_prune_at_once_leave_nothing_half(in_postgres: Minded, clean: str) -> None:
    soon = in_postgres.clock.now + timedelta(seconds=1)

    async def learn(number: int) -> None:
        fleeting = {"expires_at": in_postgres.clock.now} if number % 3 == 0 else {}
        said = fact(in_postgres, f"k{number % 5}", number, ago_h=number % 7, **fleeting)
        await in_postgres.store.learn("acme", "ann" if number % 2 else "bob", [said], arrived=soon)

    work = [learn(number) for number in range(60)]
    others = [in_postgres.store.forget("acme", "ann") for _ in range(4)] + [in_postgres.store.forget("acme", None) for _ in range(2)]
    pruning = [in_postgres.store.prune(max_history=3) for _ in range(4)]
    mixed = [*work, *others, *pruning]
    random.Random(7).shuffle(mixed)  # noqa: S311 - nothing secret
    await asyncio.gather(*mixed)
    rows, hot = _rows_and_profiles(clean)
    assert rows == hot


async def test_what_the_profile_says_is_what_the_rows_say(in_postgres: Minded, clean: str) -> None:
    """Whoever reads the tables need not know the rules."""
    for n in range(30):
        await in_postgres.learn(fact(in_postgres, f"k{n % 3}", n % 5, ago_h=n * 7 % 11, multi=n % 3 == 0))
    (held,) = [one for one in (await in_postgres.learn()).facts if one.key == "k1"]
    await in_postgres.store.retract("acme", "ann", held.id, by="person:k")
    rows, hot = _rows_and_profiles(clean)
    assert rows == hot
    assert len(rows) > 3


async def test_readers_that_give_up_leave_their_connections_to_others(in_postgres: Minded, database: Database) -> None:
    await in_postgres.learn(fact(in_postgres, "city", "Oslo"))

    async def hasty(number: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(number * 0.0001):
                await in_postgres.store.profile("acme", "ann")

    await asyncio.gather(*(hasty(number) for number in range(100)))
    assert database._in_use == 0
    assert await asyncio.gather(*(in_postgres.holds() for _ in range(20))) == [[("city", "Oslo")]] * 20


async def test_a_learner_that_waits_for_a_deletion_to_be_written_sees_it(in_postgres: Minded, clean: str) -> None:
    with psycopg.connect(clean, autocommit=True) as deleting:
        deleting.execute("BEGIN")
        deleting.execute("SELECT pg_advisory_xact_lock(hashtextextended('farthing.erasures', 0))")
        learning = asyncio.create_task(in_postgres.learn(fact(in_postgres, "city", "Oslo")))
        with psycopg.connect(clean, autocommit=True) as looking:
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while looking.execute(waits).fetchone() != (1,):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        deleting.execute("INSERT INTO farthing.erasures VALUES ('acme', 'facts', 'ann', %s)", (in_postgres.clock.now,))
        deleting.execute("COMMIT")
    assert (await learning).facts == ()
    assert await in_postgres.history() == []


async def test_a_database_that_is_away_is_unavailable(tmp_path: object) -> None:
    database, clock = Database(f"postgresql:///x?host={tmp_path}", wait_s=0.2), Clock()
    await database.open()
    minded = Minded(store=PostgresFacts(database, clock=clock), clock=clock)
    try:
        for call in (
            minded.learn(fact(minded, "city", "Oslo")),
            minded.holds(),
            minded.history(),
            minded.store.retract("acme", "ann", new_id(), by="person:k"),
            minded.store.forget("acme", None),
            minded.store.prune(max_history=1),
        ):
            with pytest.raises(Unavailable):
                await call
    finally:
        await database.close()
