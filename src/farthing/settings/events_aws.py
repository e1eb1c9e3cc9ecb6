"""The part of the events section on AWS. See docs/events-aws.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from farthing.settings.aws_calls import AwsCallSettings
from farthing.settings.basic import Section

_Days = Annotated[int, Field(ge=1, le=365)]
_Pattern = Annotated[str, Field(pattern=r"^(\*|[^\s*]{1,200}\*?)$")]
_Path = Annotated[str, Field(pattern=r"^detail(\.[A-Za-z0-9_-]{1,64}){1,8}$")]


class InboundSettings(Section):
    """Events of your own AWS systems that become events of a tenant. What an event says of its tenant is not asked."""

    source: _Pattern
    """The `source` of EventBridge: exact, `prefix*`, or `*`. The first entry that matches counts."""
    tenant: Annotated[str, Field(min_length=1, max_length=128)]
    detail_type: _Pattern = "*"
    """The `detail-type`, likewise."""
    type: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The type that it gets. Unless it is set, source and detail-type, such as `shop.order-placed`."""
    subject: _Path | None = None
    """Where its subject is, such as `detail.order.id`."""
    user: _Path | None = None
    """Where its user is, such as `detail.userId`."""


class AwsEventSettings(AwsCallSettings):
    """The event bus on DynamoDB, SQS and EventBridge. `deploy/aws/events` makes what is named here."""

    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] = "farthing"
    """Of the queues: PREFIX-HANDLER.fifo."""
    table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")] = "farthing-events"
    """The DynamoDB table."""
    bus: Annotated[str, Field(pattern=r"^[A-Za-z0-9_./:-]{1,256}$")] = "farthing"
    """The EventBridge bus."""
    mirror: tuple[_Pattern, ...] = ()
    """Types of events that EventBridge is told as well, for rules of your own. They leave Farthing's reach: forgetting does not follow."""
    inbox: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,80}$")] | None = None
    """The SQS queue into which a rule puts events of your own systems, such as `farthing-inbox`. Unless it is set, none are taken in."""
    inbound: tuple[InboundSettings, ...] = ()
    """Which of them, and whose they are."""
    keep_days: _Days = 14
    """How long events, their names and dead letters are kept at most. SQS keeps what is not handled for 14 days."""

    @model_validator(mode="after")
    def _inbound_needs_an_inbox(self) -> AwsEventSettings:
        if bool(self.inbound) != (self.inbox is not None):
            msg = "events.aws: inbox and inbound belong together: the queue, and whose the events in it are"
            raise ValueError(msg)
        return self
