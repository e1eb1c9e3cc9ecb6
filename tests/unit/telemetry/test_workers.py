from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from farthing.telemetry import files
from farthing.telemetry.instruments import LAYOUT
from farthing.telemetry.metrics import Metrics
from farthing.types import LedgerEntry, Request

from .conftest import MakeEntry, MakeRequest
from .test_metrics import scrape, value

Seen = tuple[LedgerEntry, Request]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seen(make_request: MakeRequest, make_entry: MakeEntry) -> Seen:
    request = make_request()
    return make_entry(request), request


def path_of(directory: Path, worker: str) -> Path:
    return directory / f"metrics-{worker}.json"


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("metrics-*.json"))


def a_dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def died(path: Path) -> None:
    """Make a file say that the process that wrote it is gone."""
    snapshot = msgspec.json.decode(path.read_bytes(), type=files.Snapshot)
    files.write(path, msgspec.structs.replace(snapshot, pid=a_dead_pid()))


def test_any_worker_answers_for_all(tmp_path: Path, seen: Seen) -> None:
    one, two = Metrics("1"), Metrics("2")
    for _ in range(3):
        one.observe(*seen)
    two.observe(*seen)
    for metrics, name in ((one, "1"), (two, "2")):
        metrics.gauge("farthing.cache.entries", "Entries.", lambda: 5)
        metrics.gauge("farthing.ledger.store_away", "Away.", lambda: 1, merge="max")
        metrics.save(path_of(tmp_path, name))
    one.observe(*seen)  # its own live state counts, not its file
    samples = scrape(one, tmp_path)
    assert value(samples, "farthing_requests_total") == 5
    assert value(samples, "farthing_cache_entries") == 10
    assert value(samples, "farthing_ledger_store_away") == 1
    assert value(samples, "farthing_workers") == 2
    assert value(scrape(two, tmp_path), "farthing_requests_total") == 4


def test_counters_of_a_dead_worker_stay_and_its_gauges_go(tmp_path: Path, seen: Seen) -> None:
    clock = Clock()
    one, two = Metrics("1", clock=clock), Metrics("2", clock=clock)
    two.observe(*seen)
    two.gauge("farthing.cache.entries", "Entries.", lambda: 5)
    two.counter("farthing.ledger.dropped", "Dropped.", lambda: 7)
    two.save(path_of(tmp_path, "2"))
    assert value(scrape(one, tmp_path), "farthing_cache_entries") == 5
    clock.now += 10.5
    samples = scrape(one, tmp_path)
    assert value(samples, "farthing_requests_total") == 1
    assert value(samples, "farthing_ledger_dropped_total") == 7
    assert not [sample for sample in samples if sample.name == "farthing_cache_entries"]
    assert value(samples, "farthing_workers") == 1


async def has_saved(metrics: Metrics, path: Path) -> None:
    for _ in range(1000):
        if metrics.snapshot().identity in [one.identity for one in files.read_all(path.parent, LAYOUT)]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the worker never wrote its file")


