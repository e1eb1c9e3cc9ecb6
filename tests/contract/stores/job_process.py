"""A process that does jobs until it is killed: `python job_process.py URL FILE`. Each item begun is a line in the file."""

from __future__ import annotations

import asyncio
import os
import sys

from farthing.jobs.engine import Engine
from farthing.jobs.kind import Kind
from farthing.postgres.jobs import PostgresJobs
from farthing.postgres.pool import Database
from farthing.settings import JobSettings
from farthing.types import Item, Json


async def main(url: str, path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def work(item: Item) -> Json:
        os.write(log, f"{item.key} {item.attempt}\n".encode())
        await asyncio.sleep(0.01)
        return {"by": os.getpid(), "attempt": item.attempt}

    database = Database(url)
    await database.open()
    settings = JobSettings(lease_s=1, poll_s=0.1, concurrency=6)
    await Engine(PostgresJobs(database, lease_s=settings.lease_s), [Kind(name="k", handle=work)], settings).run()


asyncio.run(main(*sys.argv[1:]))
