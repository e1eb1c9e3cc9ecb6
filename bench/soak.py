"""A load at a fixed rate on a real `farthing up` while faults befall it, and whether anything was answered wrongly, lost or billed twice.

    .venv/bin/python bench/soak.py --minutes 3 --json
    .venv/bin/python bench/soak.py --minutes 60 --rate 40 --faults all

The applications use the official SDKs (`AsyncOpenAI`, `AsyncAnthropic`) with their own retries. What is injected and judged is in
bench/soaking/. A table goes to stderr (to stdout without --json); with --json the last line of stdout is one JSON object. Exit status 1
when an answer was wrong, a request or a row of the ledger lost or doubled, or a hard budget overspent beyond its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from soaking import books, report
from soaking.callers import TIMEOUT_S, Callers
from soaking.faults import ALL, Faults
from soaking.judge import Judge
from soaking.questions import Questions
from soaking.scene import Scene
from soaking.upstream import Provider
from soaking.weights import Weights

_WARM_S = 15.0
_SHORTEST_SLOT_S, _LONGEST_SLOT_S = 6.0, 30.0
_DOLLARS_PER_REQUEST = 0.0035
"""About what a question that reaches the model costs here, spread over all; only to choose a budget that runs out in mid-run."""
_MOST_UNDER_WAY = 2000


def main() -> int:
    given = arguments()
    folder = Path(tempfile.mkdtemp(prefix="farthing-soak-", dir=given.work))
    folder.chmod(0o755)  # the embedded database runs as a user of its own
    try:
        found = asyncio.run(soak(given, folder))
    finally:
        if given.keep:
            say(f"logs and data are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(report.table(found), file=sys.stderr if given.json else sys.stdout)
    if given.json:
        print(msgspec.json.encode(found).decode())
    return 1 if found["failed"] else 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=40.0, help="questions a second")
    parser.add_argument("--faults", default="all", help=f"all, none, or some of {', '.join(ALL)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line of stdout")
    parser.add_argument("--work", default="/tmp", help="where to put logs and data; not under the root user's home")  # noqa: S108 a new directory is made in it
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    given = parser.parse_args()
    given.faults = {"all": list(ALL), "none": []}.get(given.faults, given.faults.split(","))
    if unknown := set(given.faults) - set(ALL):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    if given.minutes * 60 < 2 * _WARM_S or given.rate <= 0:
        parser.error(f"--minutes must be at least {2 * _WARM_S / 60:g}, --rate more than 0")
    return given


async def soak(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    whole = asyncio.current_task()
    assert whole is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, whole.cancel)  # clear away what was started
    provider = Provider(given.seed)
    async with provider.server:
        scene = Scene(folder, provider.server.base_url, workers=given.workers, local="model_kill" in given.faults)
        try:
            await scene.start()
            found = await run(given, scene, provider)
        finally:
            await scene.stop()
    return found


async def run(given: argparse.Namespace, scene: Scene, provider: Provider) -> dict[str, Any]:
    """Load, faults, and the judgement."""
    tenants = await scene.tenants(given.minutes * 60 * given.rate * _DOLLARS_PER_REQUEST / 5 * 0.4)
    callers = Callers(scene.farthing.url, tenants)
    weights = Weights(scene.farthing)
    weighing = asyncio.create_task(weights.run())
    weighing.add_done_callback(lambda task: task.cancelled() or task.exception())
    faults = Faults(scene, provider, callers)
    began = time.monotonic()
    until, warm_at = began + given.minutes * 60, began + _WARM_S
    local_share = min(0.02, 0.7 / given.rate) if "model_kill" in given.faults else 0.0
    questions = Questions(given.seed, [tenant.name for tenant in tenants], local_share=local_share)
    say(f"{given.rate:g} questions a second for {given.minutes:g} minutes; spool: {scene.spool}")
    loading = asyncio.create_task(load(callers, questions, given.rate, until))
    await asyncio.sleep(_WARM_S)
    slot_s = (until - 5 - warm_at) / len(given.faults) if given.faults else 0
    await faults.run(given.faults, until, min(max(slot_s, _SHORTEST_SLOT_S), _LONGEST_SLOT_S))
    not_sent = await loading
    loaded_until = time.monotonic()
    await callers.close()
    settled_s = await books.settled(scene.farthing.data / "ledger")
    await asyncio.sleep(2)
    weighing.cancel()
    with suppress(asyncio.CancelledError):
        await weighing
    exit_status = await asyncio.to_thread(scene.farthing.stop)
    found = await asyncio.to_thread(books.read, scene.database.uri)
    verdict = Judge(callers.asks, provider.served, tenants, faults.windows).judge(found.rows)
    settings = {"minutes": given.minutes, "rate": given.rate, "workers": given.workers, "seed": given.seed, "faults": given.faults}
    return report.document(
        settings={**settings, "spool": scene.spool, "not_sent": not_sent, "upstream_misbehaved": provider.misbehaved},
        asks=callers.asks,
        verdict=verdict,
        windows=faults.windows,
        books=found,
        tenants=tenants,
        weights=weights,
        settled_s=settled_s,
        exit_status=exit_status,
        warm_at=warm_at,
        loaded_until=loaded_until,
    )


async def load(callers: Callers, questions: Questions, rate: float, until: float) -> int:
    """Ask at a fixed rate, whatever becomes of earlier questions, and wait for all answers. Returns how many could not be sent."""
    under_way: set[asyncio.Task[None]] = set()
    due, not_sent = time.monotonic(), 0
    while due < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due += 1 / rate
        if len(under_way) >= _MOST_UNDER_WAY:
            not_sent += 1
            continue
        task = asyncio.create_task(callers.ask(questions.next()))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    _, late = await asyncio.wait(under_way, timeout=3 * TIMEOUT_S) if under_way else (None, set())
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return not_sent


if __name__ == "__main__":
    sys.exit(main())