async def run_once(metrics: Metrics, path: Path) -> None:
    task = asyncio.create_task(metrics.run(path, 0.01))
    await has_saved(metrics, path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_worker_that_starts_under_the_name_of_a_dead_one_takes_over_its_counts(tmp_path: Path, seen: Seen) -> None:
    clock = Clock()
    first = Metrics("1", clock=clock)
    first.observe(*seen)
    first.save(path_of(tmp_path, "1"))
    for life in range(2, 5):
        clock.now += 1
        successor = Metrics("1", clock=clock)
        await run_once(successor, path_of(tmp_path, "1"))
        assert value(scrape(successor, tmp_path), "farthing_requests_total") == life - 1
        successor.observe(*seen)
        successor.save(path_of(tmp_path, "1"))
    assert names_in(tmp_path) == ["metrics-1.json", "metrics-retired.json"]


async def test_files_of_dead_workers_are_put_together(tmp_path: Path, seen: Seen) -> None:
    clock = Clock()
    for name in "abcdefgh":
        gone = Metrics(name, clock=clock)
        gone.observe(*seen)
        gone.counter("farthing.ledger.dropped", "Dropped.", lambda: 2)
        gone.save(path_of(tmp_path, name))
        died(path_of(tmp_path, name))
    clock.now += 60
    here = Metrics("z", clock=clock)
    await run_once(here, path_of(tmp_path, "z"))
    assert names_in(tmp_path) == ["metrics-retired.json", "metrics-z.json"]
    samples = scrape(here, tmp_path)
    assert value(samples, "farthing_requests_total") == 8
    assert value(samples, "farthing_ledger_dropped_total") == 16


async def test_a_worker_that_lives_is_not_retired_even_when_it_was_stopped_for_long(tmp_path: Path, seen: Seen) -> None:
    clock = Clock()
    slow = Metrics("slow", clock=clock)
    slow.observe(*seen)
    slow.save(path_of(tmp_path, "slow"))  # its process is this one, which lives
    clock.now += 3600
    here = Metrics("z", clock=clock)
    await run_once(here, path_of(tmp_path, "z"))
    assert "metrics-slow.json" in names_in(tmp_path)
    assert value(scrape(here, tmp_path), "farthing_requests_total") == 1


async def test_a_crash_between_sum_and_deletion_counts_nobody_twice(tmp_path: Path, seen: Seen) -> None:
    clock = Clock()
    gone = Metrics("a", clock=clock)
    gone.observe(*seen)
    gone.save(path_of(tmp_path, "a"))
    died(path_of(tmp_path, "a"))
    left_over = path_of(tmp_path, "a").read_bytes()
    clock.now += 60
    here = Metrics("z", clock=clock)
    await run_once(here, path_of(tmp_path, "z"))
    path_of(tmp_path, "a").write_bytes(left_over)
    assert value(scrape(here, tmp_path), "farthing_requests_total") == 1
    again = Metrics("y", clock=clock)
    await run_once(again, path_of(tmp_path, "y"))
    assert "metrics-a.json" not in names_in(tmp_path)
    assert value(scrape(again, tmp_path), "farthing_requests_total") == 1


async def test_a_worker_that_stops_leaves_its_counts_and_no_gauges(tmp_path: Path, seen: Seen) -> None:
    stopping = Metrics("1")
    stopping.gauge("farthing.cache.entries", "Entries.", lambda: 5)
    task = asyncio.create_task(stopping.run(path_of(tmp_path, "1"), 60))
    await has_saved(stopping, path_of(tmp_path, "1"))
    stopping.observe(*seen)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    samples = scrape(Metrics("2"), tmp_path)
    assert value(samples, "farthing_requests_total") == 1
    assert not [sample for sample in samples if sample.name == "farthing_cache_entries"]


async def test_workers_that_start_together_lose_no_predecessor(tmp_path: Path, seen: Seen) -> None:
    clock = Clock()
    for name in "1234":
        gone = Metrics(name, clock=clock)
        gone.observe(*seen)
        gone.save(path_of(tmp_path, name))
    clock.now += 1
    successors = [Metrics(name, clock=clock) for name in "1234"]
    await asyncio.gather(*(run_once(one, path_of(tmp_path, name)) for one, name in zip(successors, "1234", strict=True)))
    assert value(scrape(successors[0], tmp_path), "farthing_requests_total") == 4


def test_files_that_are_broken_or_of_another_layout_are_not_read(tmp_path: Path, seen: Seen) -> None:
    here = Metrics("1")
    here.observe(*seen)
    here.save(path_of(tmp_path, "1"))
    other = msgspec.json.decode(path_of(tmp_path, "1").read_bytes())
    path_of(tmp_path, "2").write_bytes(msgspec.json.encode({**other, "worker": "2", "layout": "0.1"}))
    path_of(tmp_path, "3").write_bytes(path_of(tmp_path, "1").read_bytes()[:100])
    path_of(tmp_path, "4").write_bytes(b"\xff\x00")
    assert value(scrape(here, tmp_path), "farthing_requests_total") == 1


async def test_a_folder_that_cannot_be_written_costs_one_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").write_text("a file, not a folder")
    task = asyncio.create_task(Metrics("1").run(tmp_path / "run" / "metrics-1.json", 0.01))
    await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sum("metrics cannot be written" in record.message for record in caplog.records) == 1
