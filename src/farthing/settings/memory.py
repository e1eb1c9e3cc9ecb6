"""The section on what is remembered of users. See docs/memory.md."""

from __future__ import annotations

from farthing.settings.basic import Section


class MemorySettings(Section):
    """Memory."""
