"""What the sections on services of AWS have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, HttpUrl

from farthing.settings.basic import Seconds, Section
from farthing.settings.providers import AwsRegion


class AwsCallSettings(Section):
    """How AWS is called."""

    region: AwsRegion | None = None
    """Unless it is set, the region that AWS's own tools would take."""
    aws_profile: str | None = None
    """In the user's AWS files. Unless it is set, credentials come from where AWS's own tools look."""
    endpoint_url: HttpUrl | None = None
    """Such as an emulator: of all services of the section."""
    timeout_s: Seconds = 10
    """How long one operation may take, with all its calls."""
    max_connections: Annotated[int, Field(ge=1, le=256)] = 16
    """Calls at the same time, of each worker. Further ones wait for their turn."""
