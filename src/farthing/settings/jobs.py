"""The section on background work. See docs/jobs.md."""

from __future__ import annotations

from farthing.settings.basic import Section


class JobSettings(Section):
    """Job."""
