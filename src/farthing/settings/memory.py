"""The section on what is remembered of users. See docs/memory.md."""

from __future__ import annotations

from farthing.settings.memory_recall import RecallSettings


class MemorySettings(RecallSettings):
    """Memory."""
