"""What a run of bench/gateway.py found: medians over rounds, ratios taken within a round, and whether the aims are reached."""

from __future__ import annotations

import os
import platform
import statistics
from typing import Any

import msgspec

from gateways import Target
from load import Load

OURS, BUDGETED, EXACT, DIRECT = "farthing", "farthing-budgeted", "farthing-exact", "direct"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One way to load a target."""

    name: str
    stream: bool
    connections: int


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to reach. `at_most`: smaller is better."""

    name: str
    value: float | None
    wanted: float
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """None where it was not measured."""
        if self.value is None:
            return None
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted


class Report:
    """Collects; `table` for people, `document` for scripts."""

    def __init__(self, *, seconds: float, rounds: int, workers: int) -> None:
        self.settings = {"seconds": seconds, "rounds": rounds, "workers": workers}
        self.loads: dict[str, dict[str, list[Load]]] = {}
        self.invalid: dict[str, str] = {}
        self.sizes: dict[tuple[str, bool], int] = {}
        self.wrong: dict[str, str] = {}
        self.skipped: list[str] = []
        self.ready_s: dict[str, float] = {}
        self.memory: dict[str, dict[str, Any]] = {}
        self.first_chunk_us: dict[str, list[float]] = {}
        self.first_start_s: float | None = None
        self.ready_local_s: float | None = None
        self.import_ms: float | None = None

    def add(self, target: Target, scenario: Scenario, load: Load) -> None:
        """Keep one run. Errors, answers smaller than the one that was checked, or answers from elsewhere make the figure invalid."""
        self.loads.setdefault(target.name, {}).setdefault(scenario.name, []).append(load)
        size = self.sizes[target.name, scenario.stream]
        key = f"{target.name} {scenario.name}"
        if load.not_2xx or load.broken:
            self.invalid[key] = f"{load.not_2xx} not 2xx, {load.broken} broken of {load.requests}"
        elif not load.requests:
            self.invalid[key] = "no answers"
        elif load.bytes / load.requests < 0.9 * size:
            self.invalid[key] = f"{load.bytes / load.requests:.0f} bytes per answer, {size} expected"
        elif (load.upstream > scenario.connections) if target.repeat else (load.upstream < load.requests):
            self.invalid[key] = f"{load.upstream} of {load.requests} requests reached the upstream"

    def figures(self, name: str, scenario: str) -> dict[str, Any]:
        """Medians over rounds; what is added to the direct call is taken round by round."""
        loads, direct = self.loads[name][scenario], self.loads.get(DIRECT, {}).get(scenario, [])
        pairs = list(zip(loads, direct, strict=False))
        return {
            "rps": round(statistics.median(load.rps for load in loads), 1),
            "p50_us": statistics.median(load.p50_us for load in loads),
            "p99_us": statistics.median(load.p99_us for load in loads),
            "added_p50_us": statistics.median(load.p50_us - base.p50_us for load, base in pairs) if pairs else None,
            "added_p99_us": statistics.median(load.p99_us - base.p99_us for load, base in pairs) if pairs else None,
            "valid": f"{name} {scenario}" not in self.invalid,
        }

    def ratio(self, name: str, other: str, scenario: str) -> float | None:
        """Requests per second of one target over another's: the median of the rounds. None where either has no valid figure."""
        if f"{name} {scenario}" in self.invalid or f"{other} {scenario}" in self.invalid:
            return None
        pairs = zip(self.loads.get(name, {}).get(scenario, []), self.loads.get(other, {}).get(scenario, []), strict=False)
        ratios = [load.rps / base.rps for load, base in pairs if base.rps]
        return round(statistics.median(ratios), 3) if ratios else None

    def aims(self) -> list[Aim]:
        """What the project set itself."""
        plain, single = "plain_c32", "plain_c1"
        added = self.figures(OURS, single)["added_p50_us"] if single in self.loads.get(OURS, {}) else None
        exact = self.figures(EXACT, plain)["rps"] if plain in self.loads.get(EXACT, {}) else None
        return [
            Aim(name="pass_through_vs_tensorzero", value=self.ratio(OURS, "tensorzero", plain), wanted=0.5),
            Aim(name="pass_through_vs_portkey", value=self.ratio(OURS, "portkey", plain), wanted=4),
            Aim(name="pass_through_vs_litellm", value=self.ratio(OURS, "litellm", plain), wanted=30),
            Aim(name="added_p50_c1_us", value=added, wanted=500, at_most=True),
            Aim(name="budgeted_vs_plain", value=self.ratio(BUDGETED, OURS, plain), wanted=0.85),
            Aim(name="exact_rps", value=exact, wanted=11_000),
            Aim(name="exact_vs_direct", value=self.ratio(EXACT, DIRECT, plain), wanted=0.3),
            Aim(name="worker_rss_mb", value=self.memory.get(OURS, {}).get("worker_rss_mb"), wanted=120, at_most=True),
            Aim(name="import_ms", value=self.import_ms, wanted=150, at_most=True),
            Aim(name="ready_s", value=self.ready_s.get(OURS), wanted=2, at_most=True),
            Aim(name="ready_local_s", value=self.ready_local_s, wanted=6, at_most=True),
        ]

    def exit_status(self) -> int:
        """1 when Farthing did not run, answered wrongly, or has an invalid figure."""
        ours_bad = [key for key in (*self.invalid, *self.wrong) if key.startswith((OURS, DIRECT))]
        return 1 if ours_bad or OURS not in self.loads or OURS in self.skipped else 0

    def document(self) -> dict[str, Any]:
        """One JSON object. `ratios` are Farthing's requests per second over each other's."""
        scenarios = list(dict.fromkeys(scenario for by_name in self.loads.values() for scenario in by_name))
        others = [name for name in self.loads if name not in (OURS, BUDGETED, EXACT)]
        ratios = {f"{OURS}_vs_{other}": {s: self.ratio(OURS, other, s) for s in scenarios} for other in others}
        ratios |= {f"{BUDGETED}_vs_{OURS}": {s: self.ratio(BUDGETED, OURS, s) for s in scenarios}}
        ratios |= {f"{EXACT}_vs_{DIRECT}": {s: self.ratio(EXACT, DIRECT, s) for s in scenarios}}
        return {
            "bench": "gateway",
            "settings": self.settings,
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
            "ratios": ratios if OURS in self.loads else {},
            "aims": {aim.name: {"value": aim.value, "wanted": aim.wanted, "reached": aim.reached} for aim in self.aims()},
            "load": {name: {scenario: self.figures(name, scenario) for scenario in runs} for name, runs in self.loads.items()},
            "first_chunk_us": {name: _p50_p99(times) for name, times in self.first_chunk_us.items()},
            "memory": self.memory,
            "startup": {
                "import_ms": self.import_ms,
                "ready_s": self.ready_s,
                "farthing_first_start_s": self.first_start_s,
                "farthing_with_local_model_s": self.ready_local_s,
            },
            "invalid": self.invalid,
            "wrong": self.wrong,
            "skipped": self.skipped,
        }

    def table(self) -> str:
        """The same for people."""
        lines = [f"\n{'':16}{'':12}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'+p50 ms':>9}{'+p99 ms':>9}"]
        for scenario in dict.fromkeys(scenario for runs in self.loads.values() for scenario in runs):
            for name in (name for name, runs in self.loads.items() if scenario in runs):
                figure = self.figures(name, scenario)
                times = [figure[key] for key in ("p50_us", "p99_us", "added_p50_us", "added_p99_us")]
                cells = "".join(f"{'' if time is None else format(time / 1e3, '.2f'):>9}" for time in times)
                lines.append(f"{name:16}{scenario:12}{figure['rps']:>9.0f}{cells}{'' if figure['valid'] else '  INVALID'}")
        lines.append("")
        for name, times in self.first_chunk_us.items():
            p = _p50_p99(times)
            lines.append(f"{name:16}first chunk at c=1: p50 {p['p50'] / 1e3:.2f} ms, p99 {p['p99'] / 1e3:.2f} ms")
        for name, memory in self.memory.items():
            size = f"{memory['pss_mb']:.0f} MB in all (PSS), {memory['workers']} worker(s) of {memory['worker_rss_mb']:.0f} MB (RSS)"
            lines.append(f"{name:16}{size}; ready after {self.ready_s.get(name)} s")
        lines += ["", *(f"INVALID {key}: {why}" for key, why in self.invalid.items()), *(f"WRONG {key}" for key in self.wrong)]
        for aim in self.aims():
            verdict = {True: "reached", False: "MISSED", None: "not measured"}[aim.reached]
            lines.append(
                f"{aim.name:32}{aim.value if aim.value is not None else '-':>10}  {'≤' if aim.at_most else '≥'} {aim.wanted:<8g}{verdict}"
            )
        return "\n".join(lines)


def _p50_p99(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {"p50": round(statistics.median(ordered), 1), "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1)}
