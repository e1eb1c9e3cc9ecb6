"""How many events a second the bus stores, durably, and how soon they are handled; beside one pgqueuer job for each event.

    python bench/events.py [--seconds 3] [--events 10000] [--callers 64]

Prints one JSON line; rates are events a second, times milliseconds. On a PostgreSQL of its own, with the settings of the embedded one.
`stored`: so many callers each publish batches of 1, 10 and 100 through the publisher that gathers what comes at the same time, as the
gateway does; `alone` is the same without gathering. `handled`: a backlog in 500 lanes worked off by one process, with `concurrency` as
set by default. `lag`: from the call that publishes to the handler, at 500 events a second that come one by one.
`pgqueuer`: the same events as jobs, put in batches of 100, taken 16 at a time, as our dispatcher takes them, and told to be done together;
`overlapped` counts those, of 20 lanes, that began while an earlier one of their lane was under way; ours never do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.ports.repository import EntrypointExecutionParameter

from farthing.events.dispatcher import Dispatcher
from farthing.events.handler import Handler
from farthing.events.publisher import EventPublisher
from farthing.events.roster import Roster
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.embedded import EmbeddedPostgres
from farthing.postgres.events import PostgresEvents
from farthing.postgres.migrate import migrate
from farthing.postgres.pool import Database
from farthing.settings import EventSettings
from farthing.types import Event, Subscription, utc_now

LANES = 500
RATE = 500
CHUNK = 16
DATA = {"page": "/pricing", "ms": 1234, "title": "What it costs", "session": "0b6f9a1c"}
Publish = Callable[[Sequence[Event]], Awaitable[object]]


def event(number: int) -> Event:
    """Something that a user did on a page."""
    user, now = f"u{number % LANES}", utc_now()
    return Event(
        id=uuid4().hex, source="/shop", type="page.viewed", tenant="acme", subject=user, user=user, time=now, data=DATA, received_at=now
    )


async def storing(publish: Publish, batch: int, callers: int, seconds: float) -> dict[str, float]:
    """Rate, and how long a call takes."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def call(number: int) -> None:
        while (began := time.perf_counter()) < until:
            await publish([event(number + len(times) + at) for at in range(batch)])
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*map(call, range(callers)))
    return {"per_s": round(len(times) * batch / (time.perf_counter() - began)), **_percentiles(times)}


async def _listen(url: str, dispatcher: Dispatcher) -> None:
    async for channel, payload in PostgresChanges(url).watch():
        if channel == "events":
            dispatcher.heard(payload)


