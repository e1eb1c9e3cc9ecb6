"""One back end at one size, in a process of its own, so that its memory can be seen. Prints one JSON line. Run by `bench/cache.py`."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from caching.engines import ENGINES, Engine
from caching.questions import Crowd, Vectors
from farthing.inprocess.cells import distances
from farthing.types import Question, new_id

TENANT = "acme"
PARTITION = b"p" * 32
PAYLOAD = 450
BATCH = 100
CHUNK = 5000
NEAR = 0.8


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("engine", choices=ENGINES)
    arguments.add_argument("size", type=int)
    arguments.add_argument("--searches", type=int, default=1000)
    arguments.add_argument("base", type=Path, help="embeddings that the vectors are made from (.npy)")
    arguments.add_argument("--apart", action="store_true", help="each question in a partition of its own")
    print(json.dumps(asyncio.run(measure(arguments.parse_args()))))


async def measure(wanted: argparse.Namespace) -> dict[str, Any]:
    crowd = Crowd(np.load(wanted.base))
    async with ENGINES[wanted.engine](wanted.size) as engine:
        with tempfile.TemporaryFile() as file:
            vectors = np.memmap(file, np.int8, "w+", shape=(wanted.size, 384))  # outside of the memory that is measured
            for start in range(0, wanted.size, CHUNK):
                vectors[start : start + CHUNK] = crowd.more(min(CHUNK, wanted.size - start))
            _questions(vectors[:CHUNK], apart=True)
            before = _held()
            put_s, names = await _fill(engine, vectors, apart=wanted.apart)
            engine.full()
            held = engine.held_bytes() if engine.held_bytes else _held() - before
            found: dict[str, Any] = {
                "engine": wanted.engine,
                "size": wanted.size,
                "partitions": wanted.size if wanted.apart else 1,
                "put_us": round(put_s / wanted.size * 1e6, 1),
                "bytes_each": round(held / wanted.size),
            }
            if not wanted.apart:
                found |= await _searches(engine, crowd, vectors, wanted.searches)
                if wanted.engine == "inprocess":
                    found |= await _churn(engine, crowd, vectors, names, wanted.searches)
    return found


async def _fill(engine: Engine, vectors: Vectors, *, apart: bool) -> tuple[float, list[bytes]]:
    """Seconds of putting, and the questions' ids."""
    taken, names = 0.0, []
    for start in range(0, len(vectors), CHUNK):
        questions = _questions(vectors[start : start + CHUNK], apart=apart)
        for at in range(0, len(questions), BATCH):
            began = time.perf_counter()
            await engine.index.put(questions[at : at + BATCH])
            taken += time.perf_counter() - began
        names.append(b"".join(one.id.bytes for one in questions))
    return taken, names


async def _searches(engine: Engine, crowd: Crowd, vectors: Vectors, number: int) -> dict[str, Any]:
    sample = np.random.default_rng(3).integers(0, len(vectors), number)
    near, far = crowd.near(vectors[sample]), crowd.more(number)
    await _timed(engine, far[: number // 10])
    hit, found = await _timed(engine, near)
    miss, _ = await _timed(engine, far)
    return {"hit": hit, "miss": miss, "recall": _recall(near, found, vectors)}


async def _churn(engine: Engine, crowd: Crowd, vectors: Vectors, names: list[bytes], number: int) -> dict[str, Any]:
    """A third goes, as much comes, a third of the rest goes: what is left must still be found."""
    everybody = b"".join(names)
    third = range(0, len(vectors), 3)
    await engine.index.remove(TENANT, [UUID(bytes=everybody[16 * at : 16 * at + 16]) for at in third])
    for start in range(0, len(third), CHUNK):
        fresh = crowd.more(min(CHUNK, len(third) - start))
        vectors[third[start : start + CHUNK]] = fresh
        await engine.index.put(_questions(fresh, apart=False))
    sample = np.random.default_rng(4).integers(0, len(vectors), number)
    near = crowd.near(vectors[sample])
    hit, found = await _timed(engine, near)
    return {"churned": {"hit": hit, "recall": _recall(near, found, vectors)}}


async def _timed(engine: Engine, sought: Vectors) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Milliseconds (by the wall, and of this thread's own work: the machine may be busy), and the similarity of what came first."""
    times, work, found = [], [], []
    for row in sought:
        vector = row.tobytes()
        began, began_work = time.perf_counter(), time.thread_time()
        near = await engine.index.search(TENANT, PARTITION, vector, most=8)
        work.append(time.thread_time() - began_work)
        times.append(time.perf_counter() - began)
        found.append(near[0].similarity if near else -1.0)
    p50, p99 = np.quantile(times, [0.5, 0.99]) * 1e3
    own = np.quantile(work, 0.99) * 1e3
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3), "own_p99_ms": round(float(own), 3)}, np.array(found)


def _recall(sought: Vectors, found: NDArray[np.float64], vectors: Vectors) -> float:
    """Of those that have a near neighbour, for how many it, or one as near, came first."""
    best = np.full(len(sought), 2.0)
    for start in range(0, len(vectors), CHUNK):
        best = np.minimum(best, distances(sought, np.ascontiguousarray(vectors[start : start + CHUNK])).min(axis=1))
    near = best <= 1 - NEAR
    return round(float((found[near] >= 1 - best[near] - 1e-3).mean()), 4)


def _questions(vectors: Vectors, *, apart: bool) -> list[Question]:
    now = datetime.now(UTC)
    return [
        Question(
            id=new_id(),
            tenant=TENANT,
            partition=os.urandom(32) if apart else PARTITION,
            namespace="default",
            vector=row.tobytes(),
            payload=os.urandom(PAYLOAD),
            answer_key=os.urandom(32),
            request_id=new_id(),
            cost_microusd=1000,
            created_at=now,
            expires_at=now + timedelta(days=1),
        )
        for row in vectors
    ]


def _held() -> int:
    """This process's own memory, without what it could give back and without files."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
