"""The section on events that come in over HTTP. See docs/events.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farthing.settings.basic import Count, Section


class EventDoorSettings(Section):
    """`POST /v1/events`."""

    max_events: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """In one batch; a larger one is refused as a whole."""
    max_event_bytes: Annotated[int, Field(ge=256, le=2**20)] = 64 * 1024
    """Of one event as it comes; a longer one is refused, and the rest of its batch taken."""
    max_batch_bytes: Annotated[int, Field(ge=1024, le=2**26)] = 8 * 2**20
    """Of the body; a longer one is not read."""
    max_ahead_s: Annotated[float, Field(ge=0, le=86_400)] = 300
    """How far ahead of our clock the time of an event may lie."""
    max_age_s: Annotated[float, Field(gt=0, le=315_360_000)] = 30 * 86_400
    """How long ago an event may have happened (30 days)."""
    max_posts: Count = 64
    """Requests of this door that a worker has under way; further ones are answered 503."""
