"""The section on what is remembered of users. See docs/memory.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, HttpUrl

from farthing.settings.basic import Count, Seconds, Section
from farthing.settings.memory_extraction import ExtractionSettings
from farthing.settings.memory_recall import RecallSettings
from farthing.settings.providers import AwsRegion


class DynamoDbSettings(Section):
    """The table in Amazon DynamoDB. `deploy/aws/memory` makes it."""

    table: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{3,255}$")] = "farthing-facts"
    region: AwsRegion | None = None
    """Unless it is set, the region that AWS's own tools would take."""
    aws_profile: str | None = None
    """In the user's AWS files. Unless it is set, credentials come from where AWS's own tools look."""
    endpoint_url: HttpUrl | None = None
    """Such as a VPC endpoint, or an emulator."""
    timeout_s: Seconds = 2
    """How long reading, learning or taking back may take, all calls together."""
    max_calls: Annotated[int, Field(ge=1, le=256)] = 16
    """Calls of each worker under way at once. More wait, as long as `timeout_s` lets them."""
    history_s: Annotated[int, Field(ge=3600, le=10 * 365 * 86_400)] = 365 * 86_400
    """How long what holds no more is kept, in seconds."""


class FactsSettings(Section):
    """Where facts are: in PostgreSQL, or in Amazon DynamoDB."""

    store: Literal["postgres", "dynamodb"] = "postgres"
    dynamodb: DynamoDbSettings = DynamoDbSettings()
    max_history: Count = 1_000_000
    """Facts that hold no more, of all users, with `postgres`; the oldest go. With `dynamodb`, see its `history_s`."""


class MemorySettings(RecallSettings, ExtractionSettings):
    """What is remembered of users."""

    facts: FactsSettings = FactsSettings()
    forget_timeout_s: Seconds = 30
    """When a user is forgotten, how long each place that holds something of him may take."""
    max_receipts: Count = 100_000
    """Receipts of who was forgotten; the oldest go."""
    max_facts: Annotated[int, Field(ge=1, le=1000)] = 200
    """Facts that hold of a user at once. Beyond them what is worth least is believed no more."""
