"""Places in the emulated AppConfig."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
from account import REGION, client

from farthing.settings import AppConfigSettings
from farthing.testing.aws import Ministack

_AT_ONCE = {"DeploymentDurationInMinutes": 0, "GrowthFactor": 100, "FinalBakeTimeInMinutes": 0, "ReplicateTo": "NONE"}


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An application with one environment and one profile, into which somebody deploys by hand."""

    control: Any
    application: str
    environment: str
    profile: str
    strategy: str
    settings: AppConfigSettings

    def deploy(self, content: bytes, strategy: str | None = None, **more: Any) -> int:
        """As in the console. The number of the deployment."""
        made = self.control.create_hosted_configuration_version(
            ApplicationId=self.application, ConfigurationProfileId=self.profile, Content=content, ContentType="application/json"
        )
        return self.redeploy(made["VersionNumber"], strategy, **more)

    def redeploy(self, version: int, strategy: str | None = None, **more: Any) -> int:
        """The same of a text that is there."""
        started = self.control.start_deployment(
            ApplicationId=self.application,
            EnvironmentId=self.environment,
            ConfigurationProfileId=self.profile,
            ConfigurationVersion=str(version),
            DeploymentStrategyId=strategy or self.strategy,
            **more,
        )
        return int(started["DeploymentNumber"])


def place(aws: Ministack, **settings: Any) -> Place:
    """A new one, and the only one: the emulator lists no more than 50."""
    control = client(aws, "appconfig")
    for item in control.list_applications()["Items"]:
        control.delete_application(ApplicationId=item["Id"])
    for item in control.list_deployment_strategies()["Items"]:
        if not item["Id"].startswith("AppConfig."):
            control.delete_deployment_strategy(DeploymentStrategyId=item["Id"])
    name = f"farthing-{uuid4().hex[:8]}"
    application = control.create_application(Name=name)["Id"]
    strategy = control.create_deployment_strategy(Name=f"{name}-at-once", **_AT_ONCE)["Id"]
    wanted = {
        "application": name,
        "environment": "production",
        "profile": "RAG_MODE",
        "strategy": f"{name}-at-once",
        "region": REGION,
        "endpoint_url": aws.url,
        "timeout_s": 20,
        **settings,
    }
    return Place(
        control=control,
        application=application,
        environment=control.create_environment(ApplicationId=application, Name="production")["Id"],
        profile=control.create_configuration_profile(ApplicationId=application, Name="RAG_MODE", LocationUri="hosted")["Id"],
        strategy=strategy,
        settings=AppConfigSettings.model_validate(wanted),
    )
