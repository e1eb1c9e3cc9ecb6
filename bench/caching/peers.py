"""GPTCache and RedisVL's SemanticCache on the same vectors, where `bench/peers.sh gptcache redisvl` has installed them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caching.questions import Crowd
from farthing.testing.redis import RedisServer

BENCH = Path(__file__).parents[1]
NAMES = ("gptcache", "redisvl")


def measured(name: str, size: int, searches: int, around: NDArray[np.float32]) -> dict[str, Any] | None:
    """What `bench/peers/semantic_cache.py` found; None, and a word on stderr, where the peer is not installed."""
    python = BENCH / ".peers" / name / "bin" / "python"
    if not python.exists():
        print(f"{name} is not installed (bench/peers.sh {name}): skipped", file=sys.stderr)
        return None
    crowd = Crowd(around)
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as folder:
        vectors = crowd.more(size)
        sample = np.random.default_rng(3).integers(0, size, searches)
        for part, rows in (("vectors", vectors), ("near", crowd.near(vectors[sample])), ("far", crowd.more(searches))):
            np.save(Path(folder) / f"{part}.npy", rows)
        command = [str(python), str(BENCH / "peers" / "semantic_cache.py"), name, folder]
        if name != "redisvl":
            return _run(command)
        server = RedisServer(Path(folder))
        server.start()
        try:
            return _run([*command, server.url])
        finally:
            server.kill()


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row
