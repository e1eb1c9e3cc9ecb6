"""Calls to AWS AppConfig, which block: run them in a thread. The data plane serves what is deployed, the control plane deploys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from farthing.aws.credentials import clients_of, need_boto
from farthing.config import MOST_BYTES, line
from farthing.errors import InvalidRequest, Unavailable
from farthing.settings import AppConfigSettings

_BACK = frozenset({"ROLLING_BACK", "ROLLED_BACK", "REVERTED"})
_UNDER_WAY = frozenset({"DEPLOYING", "BAKING", "VALIDATING"})
_MOST_DESCRIPTION = 1024
_LOOKED_AT = 20
"""Deployments among which that of a text is looked for."""
_CLEARED = 20
"""Old versions that are deleted when AWS holds no more of them."""
_CREDENTIALS = "the AWS credentials may not {}: see docs/modes-aws.md for what they need"


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment of our profile. `number` counts up in the environment; `version` is that of the hosted text."""

    number: int
    version: str
    state: str
    at: datetime


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Who deployed, and why, as it is in the deployment's description."""

    by: str = "external"
    reason: str = ""


class Clash(Exception):  # never leaves the pack
    """AWS has refused a deployment because there was another one in between."""


def clients(settings: AppConfigSettings) -> tuple[Any, Any]:
    """Of the data plane and the control plane. Raises `SettingsError` without botocore."""
    need_boto("config.store: appconfig")
    with translated("begin"):
        data, control = clients_of(settings, "appconfigdata", "appconfig")
    return data, control


class Feed:
    """What is deployed of one profile, by the rules of the data plane: each call with the token of the last one, and not too soon.

    `content` is None while nothing is deployed.
    """

    def __init__(self, client: Any, settings: AppConfigSettings, profile: str) -> None:
        self._client = client
        self._settings = settings
        self._profile = profile
        self._token: str | None = None
        self._due = 0.0
        self.content: bytes | None = None

    def forget(self) -> None:
        """Begin a new session at the next poll, which then is at once."""
        self._token = None

    def poll(self, now: float) -> None:
        """Ask for what is new, when it is time to. `now` is of a monotonic clock."""
        if self._token is not None and now < self._due:
            return
        begins = self._token is None
        with translated("read"):
            answer = self._answer()
            content = answer["Configuration"].read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise Unavailable(f"The AppConfig profile {self._profile} is larger than {MOST_BYTES} bytes.")
        self._token = answer["NextPollConfigurationToken"]
        self._due = now + float(answer["NextPollIntervalInSeconds"])
        if content or begins:  # else it is as it was
            self.content = content or None

    def _answer(self) -> Any:
        """One call. A token that is not taken any more is replaced, once; each is good for one call, whether that succeeds or not."""
        token, self._token = self._token, None
        if token is not None:
            try:
                return self._client.get_latest_configuration(ConfigurationToken=token)
            except self._client.exceptions.BadRequestException:
                pass  # it has expired, after a day
        started = self._client.start_configuration_session(
            ApplicationIdentifier=self._settings.application,
            EnvironmentIdentifier=self._settings.environment,
            ConfigurationProfileIdentifier=self._profile,
            RequiredMinimumPollIntervalInSeconds=int(self._settings.poll_s),
        )
        return self._client.get_latest_configuration(ConfigurationToken=started["InitialConfigurationToken"])


