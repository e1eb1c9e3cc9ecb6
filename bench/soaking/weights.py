"""What the workers weigh: memory over time with its slope, and open files."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

from farthing.testing.installation import Installation

_EVERY_S = 0.5
_YOUNG_S = 30.0
"""Before, a worker's caches and pools fill. Of its life after that, the second half counts."""
_LEAST_SAMPLES = 120
_BLOCKS = 8
SURE = 3.707
"""Student's t for 7 steps and 99.5 %, one-sided: of 200 workers that do not grow, one is said to."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Weights:
    """Samples every worker that lives, until cancelled."""

    def __init__(self, farthing: Installation) -> None:
        self._farthing = farthing
        self.samples: dict[int, list[tuple[float, float, int]]] = {}
        """By process: (seconds, resident megabytes, open files)."""

    async def run(self) -> None:
        while True:
            for pid in await asyncio.to_thread(self._farthing.worker_pids):
                if (found := _weigh(pid)) is not None:
                    self.samples.setdefault(pid, []).append((time.monotonic(), *found))
            await asyncio.sleep(_EVERY_S)

    def files(self, at: float) -> dict[int, int]:
        """Open files of the workers that lived at a time, by the last look before it."""
        found = {}
        for pid, samples in self.samples.items():
            before = [sample for sample in samples if sample[0] <= at]
            if before and samples[-1][0] >= at - 2 * _EVERY_S:
                found[pid] = before[-1][2]
        return found

    def slopes(self) -> list[dict[str, Any]]:
        """For each worker that lived long enough after its youth."""
        rows = []
        for pid, samples in self.samples.items():
            grown = [(at, megabytes) for at, megabytes, _ in samples if at >= samples[0][0] + _YOUNG_S]
            if len(grown) >= _LEAST_SAMPLES:
                late = grown[len(grown) // 2 :]
                slope, error = drift(late)
                rows.append(
                    {
                        "pid": pid,
                        "seconds": round(late[-1][0] - late[0][0]),
                        "at_30_s_mb": round(grown[0][1], 1),
                        "first_mb": round(late[0][1], 1),
                        "last_mb": round(late[-1][1], 1),
                        "mb_per_minute": round(slope * 60, 3),
                        "standard_error": round(error * 60, 3),
                        "within_noise": slope <= SURE * error,
                    }
                )
        return rows


def drift(points: list[tuple[float, float]]) -> tuple[float, float]:
    """How fast it goes up on the whole, and the standard error of that.

    Neighbouring samples of a memory are not independent: it stays where it was, and now and then makes a step. So not the samples count
    but the steps between the medians of eight equal parts, and growth is what those have in common beyond their scatter.
    """
    size = len(points) // _BLOCKS
    blocks = [points[size * at : size * (at + 1)] for at in range(_BLOCKS)]
    medians = [statistics.median(megabytes for _, megabytes in block) for block in blocks]
    steps = [later - earlier for earlier, later in itertools.pairwise(medians)]
    seconds = blocks[1][0][0] - blocks[0][0][0]
    return statistics.mean(steps) / seconds, statistics.stdev(steps) / math.sqrt(len(steps)) / seconds


def _weigh(pid: int) -> tuple[float, int] | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * _PAGE / 2**20, len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - a number of names
    except (OSError, IndexError):
        return None
