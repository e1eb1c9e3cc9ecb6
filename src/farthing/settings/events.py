"""The section on the event bus. See docs/events-delivery.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from farthing.settings.basic import Count, Seconds, Section
from farthing.settings.event_door import EventDoorSettings
from farthing.settings.events_aws import AwsEventSettings


class EventSettings(Section):
    """The event bus: how events are handled, what happens to those that cannot be, and how many are kept."""

    door: EventDoorSettings = EventDoorSettings()
    bus: Literal["postgres", "aws"] = "postgres"
    """Where events are kept and delivered: in PostgreSQL, or in DynamoDB, SQS and EventBridge. See docs/events-aws.md."""
    aws: AwsEventSettings = AwsEventSettings()
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 16
    """Deliveries of one handler under way in one process at the same time."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 8
    """Then an event that could not be handled is a dead letter."""
    backoff_s: Seconds = 1
    """Before the second attempt, about; twice as long before each further one."""
    max_backoff_s: Seconds = 300
    """But never longer than this."""
    deadline_s: Seconds = 60
    """How long a handler may take for one delivery."""
    lease_s: Annotated[float, Field(ge=1, le=3600)] = 30
    """A process that says nothing of a delivery for so long is taken for dead, and the events are delivered again."""
    poll_s: Annotated[float, Field(ge=0.05, le=60)] = 1
    """How often a process looks for what is due. New events are told at once."""
    drain_s: Seconds = 5
    """At the end of a process, how long deliveries under way may take to finish."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Events stored in one transaction, when they come from several at the same time."""
    max_pending: Count = 10_000
    """Events from inside that a process holds until they are stored. Beyond it, new ones are dropped and counted."""
    max_backlog: Count = 100_000
    """While a handler is more deliveries behind, events are refused with 503."""
    keep_s: Annotated[float, Field(gt=0, le=31_536_000)] = 604_800
    """How long events are kept once they are handled, and dead letters."""
    max_events: Count = 1_000_000
    """Beyond it, the oldest go that are handled."""
