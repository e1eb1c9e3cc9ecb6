"""Both adapters of the jobs' store, and what only the database can show."""

import psycopg
import pytest

from farthing.inprocess.jobs import InProcessJobs
from farthing.inprocess.stores import InProcessChanges
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.jobs import PostgresJobs
from farthing.testing.jobs import Jobbed, JobStoreContract
from farthing.testing.stores import Clock

_LEASE_S = 0.4


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.runs, farthing.items, farthing.schedules, farthing.pgqueuer, farthing.pgqueuer_log")
    return url


@pytest.fixture(params=["inprocess", "postgres"])
def jobbed(request: pytest.FixtureRequest) -> Jobbed:
    clock = Clock()
    if request.param == "inprocess":
        news = InProcessChanges()
        store = InProcessJobs(news, lease_s=_LEASE_S, clock=clock)
        return Jobbed(store=store, other=store, changes=news, clock=clock, lease_s=_LEASE_S)
    url, database = request.getfixturevalue("clean"), request.getfixturevalue("database")
    first, second = (PostgresJobs(database, lease_s=_LEASE_S, clock=clock) for _ in range(2))
    return Jobbed(store=first, other=second, changes=PostgresChanges(url), clock=clock, lease_s=_LEASE_S)


class TestJobs(JobStoreContract):
    pass
