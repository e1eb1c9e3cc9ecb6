"""What the workers weigh: memory over time with its slope, and open files."""

from __future__ import annotations

import asyncio
import math
import os
import time
from pathlib import Path
from typing import Any

from farthing.testing.installation import Installation

_EVERY_S = 0.5
_YOUNG_S = 30.0
"""A worker's memory counts from then on: before, its caches and pools fill."""
_LEAST_SAMPLES = 120
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
                slope, error = least_squares(grown)
                rows.append(
                    {
                        "pid": pid,
                        "seconds": round(grown[-1][0] - grown[0][0]),
                        "first_mb": round(grown[0][1], 1),
                        "last_mb": round(grown[-1][1], 1),
                        "mb_per_minute": round(slope * 60, 3),
                        "standard_error": round(error * 60, 3),
                    }
                )
        return rows


def least_squares(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Slope of the line through points, and its standard error. The error of neighbouring samples is not independent: it is too small."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return slope, math.sqrt(rest / max(1, n - 2) / spread)


def _weigh(pid: int) -> tuple[float, int] | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * _PAGE / 2**20, len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - a number of names
    except (OSError, IndexError):
        return None
