"""The section on the event bus. See docs/events.md."""

from __future__ import annotations

from farthing.settings.basic import Section
from farthing.settings.event_door import EventDoorSettings


class EventSettings(Section):
    """Event."""

    door: EventDoorSettings = EventDoorSettings()
