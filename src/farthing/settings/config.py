"""The section on the config store: where the small documents are that all workers agree on. See docs/config.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, model_validator

from farthing.settings.basic import Seconds, Section
from farthing.settings.providers import AwsRegion

_Name = Annotated[str, Field(pattern=r"^[^\s/:]{1,64}$")]


class AppConfigSettings(Section):
    """The place in AWS AppConfig. Names or ids; `deploy/aws/degradation` makes all of them."""

    application: _Name = "farthing"
    environment: _Name = "production"
    profile: _Name = "RAG_MODE"
    """The configuration profile that holds the document `modes`. Other documents are in profiles named like them."""
    strategy: _Name = "farthing-at-once"
    """How what is written here is deployed. AWS's own strategies wait for minutes; this one, of the template, does not."""
    region: AwsRegion | None = None
    """Unless it is set, the region that AWS's own tools would take."""
    aws_profile: str | None = None
    """In the user's AWS files. Unless it is set, credentials come from where AWS's own tools look."""
    endpoint_url: HttpUrl | None = None
    """Such as a VPC endpoint, or an emulator: of both the control plane and the data plane."""
    poll_s: Annotated[float, Field(ge=15, le=86_400)] = 15
    """How often each worker asks for a new version. AWS allows no less than 15 s."""
    timeout_s: Seconds = 10
    """How long a call may take; for writing, all calls together."""


class ConfigSettings(Section):
    """Where the documents are: in PostgreSQL, in files of one host, or in AWS AppConfig."""

    store: Literal["postgres", "file", "appconfig"] = "postgres"
    path: Path | None = None
    """The folder, with `store: file`. Unless it is set, DATA/config."""
    poll_s: Seconds = 2
    """How often each worker looks for a new version, with `postgres` or `file`. PostgreSQL also tells of each at once."""
    appconfig: AppConfigSettings = AppConfigSettings()

    @model_validator(mode="after")
    def _path_is_of_files(self) -> ConfigSettings:
        if self.path is not None and self.store != "file":
            msg = "config.path needs config.store: file"
            raise ValueError(msg)
        return self
