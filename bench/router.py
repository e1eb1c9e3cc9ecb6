"""How long the learned router takes to decide, without the embedding, and what its decision is made of.

    python bench/router.py [--rows 7000] [--rounds 2000]

Prompts are made up: vectors of 384 dimensions around 60 centres. Prints one JSON line. `ratio` is to a reference in the same run: the
same number of cosines alone, with nothing learnt. `own_…` is this thread's (of the training: this process's) own work, for machines that
are busy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from farthing.routing.learned.features import features_of
from farthing.routing.learned.members import cosines
from farthing.routing.learned.model import LearnedModel
from farthing.routing.learned.outcomes import Row
from farthing.routing.learned.training import train

DIMENSIONS, CENTRES, ASKED = 384, 60, 200
MODELS = ("weak", "strong")
PROMPT = "Which of these is the capital of the country of which the {} river is the longest?\nA. Paris\nB. Oslo\nC. Rome\nD. Bern\nAnswer:"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=7000)
    arguments.add_argument("--rounds", type=int, default=2000)
    wanted = arguments.parse_args()
    rows = _rows(wanted.rows)
    started, own = time.perf_counter(), time.process_time()
    trained, metrics = train(rows, MODELS, embedder="made up")
    training_s, training_own_s = time.perf_counter() - started, time.process_time() - own
    data = trained.dump()
    router = LearnedModel.load(data)
    asked = rows[:: max(1, len(rows) // ASKED)]
    vectors = router.table.vectors
    queries = [np.frombuffer(row.vector, np.int8)[None] for row in asked]
    bodies = [{"messages": [{"role": "user", "content": PROMPT.format(number)}]} for number in range(len(asked))]

    def decide(at: int) -> None:
        router.choose(router.predict(asked[at].vector, asked[at].features), 0.95, MODELS)

    reference = _timed(lambda at: cosines(queries[at], vectors), len(asked), wanted.rounds)
    decision = _timed(decide, len(asked), wanted.rounds)
    features = _timed(lambda at: features_of(bodies[at]), len(asked), wanted.rounds)
    found = {
        "bench": "router",
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version(), "machine": platform.machine()},
        "rows": len(vectors),
        "artefact_bytes": len(data),
        "training_s": round(training_s, 1),
        "training_own_s": round(training_own_s, 1),
        "apgr": metrics["apgr"],
        "decision": decision,
        "features": features,
        "reference": reference,
        "ratio": round(decision["own_p50_us"] / reference["own_p50_us"], 2),
    }
    print(json.dumps(found))


def _rows(count: int) -> list[Row]:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CENTRES, DIMENSIONS))
    hard = rng.random(CENTRES)
    made = []
    for number in range(count):
        topic = number % CENTRES
        found = centres[topic] + rng.normal(size=DIMENSIONS)
        scores = {"weak": float(rng.random() > hard[topic]), "strong": float(rng.random() > hard[topic] / 4)}
        body = {"messages": [{"role": "user", "content": PROMPT.format("long " * (number % 30))}]}
        vector = np.round(found * 127 / np.abs(found).max()).astype(np.int8).tobytes()
        made.append(Row(vector=vector, features=features_of(body), scores=scores))
    return made


def _timed(work: Callable[[int], Any], count: int, rounds: int) -> dict[str, float]:
    for at in range(count):
        work(at)
    walls, own = [], []
    for number in range(rounds):
        wall, thread = time.perf_counter_ns(), time.thread_time_ns()
        work(number % count)
        own.append((time.thread_time_ns() - thread) / 1000)
        walls.append((time.perf_counter_ns() - wall) / 1000)
    cuts, own_cuts = statistics.quantiles(walls, n=100), statistics.quantiles(own, n=100)
    return {
        "p50_us": round(cuts[49], 1),
        "p99_us": round(cuts[98], 1),
        "own_p50_us": round(own_cuts[49], 1),
        "own_p99_us": round(own_cuts[98], 1),
    }


if __name__ == "__main__":
    main()
