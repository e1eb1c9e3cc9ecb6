"""Farthing beside its peers: an instant upstream called directly, through Farthing with everything on, and through each installed peer.

    .venv/bin/python bench/gateway.py [--seconds 3] [--rounds 3] [--peers litellm,tensorzero,portkey|none] [--workers 2] [--only NAMES]

One run, rounds interleaved so that drift hits all alike; every request body is new except for `farthing-exact`, which asks the same
again and is answered from the cache. A human table goes to stderr, one JSON line to stdout. Needs `wrk`; peers come from
`bench/peers.sh`. Exit status 1 when Farthing did not run or one of its figures is invalid.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import msgspec

import startup
from gateways import PEER_SETUPS, Gateway, Target, budgeted, farthing, installed, instant
from load import Load, Probe, answered, check, run_wrk
from processes import NotReady, end_daemons
from results import Report, Scenario

SCENARIOS = (
    Scenario(name="plain_c1", stream=False, connections=1),
    Scenario(name="plain_c32", stream=False, connections=32),
    Scenario(name="stream_c1", stream=True, connections=1),
    Scenario(name="stream_c32", stream=True, connections=32),
)
EXTRA = ("ttfc", "startup")
SEED = uuid4().hex


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    given = arguments()
    if shutil.which("wrk") is None:
        say("wrk is missing: apt-get install -y wrk")
        return 2
    report = Report(seconds=given.seconds, rounds=given.rounds, workers=given.workers)
    work = Path(tempfile.mkdtemp(prefix="farthing-bench-", dir=given.work))
    work.chmod(0o755)  # the embedded database runs as a user of its own
    try:
        with ExitStack() as running:
            measure(given, report, work, running)
        if "startup" in given.only and "farthing" in report.ready_s:
            measure_startup(given, report, work)
    finally:
        for command in end_daemons(str(work)):
            say(f"!!! was left running, and is ended: {command[:200]}")
        if given.keep:
            say(f"logs and data are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    say(report.table())
    print(msgspec.json.encode(report.document()).decode())
    return report.exit_status()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [scenario.name for scenario in SCENARIOS] + list(EXTRA)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run of wrk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEER_SETUPS), help="comma-separated, or none")
    parser.add_argument("--workers", type=int, default=2, help="workers of Farthing and of LiteLLM")
    parser.add_argument("--only", default=",".join(names), help=f"comma-separated, of {', '.join(names)}")
    parser.add_argument("--samples", type=int, default=300, help="streams per target for the time to first chunk")
    parser.add_argument("--work", default="/tmp", help="where to put logs and Farthing's data; not under the root user's home")  # noqa: S108 a new directory is made in it
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    parser.add_argument("--no-farthing", action="store_true", help="only the upstream and the peers")
    given = parser.parse_args()
    given.only = given.only.split(",")
    given.peers = [] if given.peers == "none" else given.peers.split(",")
    if unknown := [*(set(given.only) - set(names)), *(set(given.peers) - set(PEER_SETUPS))]:
        parser.error(f"unknown: {', '.join(unknown)}")
    return given


def measure(given: argparse.Namespace, report: Report, work: Path, running: ExitStack) -> None:
    """Start everything, check it, load it in rounds, weigh it."""
    gateways = start_all(given, report, work, running)
    targets = [gateway.target() for gateway in gateways]
    if ours := next((target for target in targets if target.name == "farthing"), None):
        at = targets.index(ours) + 1
        targets[at:at] = [budgeted(ours), msgspec.structs.replace(ours, name="farthing-exact", repeat=True)]
    able = {stream: [target for target in targets if answers_right(report, target, stream=stream)] for stream in (False, True)}
    load_in_rounds(given, report, able)
    if "ttfc" in given.only:
        report.first_chunk_us = time_to_first_chunk(able[True], given.samples)
    for gateway in gateways:
        report.memory[gateway.server.name] = gateway.server.memory()
    for target in targets:
        if target.name.startswith("farthing"):
            answers_right(report, target, stream=False)


def load_in_rounds(given: argparse.Namespace, report: Report, able: dict[bool, list[Target]]) -> None:
    """Every scenario on every target that can answer it, in each round, the first place going round."""
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in given.only and able[scenario.stream]]
    for scenario in scenarios:
        for target in able[scenario.stream]:
            run(target, scenario, min(1.0, given.seconds))  # warm-up: connections, compiled paths, caches
    for at in range(given.rounds):
        say(f"round {at + 1} of {given.rounds}")
        for scenario in scenarios:
            turn = at % len(able[scenario.stream])
            for target in able[scenario.stream][turn:] + able[scenario.stream][:turn]:
                before = answered(able[scenario.stream][0])
                load = run(target, scenario, given.seconds)
                load = msgspec.structs.replace(load, upstream=answered(able[scenario.stream][0]) - before)
                report.add(target, scenario, load)


def start_all(given: argparse.Namespace, report: Report, work: Path, running: ExitStack) -> list[Gateway]:
    """The upstream, Farthing (started twice: the first start makes its database), and the peers that are installed."""
    upstream = instant(work)
    started = [upstream] if start(report, upstream, running) else []
    base = upstream.target().url.removesuffix("/chat/completions")
    if not given.no_farthing:
        first = farthing(work, base, given.workers)
        with ExitStack() as for_now:
            start(report, first, for_now)
        report.first_start_s = report.ready_s.pop("farthing", None)
        again = farthing(work, base, given.workers)
        started += [again] if report.first_start_s and start(report, again, running) else []
    for peer in given.peers:
        if not installed(peer):
            say(f"!!! {peer} is not installed and is SKIPPED: bench/peers.sh {peer}")
            report.skipped.append(peer)
            continue
        gateway = PEER_SETUPS[peer](work, base, given.workers)
        started += [gateway] if start(report, gateway, running) else []
    return started


def start(report: Report, gateway: Gateway, running: ExitStack) -> bool:
    name = gateway.server.name
    try:
        report.ready_s[name] = round(gateway.server.start(), 2)
    except (NotReady, OSError) as failed:
        say(f"!!! {name} did not start and is SKIPPED: {failed}")
        report.skipped.append(name)
        return False
    running.callback(gateway.server.stop)
    say(f"{name} is ready after {report.ready_s[name]} s")
    return True


def answers_right(report: Report, target: Target, *, stream: bool) -> bool:
    """Whether the target gives the right answer, from where it should. What is wrong is told and kept in the report."""
    wrong, size = check(target, stream=stream)
    if wrong is None and target.name == "farthing":
        wrong = wrong_source(target, "model", stream=stream)
    if wrong is None and target.repeat:
        wrong = wrong_source(target, "exact", stream=stream)
    kind = "stream" if stream else "plain"
    if wrong is None:
        report.sizes[target.name, stream] = size
        return True
    say(f"!!! {target.name} fails {kind} requests, no figures: {wrong}")
    report.wrong[f"{target.name} {kind}"] = wrong
    return False


def wrong_source(target: Target, source: str, *, stream: bool, in_a_row: int = 16, within_s: float = 10.0) -> str | None:
    """What is wrong with where answers come from. A cache is asked until new connections, so all workers, hit `in_a_row` times."""
    until, hits, got = time.monotonic() + within_s, 0, "nothing"
    while time.monotonic() < until:
        with Probe(target) as probe:
            got = probe.ask(SEED if target.repeat else None, stream=stream).headers.get("x-farthing-source", "no header")
        hits = hits + 1 if got == source else 0
        if hits == (in_a_row if target.repeat else 1):
            return None
    return f"x-farthing-source is {got}, not {source}"


def run(target: Target, scenario: Scenario, seconds: float) -> Load:
    seed = SEED if target.repeat else uuid4().hex
    return run_wrk(target, stream=scenario.stream, connections=scenario.connections, seconds=seconds, seed=seed)


def time_to_first_chunk(targets: list[Target], samples: int) -> dict[str, list[float]]:
    """Microseconds to the first chunk at concurrency 1, the targets taking turns."""
    times: dict[str, list[float]] = {target.name: [] for target in targets}
    with ExitStack() as open_probes:
        probes = [open_probes.enter_context(Probe(target)) for target in targets]
        for _ in range(samples):
            for probe in probes:
                times[probe.target.name].append(probe.ask(SEED if probe.target.repeat else None, stream=True).first_us)
    return times


def measure_startup(given: argparse.Namespace, report: Report, work: Path) -> None:
    """Import and ready times, with nothing else running."""
    report.import_ms = startup.import_ms()
    with ExitStack() as running:
        upstream = instant(work)
        if not start(report, upstream, running):
            return
        base = upstream.target().url.removesuffix("/chat/completions")
        try:
            report.ready_s["farthing"] = startup.ready_s(work, base, given.workers, local=False)
            report.ready_local_s = startup.ready_s(work, base, given.workers, local=True)
        except NotReady as failed:
            say(f"!!! start-up could not be measured: {failed}")
            report.skipped.append("startup")


if __name__ == "__main__":
    sys.exit(main())
