"""The faults, one after the other at known times, and how long until all is well again after each."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from soaking.callers import Callers
from soaking.facts import Window
from soaking.scene import Scene
from soaking.upstream import FAULTS as UPSTREAM_FAULTS
from soaking.upstream import Provider

ALL = (
    *(f"upstream_{name}" for name in UPSTREAM_FAULTS),
    "postgres_stop",
    "postgres_hang",
    "disk_full",
    "disk_full_postgres_stop",
    "model_kill",
    "worker_kill",
    "worker_kill_postgres_stop",
    "reload",
)
_SUDDEN = frozenset({"reload", "model_kill", "worker_kill"})
_RECOVER_S = 60.0
_IN_A_ROW = 12
"""Looks at /readyz, each on a new connection, so that most likely every worker has answered."""


class Faults:
    """`windows` tells what happened when."""

    def __init__(self, scene: Scene, provider: Provider, callers: Callers) -> None:
        self._scene = scene
        self._provider = provider
        self._callers = callers
        self._workers = len(scene.farthing.worker_pids())
        self.windows: list[Window] = []

    async def run(self, names: list[str], until: float, slot_s: float) -> None:
        """Each in its slot, again and again. A fault lasts about half of its slot, and none begins that could not end before `until`."""
        at = 0
        while time.monotonic() + slot_s <= until and names:
            begins = time.monotonic()
            await self._inject(names[at % len(names)], slot_s * 0.5)
            at += 1
            await asyncio.sleep(max(1.0, begins + slot_s - time.monotonic()))

    async def _inject(self, name: str, lasts_s: float) -> None:
        window = Window(fault=name, began=time.monotonic())
        self.windows.append(window)
        async with self._befall(name, window):
            await asyncio.sleep(lasts_s if name not in _SUDDEN else 0.0)
        window.ended = time.monotonic()
        well = self._well(name, window)
        while time.monotonic() - window.ended < _RECOVER_S:
            if await asyncio.to_thread(well):
                window.recovered = time.monotonic()
                break
            await asyncio.sleep(0.1)
        took = "NOT WELL AGAIN" if window.recovered is None else f"well again after {window.recovered - window.ended:.1f} s"
        print(f"{name}: {window.ended - window.began:.1f} s, {took} {window.note}", file=sys.stderr, flush=True)

    @asynccontextmanager
    async def _befall(self, name: str, window: Window) -> AsyncIterator[None]:
        scene = self._scene
        if name.startswith("upstream_"):
            self._provider.fault = name.removeprefix("upstream_")
            yield
            self._provider.fault = None
        elif name == "postgres_stop":
            await scene.stop_database()
            yield
            await scene.database.start()
        elif name == "postgres_hang":
            scene.hang_database()
            yield
            scene.resume_database()
        elif name == "worker_kill_postgres_stop":
            await scene.stop_database()
            await asyncio.sleep(2)  # by then the dead will leave entries behind that are nowhere but on disk
            self._kill(scene.farthing.worker_pids()[:1], window)
            yield
            await scene.database.start()
        elif name == "disk_full":
            with scene.full_disk():
                yield
        elif name == "disk_full_postgres_stop":
            await scene.stop_database()
            with scene.full_disk():
                yield
            await scene.database.start()
        else:
            self._kill_or_reload(name, window)
            yield

    def _kill_or_reload(self, name: str, window: Window) -> None:
        farthing = self._scene.farthing
        if name == "reload":
            os.kill(farthing.pid, signal.SIGHUP)
            window.note = f"at {time.time()}"
            return
        self._kill(farthing.worker_pids()[:2] if name == "worker_kill" else farthing.chat_pids(), window)

    def _kill(self, pids: list[int], window: Window) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            window.killed_at.append(time.monotonic())
        window.note = f"killed {pids}"

    def _well(self, name: str, window: Window) -> Callable[[], bool]:
        """What says that a fault is over. Blocking."""
        if name.startswith("upstream_"):
            return lambda: self._first_try_since(window.ended, "main")
        if name == "model_kill":
            return lambda: self._first_try_since(window.ended, "local")
        if name == "reload":
            sent = float(window.note.removeprefix("at "))
            return lambda: _reloaded(self._scene.farthing.data, sent) and self._ready()
        return self._ready

    def _ready(self) -> bool:
        """All workers are there, and nothing is away."""
        farthing = self._scene.farthing
        workers = farthing.worker_pids()
        at_work = {
            int(path.name.split("-")[1]) for path in (farthing.data / "run").glob("metrics-[0-9]*-*.json")
        }  # written once they serve
        if len(workers) != self._workers or not at_work.issuperset(workers):
            return False
        for _ in range(_IN_A_ROW):
            status, body = farthing.get("/readyz")
            if status != 200 or json.loads(body)["status"] != "ready":
                return False
        return True

    def _first_try_since(self, at: float, model: str) -> bool:
        """Whether a question asked since has been answered by the model at the first try."""
        recent = list(self._callers.asks.values())[-2000:]
        return any(
            ask.at > at and ask.model == model and ask.outcome == "answered" and len(ask.tries) == 1 and ask.tries[0].source == "model"
            for ask in recent
        )


def _reloaded(data: Path, sent: float) -> bool:
    try:
        outcome = json.loads((data / "reload.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(outcome["began"] >= sent - 1 and outcome["ok"])
