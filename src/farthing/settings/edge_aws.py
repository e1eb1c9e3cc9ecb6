"""The part of the foresight section on CloudFront. See docs/edge-aws.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from farthing.settings.aws_calls import AwsCallSettings
from farthing.settings.basic import Section


class CloudFrontSettings(AwsCallSettings):
    """The edge store in CloudFront KeyValueStore. `deploy/aws/edge` makes what is named here."""

    store: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:cloudfront::\d{12}:key-value-store/[A-Za-z0-9_-]{1,64}$")] | None = None
    """The ARN of the KeyValueStore. It must be set."""
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] | None = None
    """The S3 bucket for answers that do not fit into 1 KB. Unless it is set, those are not stored."""
    max_bytes: Annotated[int, Field(ge=10_000, le=5 * 1024 * 1024)] = 4_500_000
    """Of the KeyValueStore, which holds 5 MB: beyond this, what is dead and what is oldest makes room."""


class EdgeSettings(Section):
    """Where answers wait for clicks: in PostgreSQL, or in CloudFront KeyValueStore."""

    store: Literal["postgres", "cloudfront"] = "postgres"
    cloudfront: CloudFrontSettings = CloudFrontSettings()

    @model_validator(mode="after")
    def _cloudfront_is_named(self) -> EdgeSettings:
        if self.store == "cloudfront" and self.cloudfront.store is None:
            msg = "edge.store: cloudfront needs edge.cloudfront.store, the ARN of a KeyValueStore"
            raise ValueError(msg)
        return self
