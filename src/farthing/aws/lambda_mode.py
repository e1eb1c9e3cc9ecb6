"""The function between a CloudWatch alarm and the mode: SNS invokes it, and it deploys `{"RAG_MODE": …}` in AWS AppConfig.

It stands alone: this file, zipped, is the whole deployment package (deploy/aws/degradation), and boto3 is in the runtime. Beside the flag
the document holds the state of each alarm and since when, so that what SNS delivers twice, late or in the wrong order changes nothing that
it should not, and so that of several alarms the worst one counts. Other fields (pins of operators) stay as they are.

Environment:
    APPLICATION_ID, ENVIRONMENT_ID, PROFILE_ID, PROFILE_NAME, STRATEGY_ID   of AppConfig
    TOPIC_ARN   of the topic that alone is listened to
    OK_MODE     the mode while no alarm is on, the best one: DEEP
    ALARMS      JSON: the mode while an alarm is on, by the alarm's name; the one named last is the worst
    ACCOUNT_ID  of the account whose alarms these are
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_log = logging.getLogger("farthing.lambda_mode")
_FLAG = "RAG_MODE"
_TRIES = 8
_PAUSE_S = 0.5
_MOST_MESSAGE = 64 * 1024
_MOST_BYTES = 64 * 1024
_AHEAD = timedelta(minutes=5)
_BACK = frozenset({"ROLLING_BACK", "ROLLED_BACK", "REVERTED"})
_LOOKED_AT = 50
_CLEARED = 20

Json = dict[str, Any]


class NotForUsError(Exception):
    """What was delivered is nothing that a mode follows from. It is logged and not delivered again."""


def handler(event: Any, context: object) -> Json:
    """Lambda's entry. Says for each record what was done. Raises when AppConfig cannot be changed, so that Lambda tries again."""
    del context
    done = []
    for record in event.get("Records", []) if isinstance(event, dict) else []:
        try:
            alarm = alarm_in(record, os.environ, datetime.now(UTC))
        except NotForUsError as reason:
            _log.warning("ignored: %s", reason)
            done.append({"ignored": str(reason)})
        else:
            done.append(_apply(alarm, os.environ))
    return {"done": done}


def alarm_in(record: Any, environ: Mapping[str, str], now: datetime) -> Json:
    """`name`, `state`, `at` and `why` of an alarm's message. Raises `NotForUsError` for anything else."""
    if not isinstance(record, dict) or record.get("EventSource") != "aws:sns" or not isinstance(record.get("Sns"), dict):
        raise NotForUsError("no message of SNS")
    if record["Sns"].get("TopicArn") != environ["TOPIC_ARN"]:
        raise NotForUsError("a message of another topic")
    text = record["Sns"].get("Message")
    if not isinstance(text, str) or len(text) > _MOST_MESSAGE:
        raise NotForUsError("no message of an alarm")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise NotForUsError("no JSON") from None
    if not isinstance(message, dict) or not _is_ours(message, environ):
        raise NotForUsError("no alarm of ours")
    state = message.get("NewStateValue")
    if state not in ("ALARM", "OK"):  # without data nobody knows: the mode stays
        raise NotForUsError(f"nothing follows from the state {str(state)[:32]}")
    return {"name": message["AlarmName"], "state": state, "at": _instant(message.get("StateChangeTime"), now), "why": _reason(message)}


def _is_ours(message: Json, environ: Mapping[str, str]) -> bool:
    name, account, arn = message.get("AlarmName"), message.get("AWSAccountId"), message.get("AlarmArn")
    if not isinstance(name, str) or name not in json.loads(environ["ALARMS"]) or account != environ["ACCOUNT_ID"]:
        return False
    return arn is None or str(arn).endswith(f":{account}:alarm:{name}")


