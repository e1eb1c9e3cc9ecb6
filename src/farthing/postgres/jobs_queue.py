"""The queue of items: pgqueuer's statements on one of our connections, within its transaction.

What is used of pgqueuer is its queue: how entries are put in, leased under the limits of their runs, found when a worker went away, put
back and taken out. Its loop is not: see docs/decisions/0012-jobs-on-pgqueuer.md. It is loaded by its first use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from psycopg.pq import TransactionStatus

from farthing.lazily import Lazily
from farthing.postgres.connection import Connection

_settings = Lazily("pgqueuer.domain.settings")
_queries = Lazily("pgqueuer.adapters.persistence.queries")
_builders = Lazily("pgqueuer.adapters.persistence.qb")
_drivers = Lazily("pgqueuer.adapters.drivers.psycopg")
_repository = Lazily("pgqueuer.ports.repository")
_NAMES = {
    "queue_table": "pgqueuer",
    "queue_table_log": "pgqueuer_log",
    "statistics_table": "pgqueuer_statistics",
    "schedules_table": "pgqueuer_schedules",
    "queue_status_type": "pgqueuer_status",
    "function": "fn_pgqueuer_changed",
    "trigger": "tg_pgqueuer_changed",
    "channel": "ch_pgqueuer",
}
"""All of them said, or variables of the environment that are none of ours would change them."""

_OVERLOOKED = """
SELECT FROM unnest(%(runs)s::text[], %(wides)s::integer[]) AS r(run, wide)
WHERE EXISTS (SELECT FROM farthing.pgqueuer q WHERE q.entrypoint = r.run AND q.status = 'queued' AND q.execute_after < now())
  AND (SELECT count(*) FROM farthing.pgqueuer q WHERE q.entrypoint = r.run AND q.status = 'picked') < r.wide
LIMIT 1
"""


class LostRace(Exception):
    """Another worker took the same places. The transaction is void; a later try will do."""


class JobQueue:
    """Entries of runs. `worker` is who leases them, `lease_s` how long an entry stays leased without a word."""

    def __init__(self, worker: UUID, lease_s: float) -> None:
        self.worker = worker
        self._lease = timedelta(seconds=lease_s)

    @cached_property
    def _sql(self) -> dict[str, Any]:
        names = _settings.DBSettings(prefix="", db_schema="farthing", **_NAMES)
        return {
            "qbe": _builders.QueryBuilderEnvironment(names),
            "qbq": _builders.QueryQueueBuilder(names),
            "qbs": _builders.QuerySchedulerBuilder(names),
        }

    def _on(self, connection: Connection) -> Any:
        return _queries.Queries(_drivers.PsycopgDriver(connection), **self._sql)

    async def put(self, connection: Connection, run: UUID, items: Sequence[int], priorities: Sequence[int]) -> None:
        """An entry for each item of a run, due at once. The higher priority goes first, over all runs."""
        payloads = [b"%d" % item for item in items]
        await self._on(connection).enqueue([str(run)] * len(payloads), payloads, list(priorities))

    async def take(self, connection: Connection, runs: Mapping[UUID, int], most: int) -> dict[int, int]:
        """Lease at most `most` entries that are due, or whose worker went away; of a run no more than it may have, everywhere.

        Returns items and their entries. Raises `LostRace`.
        """
        limits = {str(run): _repository.EntrypointExecutionParameter(concurrency_limit=wide) for run, wide in runs.items()}
        found = await self._on(connection).dequeue(most, limits, self.worker, None, self._lease)
        if connection.info.transaction_status is TransactionStatus.INERROR:
            raise LostRace
        if not found and await self._overlooked(connection, runs):
            raise LostRace
        return {int(job.payload): job.id for job in found}

    @staticmethod
    async def _overlooked(connection: Connection, runs: Mapping[UUID, int]) -> bool:
        """Whether there are entries that could have been leased. pgqueuer looks at the first ones only, which another worker may lock."""
        values = {"runs": [str(run) for run in runs], "wides": list(runs.values())}
        return await (await connection.execute(_OVERLOOKED, values)).fetchone() is not None

    async def put_back(self, connection: Connection, entries: Mapping[int, float]) -> None:
        """Entries that are due again in so many seconds."""
        on = self._on(connection)
        for entry, delay_s in entries.items():
            await on.driver.execute(on.qbq.build_retry_job_query(), entry, timedelta(seconds=delay_s), None)

    async def take_out(self, connection: Connection, entries: Sequence[int], *, well: bool) -> None:
        """Entries that have ended."""
        if entries:
            on = self._on(connection)
            said = ["successful" if well else "exception"] * len(entries)
            await on.driver.execute(on.qbq.build_log_job_query(), list(entries), said, [None] * len(entries))
