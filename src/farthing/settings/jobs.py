"""The section on background work. See docs/jobs.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from farthing.cron import checked
from farthing.errors import InvalidRequest
from farthing.settings.basic import Count, Seconds, Section


class JobSettings(Section):
    """Work that no request waits for: handlers of events, items of jobs, schedules."""

    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """Background processes beside the gateway workers. With 0 the gateway workers do that work too."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    """Items under way in one process."""
    lease_s: Annotated[float, Field(ge=1, le=600)] = 10
    """How long an item stays with a process that is not heard of. Then another one does it. The same in all processes."""
    poll_s: Annotated[float, Field(ge=0.05, le=60)] = 1
    """How often a process looks for items that nobody told it of: retries that are due, leases that were lost."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 10
    """At a stop, how long items under way may take. What is left then is given back and done by another process."""
    max_result_bytes: Count = 2**20
    """What is kept of an item at most. With a larger result the item fails."""
    keep_s: Annotated[float, Field(gt=0, le=31_536_000)] = 2_592_000
    """How long runs are kept that have ended."""
    max_runs: Count = 10_000
    """Runs that have ended; beyond it the oldest go."""
    prune: str = "17 * * * *"
    """When what is too old or too much is deleted: a cron expression, in UTC."""
    prune_deadline_s: Seconds = 600
    """How long that may take for each store."""

    @field_validator("prune")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        try:
            return checked(value)
        except InvalidRequest as error:
            raise ValueError(error.message) from None
