from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from farthing.telemetry.metrics import Metrics

WORKER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from otlp_receiver import a_request, an_entry
from farthing.telemetry.metrics import Metrics
async def main():
    metrics = Metrics(sys.argv[3])
    metrics.gauge("farthing.cache.entries", "Entries.", lambda: 5)
    request = a_request()
    for _ in range(10):
        metrics.observe(an_entry(request), request)
    await metrics.run(Path(sys.argv[2]) / f"metrics-{sys.argv[3]}.json", 0.05)
asyncio.run(main())
"""


async def start(directory: Path, name: str) -> asyncio.subprocess.Process:
    here = str(Path(__file__).parent)
    return await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, here, str(directory), name)


def total(metrics: Metrics, directory: Path, name: str) -> float:
    families = text_string_to_metric_families(metrics.exposition(directory).decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


async def reaches(metrics: Metrics, directory: Path, name: str, wanted: float) -> None:
    found = -1.0
    for _ in range(1500):
        found = total(metrics, directory, name)
        if found == wanted:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{name} is {found}, not {wanted}")


async def test_kill_9_of_a_worker_and_its_successor_never_let_a_sum_fall(tmp_path: Path) -> None:
    here = Metrics("here")
    processes = [await start(tmp_path, "1"), await start(tmp_path, "2")]
    try:
        await reaches(here, tmp_path, "farthing_requests_total", 20)
        assert total(here, tmp_path, "farthing_cache_entries") == 10
        processes[0].send_signal(signal.SIGKILL)
        await processes[0].wait()
        assert total(here, tmp_path, "farthing_requests_total") == 20
        processes.append(await start(tmp_path, "1"))
        await reaches(here, tmp_path, "farthing_requests_total", 30)
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
