"""The section on the event bus. See docs/events.md."""

from __future__ import annotations

from farthing.settings.basic import Section


class EventSettings(Section):
    """Event."""
