"""Secrets from AWS Secrets Manager, for references like `${aws-secret:NAME}` and `${aws-secret:NAME#field}` in the settings."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import msgspec

from farthing.aws.credentials import need_boto
from farthing.errors import SettingsError
from farthing.settings import AwsSettings

_ATTEMPTS = 2
_EXCERPT = 300
_ARN_REGION = 3


class SecretsManager:
    """One load's view of Secrets Manager: each secret is asked for once. All calls together end within `aws.timeout_s`.

    `NAME` may be an ARN, whose region is then asked; else it is `aws.region`, else the region that AWS's own tools would take.
    """

    def __init__(self, settings: AwsSettings) -> None:
        need_boto("${aws-secret:…}")
        self._settings = settings
        self._ends = time.monotonic() + settings.timeout_s
        self._texts: dict[str, str] = {}

    def __call__(self, reference: str) -> str:
        """The secret, or one field of a secret that is a JSON object. Raises `SettingsError` that names it."""
        name, _, field = reference.partition("#")
        if name not in self._texts:
            self._texts[name] = self._within_the_deadline(name)
        return _field(self._texts[name], name, field) if field else self._texts[name]

    def _within_the_deadline(self, name: str) -> str:
        """Ask in a thread that is left behind when it takes too long: credentials may come from a program that hangs."""
        outcome: list[str | SettingsError] = []

        def ask() -> None:
            try:
                outcome.append(_ask(self._settings, name))
            except SettingsError as error:
                outcome.append(error)

        thread = threading.Thread(target=ask, name="AWS Secrets Manager", daemon=True)
        thread.start()
        thread.join(max(self._ends - time.monotonic(), 0))
        if not outcome:
            raise SettingsError(
                f"AWS Secrets Manager did not give the secret {name!r} within aws.timeout_s ({self._settings.timeout_s:g} s)"
            )
        found = outcome[0]
        if isinstance(found, SettingsError):
            raise found
        return found


def _ask(settings: AwsSettings, name: str) -> str:
    from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError  # noqa: PLC0415 - loaded by who uses AWS only

    try:
        text = _get(settings, name).get("SecretString")
    except ClientError as error:
        said = error.response.get("Error", {})
        why = f"{said.get('Code')}: {said.get('Message')}"
        raise SettingsError(f"AWS Secrets Manager does not give the secret {name!r}: {why[:_EXCERPT]}") from None
    except CredentialRetrievalError as error:  # its text is what a program printed
        raise SettingsError(f"no credentials to get the secret {name!r} with: {type(error).__name__}") from None
    except (BotoCoreError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(f"the secret {name!r} cannot be had from AWS Secrets Manager: {why[:_EXCERPT]}") from None
    if not text:
        raise SettingsError(f"the secret {name!r} in AWS Secrets Manager has no text (SecretString)")
    return str(text)


def _get(settings: AwsSettings, name: str) -> dict[str, Any]:
    """The answer of GetSecretValue."""
    from botocore.config import Config  # noqa: PLC0415 - botocore is loaded by who uses AWS only
    from botocore.session import Session  # noqa: PLC0415 - the same

    session = Session(profile=settings.profile)
    region = _region(settings, name) or session.get_config_variable("region") or os.environ.get("AWS_REGION")
    if not region:
        raise SettingsError(f"nobody knows the region of the secret {name!r}: set aws.region or AWS_REGION, or give its ARN")
    patience = settings.timeout_s / _ATTEMPTS
    config = Config(connect_timeout=patience, read_timeout=patience, retries={"total_max_attempts": _ATTEMPTS})
    client = session.create_client("secretsmanager", region_name=region, endpoint_url=settings.endpoint_url, config=config)
    try:
        answer: dict[str, Any] = client.get_secret_value(SecretId=name)
    finally:
        client.close()
    return answer


def _region(settings: AwsSettings, name: str) -> str | None:
    parts = name.split(":")
    return parts[_ARN_REGION] if name.startswith("arn:") and len(parts) > _ARN_REGION else settings.region


def _field(text: str, name: str, field: str) -> str:
    try:
        whole: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        whole = None
    if not isinstance(whole, dict):
        raise SettingsError(f"the secret {name!r} is not a JSON object, so it has no field {field!r}")
    value = whole.get(field)
    if type(value) is int:
        return str(value)
    if field not in whole:
        raise SettingsError(f"the secret {name!r} has no field {field!r} among its fields: {', '.join(sorted(whole)) or 'none'}")
    if not isinstance(value, str) or not value:
        raise SettingsError(f"the secret {name!r} has a field {field!r} that is no text")
    return value