class Register:
    """The deployments of one profile, by the control plane."""

    def __init__(self, client: Any, settings: AppConfigSettings, profile: str) -> None:
        self._client = client
        self._settings = settings
        self._profile = profile
        self._place: dict[str, str] | None = None
        self._strategy: str | None = None

    def newest(self, most: int) -> tuple[int, list[Deployment]]:
        """The last number in the environment, and the newest deployments of the profile that were not rolled back, newest first."""
        last, found = 0, []
        with translated("list deployments"):
            where = self._where()
            pages = self._client.get_paginator("list_deployments").paginate(
                ApplicationId=where["ApplicationId"], EnvironmentId=where["EnvironmentId"]
            )
            for page in pages:
                for item in page["Items"]:
                    last = max(last, item["DeploymentNumber"])
                    if item["ConfigurationName"] == where["name"] and item["State"] not in _BACK:
                        found.append(_deployment(item))
                if len(found) >= most:
                    break
        return last, sorted(found, key=lambda one: -one.number)[:most]

    def of(self, content: bytes) -> tuple[Deployment, Deployment] | None:
        """The newest deployment of a text, and the newest of all; None when it is none of the last ones."""
        _, found = self.newest(_LOOKED_AT)
        return next(((one, found[0]) for one in found if self.content(one.version) == content), None)

    def content(self, version: str) -> bytes:
        """A hosted text; empty when it was deleted."""
        where = self._where()
        try:
            with translated("read versions"):
                answer = self._client.get_hosted_configuration_version(
                    ApplicationId=where["ApplicationId"], ConfigurationProfileId=where["ConfigurationProfileId"], VersionNumber=int(version)
                )
                return bytes(answer["Content"].read(MOST_BYTES + 1))
        except Missing:
            return b""

    def told(self, number: int) -> Told:
        """Who deployed, and why."""
        where = self._where()
        with translated("read deployments"):
            answer = self._client.get_deployment(
                ApplicationId=where["ApplicationId"], EnvironmentId=where["EnvironmentId"], DeploymentNumber=number
            )
        text = str(answer.get("Description") or "")
        try:
            told = msgspec.json.decode(text, type=Told)
        except (msgspec.MsgspecError, RecursionError):
            return Told(reason=line(text))
        return Told(by=line(told.by), reason=line(told.reason))

    def create(self, data: bytes) -> int:
        """Store a text, and make room for it where AWS holds no more. Its version. What deploying needs is looked up first."""
        self._strategy_id()
        try:
            return self._create(data)
        except Full:
            self._clear()
            return self._create(data)

    def _create(self, data: bytes) -> int:
        where = self._where()
        with translated("create versions"):
            answer = self._client.create_hosted_configuration_version(
                ApplicationId=where["ApplicationId"],
                ConfigurationProfileId=where["ConfigurationProfileId"],
                Content=data,
                ContentType="application/json",
            )
        return int(answer["VersionNumber"])

    def _clear(self) -> None:
        """Delete the oldest texts, but none that was deployed lately."""
        where = self._where()
        _, deployed = self.newest(_LOOKED_AT)
        kept = {one.version for one in deployed}
        with translated("list versions"):
            pages = self._client.get_paginator("list_hosted_configuration_versions").paginate(
                ApplicationId=where["ApplicationId"], ConfigurationProfileId=where["ConfigurationProfileId"]
            )
            numbers = sorted(item["VersionNumber"] for page in pages for item in page["Items"])
        for number in [number for number in numbers if str(number) not in kept][:_CLEARED]:
            self.delete(number)

    def delete(self, version: int) -> None:
        """Delete a text."""
        where = self._where()
        with translated("delete versions"):
            self._client.delete_hosted_configuration_version(
                ApplicationId=where["ApplicationId"], ConfigurationProfileId=where["ConfigurationProfileId"], VersionNumber=version
            )

    def start(self, version: int, told: Told, *, after: int) -> Deployment:
        """Deploy a text as the next one after deployment `after` of the environment. Raises `Clash`."""
        where = self._where()
        wanted: dict[str, Any] = {
            "ApplicationId": where["ApplicationId"],
            "EnvironmentId": where["EnvironmentId"],
            "ConfigurationProfileId": where["ConfigurationProfileId"],
            "ConfigurationVersion": str(version),
            "DeploymentStrategyId": self._strategy_id(),
            "Description": msgspec.json.encode(told).decode(),
        }
        if "LatestDeploymentNumber" in self._client.meta.service_model.operation_model("StartDeployment").input_shape.members:
            wanted["LatestDeploymentNumber"] = after  # an older botocore has AWS's word only: one deployment at a time
        with translated("start deployments"):
            answer = self._client.start_deployment(**wanted)
        return _deployment(answer)

    def _where(self) -> dict[str, str]:
        """The ids of what the settings may name, looked up once."""
        if self._place is None:
            names = self._settings
            with translated("list what there is"):
                application, _ = self._find("list_applications", names.application, "application")
                environment, _ = self._find("list_environments", names.environment, "environment", ApplicationId=application)
                profile, name = self._find("list_configuration_profiles", self._profile, "profile", ApplicationId=application)
            self._place = {
                "ApplicationId": application,
                "EnvironmentId": environment,
                "ConfigurationProfileId": profile,
                "name": name,
            }
        return self._place

    def _strategy_id(self) -> str:
        if self._strategy is None:
            with translated("list deployment strategies"):
                self._strategy, _ = self._find("list_deployment_strategies", self._settings.strategy, "deployment strategy")
        return self._strategy

    def _find(self, operation: str, wanted: str, what: str, **where: str) -> tuple[str, str]:
        for page in self._client.get_paginator(operation).paginate(**where):
            for item in page["Items"]:
                if wanted in {item["Id"], item["Name"]}:
                    return str(item["Id"]), str(item["Name"])
        raise Unavailable(f"AppConfig has no {what} {wanted!r}: deploy/aws/degradation makes one, or see config.appconfig.")


class Missing(Unavailable):
    """AWS knows of no such thing."""


class Full(Unavailable):
    """AWS holds no more versions."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """AWS's errors as ours. What it says itself stays in `__cause__`: it names accounts and roles."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - botocore is loaded by who uses AWS only

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        raise _translation(code, what) from error
    except (BotoCoreError, OSError) as error:
        raise Unavailable(f"AppConfig cannot be reached ({type(error).__name__}): see config.appconfig.") from error


def _translation(code: str, what: str) -> Exception:
    if code == "ConflictException":
        return Clash(code)
    if code == "PayloadTooLargeException":
        return InvalidRequest("AppConfig cannot store this: it is too large")
    if code == "ResourceNotFoundException":
        return Missing(
            f"AppConfig does not have what is needed to {what}: see config.appconfig, and deploy/aws/degradation, which makes it."
        )
    if code == "ServiceQuotaExceededException":
        return Full("AppConfig holds no more versions of the profile.")
    if "AccessDenied" in code or code in {"UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException"}:
        return Denied(f"AppConfig refuses us ({code}): {_CREDENTIALS.format(what)}.")
    return Unavailable(f"AppConfig cannot {what} now ({code}).")


class Denied(Unavailable):
    """The credentials do not suffice."""


def described(by: str, reason: str) -> Told:
    """As much of who and why as a description has room for."""
    told = Told(by=by, reason=reason)
    while len(msgspec.json.encode(told).decode()) > _MOST_DESCRIPTION:
        told = Told(by=told.by[:200], reason=told.reason[: len(told.reason) * 3 // 4])
    return told


def _deployment(item: Any) -> Deployment:
    at = item.get("StartedAt")
    at = at if isinstance(at, datetime) else datetime.fromtimestamp(time.time(), UTC)
    return Deployment(number=item["DeploymentNumber"], version=item["ConfigurationVersion"], state=item["State"], at=at.astimezone(UTC))


def under_way(deployment: Deployment) -> bool:
    """Whether AWS takes no other deployment meanwhile."""
    return deployment.state in _UNDER_WAY
