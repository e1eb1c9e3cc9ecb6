"""The jobs engine on an embedded PostgreSQL: items a second that do nothing, and how soon what a killed process had is done.

python bench/jobs.py [--items 20000] [--processes 2] [--concurrency 64]: one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

from farthing.jobs.engine import Engine
from farthing.jobs.kind import Kind
from farthing.jobs.starting import start
from farthing.postgres.embedded import EmbeddedPostgres
from farthing.postgres.jobs import PostgresJobs
from farthing.postgres.migrate import migrate
from farthing.postgres.pool import Database
from farthing.settings import JobSettings
from farthing.types import Item, Json, NewItem, NewRun, Run

_LEASE_S = JobSettings().lease_s


async def _work(item: Item) -> Json:
    if item.kind == "slow":
        await asyncio.sleep(0.5 if item.attempt > 1 else 3600)  # the first one is killed over it
    return {}


async def _engine(url: str, concurrency: int) -> None:
    database = Database(url)
    await database.open()
    kinds = [Kind(name=name, handle=_work) for name in ("light", "slow")]
    await Engine(PostgresJobs(database, lease_s=_LEASE_S), kinds, JobSettings(concurrency=concurrency)).run()


def _process(url: str, concurrency: int) -> None:
    asyncio.run(_engine(url, concurrency))


async def _until(store: PostgresJobs, run: UUID, state: str) -> Run:
    while True:
        found = await store.run(run)
        assert found is not None
        if (state == "ended" and found.ended_at is not None) or (state == "running" and found.progress.running):
            return found
        await asyncio.sleep(0.05)


async def _measure(url: str, items: int, processes: int, concurrency: int) -> dict[str, float]:
    await migrate(url)
    database = Database(url)
    await database.open()
    store = PostgresJobs(database, lease_s=_LEASE_S)
    began = time.perf_counter()
    new = NewRun(kind="light", tenant="acme", name="light", wide=1000)
    run = await start(store, new, (NewItem(key=str(number), payload={"n": number}) for number in range(items)))
    filled_s = time.perf_counter() - began
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_process, args=(url, concurrency), daemon=True) for _ in range(processes)]
    for one in running:
        one.start()
    while (await store.run(run.id)).progress.done == 0:  # type: ignore[union-attr]  # noqa: ASYNC110  # it is there
        await asyncio.sleep(0.01)
    began, already = time.perf_counter(), (await store.run(run.id)).progress.done  # type: ignore[union-attr]
    ended = await _until(store, run.id, "ended")
    light_s = time.perf_counter() - began
    assert ended.progress.done == items
    slow = await start(store, NewRun(kind="slow", tenant="acme", name="slow", wide=1), [NewItem(key="a")])
    await _until(store, slow.id, "running")
    for one in running:
        os.kill(one.pid or 0, signal.SIGKILL)
    began = time.perf_counter()
    running = [context.Process(target=_process, args=(url, concurrency), daemon=True)]
    running[0].start()
    await _until(store, slow.id, "ended")
    recovered_s = time.perf_counter() - began - 0.5
    running[0].kill()
    await database.close()
    return {
        "items": items,
        "processes": processes,
        "concurrency": concurrency,
        "filled_per_s": round(items / filled_s),
        "done_per_s": round((items - already) / light_s),
        "lease_s": _LEASE_S,
        "recovered_after_kill_s": round(recovered_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=64)
    given = parser.parse_args()

    async def run() -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            server = EmbeddedPostgres(Path(folder) / "postgres")
            await server.start()
            try:
                return await _measure(server.uri, given.items, given.processes, given.concurrency)
            finally:
                await server.stop()

    sys.stdout.write(json.dumps(asyncio.run(run())) + "\n")


if __name__ == "__main__":
    main()