class Ear:
    """Hears of all events, and notes when."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self.heard = 0

    async def __call__(self, events: Sequence[Event]) -> None:
        now = time.time()
        self.heard += len(events)
        self.lags += [now - one.received_at.timestamp() for one in events]


async def handling(url: str, bus: PostgresEvents, roster: Roster, ear: Ear, work: Callable[[], Awaitable[int]]) -> float:
    """Seconds until all that `work` publishes is handled."""
    handler = Handler(subscription=Subscription(handler="hear", types=("*",)), handle=ear)
    dispatcher = Dispatcher(bus, roster, [handler], EventSettings(), rng=random.Random(1))  # noqa: S311 - nothing secret
    running = asyncio.gather(dispatcher.run(), _listen(url, dispatcher))
    began = time.perf_counter()
    try:
        wanted = ear.heard + await work()
        while ear.heard < wanted:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
        return time.perf_counter() - began
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await dispatcher.drain()


async def ours(url: str, given: argparse.Namespace) -> dict[str, Any]:
    """What our bus does."""
    database = Database(url, max_size=4, max_waiting=10_000, wait_s=60)
    await database.open()
    bus = PostgresEvents(database)
    nobody = Roster(bus, [])
    publisher = EventPublisher(bus, nobody, max_batch=500, max_pending=1_000_000)
    found: dict[str, Any] = {"stored": {}, "alone": {}}
    for batch in (1, 10, 100):
        found["stored"][str(batch)] = await storing(publisher.publish, batch, given.callers, given.seconds)
        found["alone"][str(batch)] = await storing(bus.publish, batch, given.callers, given.seconds)
    roster = Roster(bus, [Subscription(handler="hear", types=("*",))])
    await roster.make_known()
    publisher = EventPublisher(bus, roster, max_batch=500, max_pending=1_000_000)
    found["stored_and_delivered"] = await storing(publisher.publish, 1, given.callers, given.seconds)
    waiting = (await bus.backlog())[0].waiting
    for _ in range(max(0, given.events - waiting) // 500):
        await bus.publish([event(at) for at in range(500)])
    ear = Ear()

    async def backlog() -> int:
        return int((await bus.backlog())[0].waiting)

    waiting = await backlog()
    found["handled"] = {"events": waiting, "per_s": round(waiting / await handling(url, bus, roster, ear, backlog))}
    ear.lags.clear()

    async def steady() -> int:
        tasks = []
        number = round(RATE * float(given.seconds) * 2)
        for at in range(number):
            tasks.append(asyncio.create_task(publisher.publish([event(at)])))
            await asyncio.sleep(max(0.0, began + at / RATE - time.perf_counter()))
        await asyncio.gather(*tasks)
        return int(number)

    began = time.perf_counter()
    await handling(url, bus, roster, ear, steady)
    found["lag"] = {"per_s": RATE, **_percentiles(ear.lags)}
    await database.close()
    return found


async def theirs(url: str, given: argparse.Namespace) -> dict[str, Any]:
    """One job of pgqueuer's for each event."""
    connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(2)]
    takers = [Queries(PsycopgDriver(connection)) for connection in connections]
    await takers[0].install()
    began = time.perf_counter()
    for start in range(0, given.events, 100):
        some = [json.dumps({"n": start + at, **DATA}).encode() for at in range(100)]
        await takers[0].enqueue(["hear"] * 100, list(some), [0] * 100)
    put = time.perf_counter() - began
    handled, overlapped = 0, 0
    under_way: set[int] = set()
    wanted: dict[Any, EntrypointExecutionParameter] = {"hear": EntrypointExecutionParameter(concurrency_limit=0)}

    async def take(queries: Queries) -> None:
        nonlocal handled, overlapped
        while jobs := await queries.dequeue(CHUNK, wanted, uuid4(), None, timedelta(seconds=30)):  # type: ignore[arg-type]  # their name for a UUID
            lanes = [json.loads(job.payload or b"{}")["n"] % 20 for job in jobs]
            overlapped += sum(lane in under_way for lane in lanes)
            under_way.update(lanes)
            await asyncio.sleep(random.random() / 100)  # noqa: S311 - what handlers take differs
            await queries.log_jobs([(job, "successful", None) for job in jobs])
            under_way.difference_update(lanes)
            handled += len(jobs)

    began = time.perf_counter()
    await asyncio.gather(*map(take, takers))
    took = time.perf_counter() - began
    for connection in connections:
        await connection.close()
    return {"stored_per_s": round(given.events / put), "handled_per_s": round(handled / took), "overlapped": overlapped}


def _percentiles(times: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": round(statistics.median(ordered) * 1e3, 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1e3, 2),
        "max_ms": round(ordered[-1] * 1e3, 2),
    }


async def run(given: argparse.Namespace) -> dict[str, Any]:
    """All of it, on a server that is there for this alone."""
    with tempfile.TemporaryDirectory(prefix="farthing-bench-", dir="/tmp") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        await server.start()
        try:
            await migrate(server.uri)
            found = await ours(server.uri, given)
            found["pgqueuer"] = await theirs(server.uri, given)
        finally:
            await server.stop()
    reached = {"stored_per_s": found["stored"]["1"]["per_s"] >= 3000, "lag": found["lag"]["max_ms"] <= 1000}
    return {"bench": "events", "cpus": os.cpu_count(), "load": os.getloadavg()[0], "callers": given.callers, **found, "reached": reached}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=64)
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
