"""kill -9 of processes that do jobs, on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg

from farthing.jobs.starting import start
from farthing.postgres.jobs import PostgresJobs
from farthing.postgres.pool import Database
from farthing.testing.jobs import soon
from farthing.types import NewItem, NewRun, Run

_ITEMS = 160
_KILLS = 3


def _process(url: str, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(Path(__file__).with_name("job_process.py")), url, str(path)])


async def test_no_item_is_lost_and_none_ends_twice_whoever_is_killed(url: str, database: Database, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.touch()
    store = PostgresJobs(database, lease_s=1)
    new = NewRun(kind="k", tenant="acme", name="killed", wide=9, attempts=20)
    run = await start(store, new, [NewItem(key=str(n)) for n in range(_ITEMS)])
    processes = [_process(url, begun) for _ in range(2)]
    try:
        for kill in range(1, _KILLS + 1):
            some = kill * _ITEMS // (_KILLS + 2)

            async def busy(some: int = some) -> bool:
                return len(begun.read_text().splitlines()) >= some

            await soon(busy, 60)
            victim = kill % 2
            processes[victim].kill()
            processes[victim].wait()
            processes[victim] = _process(url, begun)

        async def ended() -> Run | None:
            found = await store.run(run.id)
            return found if found is not None and found.ended_at is not None else None

        found = await soon(ended, 60)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert found is not None
    assert (found.state, found.progress.done, found.progress.total) == ("done", _ITEMS, _ITEMS)
    results = await store.results(run.id, limit=_ITEMS + 1)
    assert [one.key for one in results] == [str(n) for n in range(_ITEMS)]
    # What was begun again is what a killed process had under way, and the last who did it is the one who is heard.
    times = Counter(line.split()[0] for line in begun.read_text().splitlines())
    assert set(times) == {str(n) for n in range(_ITEMS)}
    assert sum(times.values()) - _ITEMS <= _KILLS * 6
    assert all(one.result["attempt"] == one.attempts for one in results)
    assert sum(max(0, one.attempts - times[one.key]) for one in results) <= _KILLS * 6, "killed between the lease and the beginning"
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM farthing.pgqueuer").fetchone() == (0,)


async def test_who_is_killed_while_filling_a_run_goes_on_where_it_was(database: Database, url: str) -> None:
    """The process dies between two batches; the next one starts from the beginning, and nothing is there twice."""
    del url
    store = PostgresJobs(database, lease_s=1)
    new = NewRun(kind="k", tenant="acme", name="filled")
    items = [NewItem(key=str(n)) for n in range(2500)]
    dying = await store.start(new)
    await store.add(dying.id, items[:1000])
    run = await start(store, new, items)
    assert (run.id, run.state, run.progress.waiting) == (dying.id, "running", 2500)
    claimed = await store.claim(["k"], most=8)
    assert len(claimed) == 8