def _instant(text: Any, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        at = at.astimezone(UTC) if at.tzinfo is not None else now + 2 * _AHEAD
    except (TypeError, ValueError, OverflowError):
        raise NotForUsError("no time of the change") from None
    if at > now + _AHEAD:  # one from the future would make all that follow look late
        raise NotForUsError("a time of the change that cannot be")
    return at


def _reason(message: Json) -> str:
    name, reason = (str(message.get(field, "")) for field in ("AlarmName", "NewStateReason"))
    return "".join(c if c.isprintable() else " " for c in f"{name[:100]}: {reason[:300]}")


def document_after(before: Json, alarm: Json, environ: Mapping[str, str]) -> Json | None:
    """The document once an alarm has changed; None when it was known to have changed since, or to have changed so."""
    modes: dict[str, str] = json.loads(environ["ALARMS"])
    states = before.get("alarms")
    known = {name: one for name, one in states.items() if name in modes} if isinstance(states, dict) else {}
    if (since := _since(known.get(alarm["name"]))) is not None and since >= alarm["at"]:
        return None
    known[alarm["name"]] = {"state": alarm["state"], "at": alarm["at"].isoformat()}
    on = [mode for name, mode in modes.items() if isinstance(known.get(name), dict) and known[name].get("state") == "ALARM"]
    return {**before, _FLAG: on[-1] if on else environ["OK_MODE"], "alarms": known}


def _since(known: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(known["at"])
    except (TypeError, KeyError, ValueError):
        return None
    return at if at.tzinfo is not None else None


def _apply(alarm: Json, environ: Mapping[str, str]) -> Json:
    import boto3  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - so that the rest is tested without

    client = boto3.client("appconfig")
    version: int | None = None
    for number in range(_TRIES):
        last, before = _deployed(client, environ)
        after = document_after(before, alarm, environ)
        if after is None:
            return {"unchanged": "late, or delivered twice"}
        try:
            version = _create(client, environ, after)
            _start(client, environ, version, alarm, after=last)
        except client.exceptions.ConflictException:  # somebody else deploys: what is there must be read again
            if version is not None:
                client.delete_hosted_configuration_version(**_profile(environ), VersionNumber=version)
                version = None
            time.sleep(_PAUSE_S * (number + 1))
        else:
            _log.warning("%s: %s is %s", alarm["why"], _FLAG, after[_FLAG])
            return {"deployed": after[_FLAG]}
    raise TimeoutError("AppConfig was busy with other deployments")


def _deployed(client: Any, environ: Mapping[str, str]) -> tuple[int, Json]:
    """The number of the environment's last deployment, and the document that is deployed; empty when that is none."""
    last, newest = 0, None
    for page in client.get_paginator("list_deployments").paginate(**_environment(environ)):
        for item in page["Items"]:
            last = max(last, item["DeploymentNumber"])
            ours = item["ConfigurationName"] == environ["PROFILE_NAME"] and item["State"] not in _BACK
            if ours and (newest is None or item["DeploymentNumber"] > newest["DeploymentNumber"]):
                newest = item
    if newest is None:
        return last, {}
    answer = client.get_hosted_configuration_version(**_profile(environ), VersionNumber=int(newest["ConfigurationVersion"]))
    try:
        document = json.loads(answer["Content"].read(_MOST_BYTES))
    except (ValueError, RecursionError):
        return last, {}
    return last, document if isinstance(document, dict) else {}


def _create(client: Any, environ: Mapping[str, str], document: Json) -> int:
    wanted = {**_profile(environ), "Content": json.dumps(document).encode(), "ContentType": "application/json"}
    try:
        return int(client.create_hosted_configuration_version(**wanted)["VersionNumber"])
    except client.exceptions.ServiceQuotaExceededException:
        _clear(client, environ)
        return int(client.create_hosted_configuration_version(**wanted)["VersionNumber"])


def _clear(client: Any, environ: Mapping[str, str]) -> None:
    """Delete the oldest versions, but none that was deployed lately."""
    deployed = [item for page in client.get_paginator("list_deployments").paginate(**_environment(environ)) for item in page["Items"]]
    lately = sorted(deployed, key=lambda item: -item["DeploymentNumber"])[:_LOOKED_AT]
    kept = {item["ConfigurationVersion"] for item in lately}
    pages = client.get_paginator("list_hosted_configuration_versions").paginate(**_profile(environ))
    numbers = sorted(item["VersionNumber"] for page in pages for item in page["Items"])
    for number in [number for number in numbers if str(number) not in kept][:_CLEARED]:
        client.delete_hosted_configuration_version(**_profile(environ), VersionNumber=number)


def _start(client: Any, environ: Mapping[str, str], version: int, alarm: Json, *, after: int) -> None:
    wanted: Json = {
        **_environment(environ),
        "ConfigurationProfileId": environ["PROFILE_ID"],
        "ConfigurationVersion": str(version),
        "DeploymentStrategyId": environ["STRATEGY_ID"],
        "Description": json.dumps({"by": "external", "reason": alarm["why"]}, ensure_ascii=False),
    }
    if "LatestDeploymentNumber" in client.meta.service_model.operation_model("StartDeployment").input_shape.members:
        wanted["LatestDeploymentNumber"] = after  # the runtime's boto3 may be older; AWS still takes one deployment at a time
    client.start_deployment(**wanted)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {"ApplicationId": environ["APPLICATION_ID"], "EnvironmentId": environ["ENVIRONMENT_ID"]}


def _profile(environ: Mapping[str, str]) -> dict[str, str]:
    return {"ApplicationId": environ["APPLICATION_ID"], "ConfigurationProfileId": environ["PROFILE_ID"]}
