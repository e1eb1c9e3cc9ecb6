"""How fast the semantic cache's back ends find a question, how much memory each question takes, and how often the nearest is found.

    python bench/cache.py [--sizes 1000,100000,1000000] [--engines inprocess,postgres,redis,redis-float16] [--searches 1000]

Prints a table, then one JSON line. Hits are searches for near paraphrases of what is there, misses searches for other questions; both
without the embedding. All questions are in one partition, which is the hard case; `--apart` adds partitions of one question each, for
their memory. A million questions take minutes in process, and most of an hour in PostgreSQL, which builds its graph.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from caching.questions import embedded

BASE = 5000
MEASURE = Path(__file__).parent / "caching" / "measure.py"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", default="1000,100000,1000000")
    arguments.add_argument("--engines", default="inprocess,postgres")
    arguments.add_argument("--searches", type=int, default=1000)
    arguments.add_argument("--apart", action="store_true")
    arguments.add_argument("--base", type=Path, help="keep the embeddings that vectors are made from in this file (.npy)")
    wanted = arguments.parse_args()
    sizes = [int(size) for size in wanted.sizes.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        base = wanted.base or Path(folder) / "base.npy"
        if not base.exists():
            np.save(base, asyncio.run(embedded(BASE)))
        common = [str(base), "--searches", str(wanted.searches)]
        rows = [_measure(engine, size, common) for engine in wanted.engines.split(",") for size in sizes]
        if wanted.apart:
            rows += [_measure(engine, size, [*common, "--apart"]) for engine in wanted.engines.split(",") for size in sizes]
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version(), "machine": platform.machine()}
    print(json.dumps({"bench": "cache", "machine": machine, "rows": rows}))


def _measure(engine: str, size: int, common: list[str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(MEASURE), engine, str(size), *common], stdout=subprocess.PIPE, check=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(_line(row), flush=True)
    return row


def _line(row: dict[str, Any]) -> str:
    text = f"{row['engine']:<10} {row['size']:>9,} in {row['partitions']:,}: {row['bytes_each']} bytes each, put {row['put_us']} us"
    if "hit" in row:
        text += f", hit {row['hit']['p50_ms']}/{row['hit']['p99_ms']} ms, miss {row['miss']['p50_ms']}/{row['miss']['p99_ms']} ms (p50/p99)"
        text += f", recall {row['recall']}"
    if "churned" in row:
        text += f", after churn {row['churned']['hit']['p50_ms']} ms, recall {row['churned']['recall']}"
    return text


if __name__ == "__main__":
    main()
