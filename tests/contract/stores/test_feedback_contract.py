"""Both adapters of the feedback store, and what only the database can show."""

from collections.abc import Sequence

import psycopg
import pytest

from farthing.errors import Unavailable
from farthing.events.telling import TellingFeedback
from farthing.inprocess.feedback import InProcessFeedback
from farthing.postgres.connection import Connection
from farthing.postgres.feedback import PostgresFeedback
from farthing.postgres.pool import Database
from farthing.testing.feedback import FeedbackStoreContract, Said, feedback
from farthing.testing.stores import Clock
from farthing.types import Event


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.feedback")
    return url


@pytest.fixture(params=["inprocess", "postgres", "telling"])
def said(request: pytest.FixtureRequest) -> Said:
    clock, told = Clock(), list[Event]()

    async def all_told() -> Sequence[Event]:
        return told

    if request.param == "inprocess":
        return Said(store=InProcessFeedback(told.append, clock=clock), clock=clock, told=all_told)

    if request.param == "telling":
        return Said(store=TellingFeedback(InProcessFeedback(clock=clock), told.append), clock=clock, told=all_told)

    async def append(_: Connection, events: Sequence[Event]) -> None:
        told.extend(events)

    request.getfixturevalue("clean")
    return Said(store=PostgresFeedback(request.getfixturevalue("database"), append=append, clock=clock), clock=clock, told=all_told)


class TestFeedback(FeedbackStoreContract):
    pass


@pytest.mark.usefixtures("clean")
async def test_what_cannot_be_told_is_not_stored(database: Database) -> None:
    async def append(connection: Connection, events: Sequence[Event]) -> None:
        await connection.execute(b"SELECT 1 / 0", ())
        del events

    with pytest.raises(Exception, match="zero"):
        await PostgresFeedback(database, append=append).add(feedback(1, Clock()))
    assert await PostgresFeedback(database).latest(tenant=None, limit=1) == []


async def test_a_database_that_is_away_is_unavailable(tmp_path: object) -> None:
    database, clock = Database(f"postgresql:///x?host={tmp_path}", wait_s=0.2), Clock()
    await database.open()
    store = PostgresFeedback(database)
    try:
        for call in (store.add(feedback(1, clock)), store.latest(tenant=None, limit=1), store.forget("acme", None), store.prune(1)):
            with pytest.raises(Unavailable):
                await call
    finally:
        await database.close()
