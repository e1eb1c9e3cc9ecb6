"""The section on background work. See docs/jobs.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farthing.settings.basic import Section


class JobSettings(Section):
    """Work that no request waits for: handlers of events, items of jobs, schedules."""

    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """Background processes beside the gateway workers. With 0 the gateway workers do that work too."""
