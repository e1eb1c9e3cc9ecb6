"""Both adapters of the routers' and the outcomes' store, and what only the database can show."""

import psycopg
import pytest

from farthing.errors import Unavailable
from farthing.inprocess.routers import InProcessOutcomes, InProcessRouters
from farthing.inprocess.stores import InProcessChanges
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.outcomes import PostgresOutcomes
from farthing.postgres.pool import Database
from farthing.postgres.routers import PostgresRouters
from farthing.testing.routers import OutcomeStoreContract, Routed, RouterStoreContract, outcome
from farthing.testing.stores import Clock


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.routers, farthing.router_promotions, farthing.outcomes")
    return url


@pytest.fixture(params=["inprocess", "postgres"])
def routed(request: pytest.FixtureRequest) -> Routed:
    clock = Clock()
    if request.param == "postgres":
        url, database = request.getfixturevalue("clean"), request.getfixturevalue("database")
        return Routed(
            routers=PostgresRouters(database, clock=clock),
            outcomes=PostgresOutcomes(database, clock=clock),
            changes=PostgresChanges(url),
            clock=clock,
        )
    changes = InProcessChanges()
    return Routed(routers=InProcessRouters(changes, clock=clock), outcomes=InProcessOutcomes(clock=clock), changes=changes, clock=clock)


class TestRouters(RouterStoreContract):
    pass


class TestOutcomes(OutcomeStoreContract):
    pass


@pytest.mark.usefixtures("clean")
async def test_no_tenant_sees_anothers_outcomes_or_any_router(database: Database) -> None:
    clock = Clock()
    await PostgresOutcomes(database, clock=clock).add([outcome(1, clock)])
    routers = PostgresRouters(database, clock=clock)
    await routers.add("auto", b"x", {}, "ann")
    await routers.promote("auto", 1, "ann")
    for tenant, seen in (("acme", 1), ("rival", 0)):
        async with database.tenant(tenant) as connection:
            row = await (await connection.execute(b"SELECT count(*) FROM farthing.outcomes")).fetchone()
            assert row == (seen,)
        for table in (b"farthing.routers", b"farthing.router_promotions"):
            with pytest.raises(Unavailable):
                async with database.tenant(tenant) as connection:
                    await connection.execute(b"SELECT count(*) FROM " + table)


async def test_a_database_that_is_away_is_unavailable(tmp_path: object) -> None:
    database, clock = Database(f"postgresql:///x?host={tmp_path}", wait_s=0.2), Clock()
    await database.open()
    routers, outcomes = PostgresRouters(database), PostgresOutcomes(database)
    try:
        for call in (
            routers.add("auto", b"x", {}, "ann"),
            routers.versions(),
            routers.promoted("auto"),
            routers.promote("auto", None, "ann"),
            outcomes.add([outcome(1, clock)]),
            outcomes.latest(router=None, tenant=None, limit=1),
            outcomes.forget("acme", None),
            outcomes.prune(1),
        ):
            with pytest.raises(Unavailable):
                await call
    finally:
        await database.close()
