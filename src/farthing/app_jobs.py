"""Jobs, put together: the engine, its kinds and schedules, the doors. Part of the composition root."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from farthing.app_stores import Stores
from farthing.background import Background
from farthing.flow import Hands, job_flow
from farthing.http.admin_jobs import JobDoors
from farthing.jobs import pruning
from farthing.jobs.engine import Engine
from farthing.jobs.kind import Kind
from farthing.jobs.schedules import Schedules
from farthing.settings import LONGEST_WINDOW_S, Settings
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import Cron, utc_now

_ENDS = ("done", "failed", "retry", "cancelled", "released", "lost")


def prunes(settings: Settings, stores: Stores) -> dict[str, pruning.Prune]:
    """How each store is pruned. Whoever adds a store that grows adds it here. Events grow too fast for this: see `Dispatcher.prune`."""
    jobs, memory, foresight = settings.jobs, settings.memory, settings.foresight
    return {
        "jobs": lambda: stores.jobs.prune(utc_now() - timedelta(seconds=jobs.keep_s), max_runs=jobs.max_runs),
        "facts": lambda: stores.facts.prune(max_history=memory.facts.max_history),
        "receipts": lambda: stores.receipts.prune(memory.max_receipts),
        "sightings": lambda: stores.sightings.prune(utc_now() - timedelta(seconds=LONGEST_WINDOW_S), max_rows=memory.max_sightings),
        "readings": lambda: stores.readings.prune(utc_now() - timedelta(seconds=LONGEST_WINDOW_S) - timedelta(days=1)),
        "turns": lambda: stores.turns.prune(
            utc_now() - timedelta(seconds=memory.turn_ttl_s),
            per_conversation=memory.turns_per_conversation,
            per_user=memory.turns_per_user,
            max_rows=memory.max_turns,
        ),
        "feedback": lambda: stores.feedback.prune(settings.feedback.max_rows),
        "edge_answers": lambda: stores.edge.prune(foresight.max_rows),
        "foresight": lambda: stores.foresight.prune((utc_now() - timedelta(weeks=foresight.keep_weeks)).date()),
    }


def prune_kind(settings: Settings, stores: Stores) -> Kind:
    """The kind of job that keeps stores within their bounds."""
    return pruning.pruning(prunes(settings, stores))


class Jobs:
    """`doors` are the operators' ones. `handles`: this process also does jobs and keeps schedules. `crons` are those of other parts."""

    def __init__(self, settings: Settings, stores: Stores, hands: Hands, crons: Sequence[Cron] = (), *, handles: bool) -> None:
        chosen = settings.jobs
        kinds = job_flow(hands)
        schedules = [*crons]
        if hands.prune is not None:
            keys = tuple(prunes(settings, stores))
            prune = Cron(
                name="prune", expression=chosen.prune, kind=hands.prune.name, keys=keys, attempts=1, deadline_s=chosen.prune_deadline_s
            )
            schedules.append(prune)
        self._handles = handles
        self._engine = Engine(stores.jobs, kinds, chosen)
        self._schedules = Schedules(stores.jobs, schedules, poll_s=chosen.poll_s)
        self.doors = JobDoors(stores.jobs)

    def start(self, background: Background) -> None:
        """Begin the background work."""
        if self._handles:
            background.start("jobs", self._engine.run)
            background.start("schedules", self._schedules.run)

    async def heard(self, payload: str) -> None:
        """There are new items of a kind, or a run of it was cancelled."""
        self._engine.woken(payload)

    async def stop(self) -> None:
        """While the background work still runs: begin no more items, and finish or give back those under way, within a bound."""
        if self._handles:
            await self._engine.stop()

    def register(self, metrics: Metrics) -> None:
        """Show how it does."""
        if not self._handles:
            return
        ended = self._engine.ended
        metrics.gauge(names.JOBS_UNDER_WAY, "Items of jobs under way.", lambda: self._engine.under_way)
        for end in _ENDS:
            metrics.counter(
                names.JOBS_ENDED, "Items of jobs, by how they ended.", partial(ended.__getitem__, end), attributes={names.END: end}
            )
        metrics.counter(names.JOBS_FIRED, "Runs made by schedules.", lambda: self._schedules.fired)
