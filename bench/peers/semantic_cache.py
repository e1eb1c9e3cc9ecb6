"""GPTCache or RedisVL's SemanticCache on vectors from `bench/cache.py`, in an environment of its own. Prints one JSON line.

    python semantic_cache.py gptcache|redisvl FOLDER [REDIS_URL]

The folder holds `vectors.npy`, `near.npy` and `far.npy` (int8). Both are given embeddings that are there already, and answers of 450
bytes; GPTCache works with its own default for one process, SQLite and FAISS.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ANSWER = "x" * 450
Put = Callable[[int, Any], None]
Get = Callable[[str, Any], bool]


def gptcache(folder: Path, size: int) -> tuple[Put, Get]:
    from gptcache import Cache  # noqa: PLC0415  # each peer has its own environment
    from gptcache.adapter import api  # noqa: PLC0415
    from gptcache.manager import manager_factory  # noqa: PLC0415
    from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation  # noqa: PLC0415

    asked: dict[str, Any] = {}
    manager = manager_factory("sqlite,faiss", data_dir=str(folder / "gptcache"), max_size=2 * size, vector_params={"dimension": 384})
    cache = Cache()
    cache.init(
        pre_embedding_func=lambda data, **_: data["prompt"],
        embedding_func=lambda prompt, **_: asked[prompt],
        data_manager=manager,
        similarity_evaluation=SearchDistanceEvaluation(),
    )

    def put(number: int, vector: Any) -> None:
        asked[str(number)] = vector
        api.put(str(number), ANSWER, cache_obj=cache)
        asked.clear()

    def get(name: str, vector: Any) -> bool:
        asked[name] = vector
        found = api.get(name, cache_obj=cache)
        asked.clear()
        return found is not None

    return put, get


def redisvl(_folder: Path, _size: int) -> tuple[Put, Get]:
    from redisvl.extensions.cache.llm import SemanticCache  # noqa: PLC0415  # each peer has its own environment
    from redisvl.utils.vectorize import CustomVectorizer  # noqa: PLC0415

    nothing = [0.0] * 384
    cache = SemanticCache(distance_threshold=0.2, vectorizer=CustomVectorizer(embed=lambda _text: nothing), redis_url=sys.argv[3])

    def put(number: int, vector: Any) -> None:
        cache.store(prompt=str(number), response=ANSWER, vector=vector.tolist())

    def get(_name: str, vector: Any) -> bool:
        return bool(cache.check(vector=vector.tolist()))

    return put, get


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    vectors, near, far = (_unit(np.load(folder / f"{part}.npy")) for part in ("vectors", "near", "far"))
    put, get = {"gptcache": gptcache, "redisvl": redisvl}[name](folder, len(vectors))
    began = time.perf_counter()
    for number, vector in enumerate(vectors):
        put(number, vector)
    put_us = (time.perf_counter() - began) / len(vectors) * 1e6
    row: dict[str, Any] = {"engine": name, "size": len(vectors), "put_us": round(put_us, 1)}
    for kind, sought in (("hit", near), ("miss", far)):
        times = []
        answered = 0
        for number, vector in enumerate(sought):
            began = time.perf_counter()
            answered += get(f"{kind} {number}", vector)
            times.append(time.perf_counter() - began)
        p50, p99 = np.quantile(times, [0.5, 0.99]) * 1e3
        row[kind] = {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3), "answered": answered / len(sought)}
    print(json.dumps(row))


def _unit(vectors: Any) -> Any:
    wide = vectors.astype(np.float32)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
