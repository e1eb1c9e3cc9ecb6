"""Both adapters of what reading facts remembers, and what only the database can show."""

import psycopg
import pytest

from farthing.errors import Unavailable
from farthing.inprocess.extraction import InProcessReadings, InProcessSightings
from farthing.postgres.pool import Database
from farthing.postgres.readings import PostgresReadings
from farthing.postgres.sightings import PostgresSightings
from farthing.testing.extraction import Noted, ReadingStoreContract, SightingStoreContract, happened, sighting
from farthing.testing.stores import Clock
from farthing.types import Allowance


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.memory_sightings, farthing.memory_read, farthing.memory_spend")
    return url


@pytest.fixture(params=["inprocess", "postgres"])
def noted(request: pytest.FixtureRequest) -> Noted:
    clock = Clock()
    if request.param == "inprocess":
        return Noted(sightings=InProcessSightings(clock=clock), readings=InProcessReadings(clock=clock), clock=clock)
    request.getfixturevalue("clean")
    database = request.getfixturevalue("database")
    return Noted(sightings=PostgresSightings(database, clock=clock), readings=PostgresReadings(database, clock=clock), clock=clock)


class TestSightings(SightingStoreContract):
    pass


class TestReadings(ReadingStoreContract):
    pass


async def test_a_database_that_is_away_is_unavailable(tmp_path: object) -> None:
    database, clock = Database(f"postgresql:///x?host={tmp_path}", wait_s=0.2), Clock()
    await database.open()
    noted = Noted(sightings=PostgresSightings(database, clock=clock), readings=PostgresReadings(database, clock=clock), clock=clock)
    event, day = happened(noted, 1), clock.now.date()
    allowance = Allowance(user_microusd=1, tenant_microusd=1, user_calls=1)
    try:
        for call in (
            noted.sightings.see(sighting(noted, 1), within_s=1, most=1),
            noted.sightings.forget("acme", None),
            noted.sightings.prune(clock.now, max_rows=1),
            noted.readings.unread("acme", "ann", [event]),
            noted.readings.reserve("acme", "ann", day, 1, allowance),
            noted.readings.settle("acme", "ann", day, reserved=1, spent=0),
            noted.readings.read("acme", "ann", [event]),
            noted.readings.forget("acme", None),
            noted.readings.prune(clock.now),
        ):
            with pytest.raises(Unavailable):
                await call
    finally:
        await database.close()
