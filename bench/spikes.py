"""Simulate spikes of many sizes and say how the modes held: one JSON line for each, and a last one with the worst of all.

python bench/spikes.py [--seeds 3] [--bases 0.2,2,10,30] [--factors 10,100,1000]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from typing import Any

from farthing.app_simulation import MOST_REQUESTS, POOL, Simulator
from farthing.economics.arrivals import invented
from farthing.economics.example import example
from farthing.economics.plans import crowd, viral
from farthing.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bases", default="0.2,2,10,30")
    parser.add_argument("--factors", default="10,100,1000")
    given = parser.parse_args()
    rows = []
    for base in map(float, given.bases.split(",")):
        for factor in map(float, given.factors.split(",")):
            for seed in range(1, given.seeds + 1):
                row = simulated(base, factor, seed)
                if row is not None:
                    rows.append(row)
                    print(json.dumps(row), flush=True)
    worst = {
        "runs": len(rows),
        "share_of_ceiling": max(row["share_of_ceiling"] for row in rows),
        "refused": sum(row["refused"] for row in rows),
        "reaction_s": max(row["reaction_s"] or 0 for row in rows),
        "changes_of_one_scope": max(row["changes_of_one_scope"] for row in rows),
        "not_back_in_deep": [
            [row["base"], row["factor"], row["seed"]] for row in rows if row["mode_changes"] and row["back_in_deep_after_s"] is None
        ],
    }
    print(json.dumps(worst))


def simulated(base: float, factor: float, seed: int) -> dict[str, Any] | None:
    settings = Settings.model_validate(example())
    simulator = Simulator(settings, "strong", invented(random.Random(f"{seed} conversations"), POOL))  # noqa: S311 - a simulation
    people = crowd({"free": 0.9, "pro": 0.1})
    plan = viral(simulator.per_second(base, people, seed), factor, people, minutes=30, window_s=settings.modes.window_s)
    if plan.expected > MOST_REQUESTS:
        return None
    began = time.perf_counter()
    found = simulator.run(plan, seed)
    held, free = found["with"], found["without"]
    return {
        "base": base,
        "factor": factor,
        "seed": seed,
        "requests": held["requests"],
        "with": round(held["spend_usd_per_hour"], 2),
        "without": round(free["spend_usd_per_hour"], 2),
        "share_of_ceiling": round(held["spend_usd_per_window"] / found["ceiling_usd"], 3),
        "refused": held["refused"],
        "mode_changes": held["mode_changes"],
        "changes_of_one_scope": max(held["changes_by_scope"].values(), default=0),
        "noticed_s": held["noticed_s"],
        "reaction_s": held["reaction_s"],
        "back_in_deep_after_s": held["back_in_deep_after_s"],
        "by_mode_by_tier": held["by_mode_by_tier"],
        "took_s": round(time.perf_counter() - began, 1),
    }


if __name__ == "__main__":
    main()
