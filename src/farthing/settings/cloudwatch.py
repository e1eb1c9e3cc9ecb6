"""The part of the telemetry section on CloudWatch. See docs/modes-aws.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, model_validator

from farthing.settings.basic import Count, Seconds, Section
from farthing.settings.providers import AwsRegion


class CloudWatchSettings(Section):
    """What is spent per hour, as metrics of CloudWatch, so that an alarm there can act on it."""

    mode: Literal["off", "emf", "put"] = "off"
    """`put`: sent with PutMetricData. `emf`: written as lines of the embedded metric format, which the agent or a log driver takes up."""
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/#:-]{1,255}$")] = "Farthing"
    every_s: Annotated[float, Field(ge=1, le=3600)] = 60
    path: Path | None = None
    """The file of `emf`. Unless it is set, standard output."""
    max_bytes: Count = 16 * 2**20
    """Of that file; then it is begun anew, and the one before is kept as NAME.1."""
    region: AwsRegion | None = None
    """Unless it is set, the region that AWS's own tools would take."""
    aws_profile: str | None = None
    """In the user's AWS files. Unless it is set, credentials come from where AWS's own tools look."""
    endpoint_url: HttpUrl | None = None
    """Such as a VPC endpoint, or an emulator."""
    timeout_s: Seconds = 10

    @model_validator(mode="after")
    def _path_is_of_emf(self) -> CloudWatchSettings:
        if self.path is not None and self.mode != "emf":
            msg = "cloudwatch.path needs cloudwatch.mode: emf"
            raise ValueError(msg)
        return self
