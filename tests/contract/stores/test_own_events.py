"""What the stores tell the bus of their own changes: in the same transaction, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import psycopg
import pytest

from farthing.budgets import settings_budget
from farthing.errors import Conflict, Unavailable
from farthing.events.telling import TellingConfig
from farthing.inprocess.config import InProcessConfig
from farthing.inprocess.stores import InProcessChanges
from farthing.postgres.budgets import PostgresBudgets
from farthing.postgres.config import PostgresConfig
from farthing.postgres.connection import Connection
from farthing.postgres.events import PostgresEvents
from farthing.postgres.pool import Database
from farthing.types import INSTALLATION, Event, utc_now


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.events, farthing.config, farthing.config_history")
    return url


async def told(database: Database) -> list[Event]:
    return await PostgresEvents(database).tail(tenant=None, after=-1, limit=100)


async def full(_: Connection, events: Sequence[Event]) -> None:
    del events
    raise Unavailable("the outbox is full")


@pytest.mark.usefixtures("clean")
async def test_a_document_and_what_is_told_of_it_are_one(database: Database) -> None:
    store = PostgresConfig(database)
    await store.write("modes", {"total": "DEEP"}, expect=None, by="ann", reason="a test")
    await store.write("other", {}, expect=None, by="ann", reason="")
    with pytest.raises(Conflict):
        await store.write("modes", {"total": "SHALLOW"}, expect=7, by="ann", reason="")
    with pytest.raises(Unavailable):
        await PostgresConfig(database, append=full).write("modes", {"total": "SHALLOW"}, expect=1, by="ann", reason="")
    assert [one.version for one in await store.history("modes", 10)] == [1]
    mode, other = await told(database)
    assert (mode.type, mode.id, mode.tenant, mode.subject) == ("farthing.mode.changed", "modes:1", INSTALLATION, "modes")
    assert mode.data == {"document": "modes", "version": 1, "by": "ann", "reason": "a test", "body": {"total": "DEEP"}}
    assert other.type == "farthing.config.changed"


@pytest.mark.usefixtures("clean")
async def test_a_budget_and_what_is_told_of_it_are_one(database: Database) -> None:
    budget = settings_budget("tenant", "acme", "5/day", utc_now() - timedelta(days=1))
    with pytest.raises(Unavailable):
        await PostgresBudgets(database, append=full).put(budget)
    store = PostgresBudgets(database)
    assert await store.all(10) == []
    await store.put(budget)
    assert await store.delete(budget.id)
    assert not await store.delete(budget.id)
    changed, deleted = await told(database)
    assert (changed.type, changed.tenant, changed.subject) == ("farthing.budget.changed", "acme", str(budget.id))
    assert changed.data["limit_microusd"] == 5_000_000
    assert (deleted.type, deleted.tenant, deleted.data) == ("farthing.budget.deleted", "acme", {"id": str(budget.id)})


@pytest.mark.usefixtures("clean")
async def test_where_the_bus_is_elsewhere_nothing_is_left_in_the_outbox(database: Database) -> None:
    await PostgresConfig(database, append=None).write("modes", {}, expect=None, by="ann", reason="")
    await PostgresBudgets(database, append=None).put(settings_budget("tenant", "acme", "5/day", utc_now()))
    assert await told(database) == []


async def test_a_store_without_an_outbox_tells_of_what_was_written_and_of_nothing_else() -> None:
    heard = list[Event]()
    store = TellingConfig(InProcessConfig(InProcessChanges()), heard.append)
    written = await store.write("modes", {"total": "DEEP"}, expect=0, by="ann", reason="a test")
    with pytest.raises(Conflict):
        await store.write("modes", {}, expect=0, by="ann", reason="")
    assert await store.read("modes") == written
    assert await store.history("modes", 5) == [written]
    (event,) = heard
    assert (event.type, event.data["version"], event.time) == ("farthing.mode.changed", 1, written.at)
