"""How long Farthing takes to import and to be ready."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from gateways import farthing

IMPORT = "import time; t = time.perf_counter(); import farthing; print(time.perf_counter() - t)"


def import_ms(runs: int = 5) -> float:
    """Median milliseconds of `import farthing` in a fresh interpreter."""
    times = [float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True).stdout) for _ in range(runs)]
    return round(statistics.median(times) * 1e3, 1)


def ready_s(work: Path, upstream: str, workers: int, *, local: bool, runs: int = 3) -> float:
    """Median seconds from the start of `farthing up` to a 200 on /readyz, on a database that is there already."""
    times = []
    for _ in range(runs):
        server = farthing(work, upstream, workers, local=local).server
        times.append(server.start())
        server.stop()
    return round(statistics.median(times), 2)
