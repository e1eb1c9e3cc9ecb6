"""Whether the semantic cache keeps its error budget on drifting streams, and how much more it serves than a fixed threshold.

    .venv/bin/python bench/calibration.py
    .venv/bin/python bench/calibration.py --data ../shared/data/cache --work /tmp/bench

Verdicts are replayed from labels: audits, some thumbs, a judge on half of the uncertain band. Each stream is played to three policies: the
calibration with verdicts, the shipped calibration without any, and the best fixed threshold on the same score, chosen in hindsight so that
its error over the whole stream is at most that of the first, or δ where that is more. --data names a folder with BANKING77 and question
pairs (see bench/calibrating/recorded.py); without it only made-up tenants are played. Prints one JSON line; progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from calibrating.facts import World
from calibrating.policies import Online, Prior, Verdicts
from calibrating.replay import best_threshold, replay
from calibrating.synthetic import Synthetic, Tenant
from farthing.caching.calibration import Calibration, CalibrationSettings
from farthing.caching.risk import RiskBudget, RiskSettings

_TIMED = 100_000
_ENOUGH = 100
"""With fewer hits than that, their share of errors says nothing."""


def main() -> None:
    given = arguments()
    streams: dict[str, Callable[[], World]] = {}
    for seed in range(given.tenants):
        tenant = Synthetic(Tenant(seed=seed))
        streams[f"made-up-{seed}"] = lambda tenant=tenant: tenant  # type: ignore[misc]
    if given.data is None:
        say("no --data: BANKING77 and question pairs are left out")
    else:
        from calibrating.recorded import banking, pairs  # noqa: PLC0415 - numpy and the embedder, only where there is data

        streams["banking77"] = banking(given.data, given.work, given.rows)
        streams["question-pairs"] = pairs(given.data, given.work)
    found = {name: measure(name, make, given.delta, given.judged) for name, make in streams.items()}
    print(json.dumps({"bench": "calibration", "delta": given.delta, "streams": found, "decision_us": round(decision_us(), 1)}))


def measure(name: str, make: Callable[[], World], delta: float, judged: float) -> dict[str, Any]:
    """One stream, three policies."""
    risk = RiskSettings(delta=delta)
    online = Online(Verdicts(judged=judged), risk=risk, seed=1)
    ours = replay(make(), online)
    threshold, fixed = best_threshold(make, max(ours.error, delta) if ours.served >= _ENOUGH else delta)
    prior = replay(make(), Prior(CalibrationSettings(), risk))
    low, high = online.estimate.interval()[1:3]
    result = {
        "online": ours.plain(),
        "fixed": {"threshold": round(threshold, 3), **fixed.plain()},
        "prior": prior.plain(),
        "hits_against_fixed": round(ours.hit_rate / fixed.hit_rate, 2) if fixed.served else None,
        "within_delta": ours.error_low <= delta,
        "verdicts": online.counts,
        "estimated_error": [round(low, 5), round(high, 5)],
    }
    say(f"{name}: {json.dumps(result)}")
    return result


def decision_us() -> float:
    """Microseconds to assess and admit, for entries half of which have a history."""
    online = Online(Verdicts(judged=0.2), seed=1)
    world = Synthetic(Tenant(length=5000))
    replay(world, online)
    asked = [candidate for candidate in map(world.ask, range(5000)) if candidate is not None]
    budget, times = RiskBudget(), []
    calibration: Calibration = online.calibration
    for _ in range(_TIMED // len(asked)):
        began = time.perf_counter()
        for number, candidate in enumerate(asked):
            budget.admits(calibration.assess(candidate.score, candidate.question_id if number % 2 else UUID(int=1 << 100)))
        times.append((time.perf_counter() - began) / len(asked))
    return statistics.median(times) * 1e6


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with banking77.jsonl.gz and question_pairs.jsonl.gz")
    parser.add_argument("--work", type=Path, default=Path("/tmp"), help="where embeddings are kept")  # noqa: S108 - a default
    parser.add_argument("--rows", type=int, default=8000, help="of BANKING77")
    parser.add_argument("--tenants", type=int, default=3, help="made-up ones")
    parser.add_argument("--delta", type=float, default=0.01)
    parser.add_argument("--judged", type=float, default=0.5, help="share of the uncertain band that is judged")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
