"""The whole way on an emulator: what is spent → CloudWatch → alarm → SNS → Lambda → AppConfig → what a gateway reads; and back.

The template of deploy/aws/degradation is deployed as it is, with the real function, zipped. Only effects are looked at.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from account import REGION, client

import farthing.aws.lambda_mode
from farthing.aws.appconfig import AppConfig
from farthing.aws.cloudwatch import CloudWatch
from farthing.modes import MODES, body_after, effective, pinned, state_of
from farthing.settings import AppConfigSettings, CloudWatchSettings
from farthing.testing.aws import Ministack
from farthing.testing.installation import Installation
from farthing.testing.upstream import completion, serve_in_thread, usage_object
from farthing.types import Mode, Principal, new_id, utc_now

pytest_plugins = ["clouds"]
pytestmark = pytest.mark.usefixtures("as_root")

_TEMPLATE = Path(__file__).parents[3] / "deploy" / "aws" / "degradation" / "template.yaml"
_SERVICES = "appconfig,appconfigdata,cloudformation,monitoring,cloudwatch,sns,lambda,s3,iam,sts,logs"
_LADDER = [Mode(name=name, rank=rank) for rank, name in enumerate(("DEEP", "SHALLOW", "SUPER_SHALLOW"))]
_AGO_S, _TICK_S = 57.0, 1.1
_HIGH, _CRITICAL = "farthing-spend-high", "farthing-spend-critical"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account with the stack."""

    aws: Ministack
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
    with Ministack(_SERVICES, environ=keys) as aws:
        s3 = client(aws, "s3")
        s3.create_bucket(Bucket="code")
        s3.put_object(Bucket="code", Key="mode.zip", Body=package())
        stacks = client(aws, "cloudformation")
        given = {"CodeBucket": "code", "CodeKey": "mode.zip", "SpendUsdPerHour": "50", "CriticalUsdPerHour": "200"}
        stacks.create_stack(
            StackName="farthing-degradation",
            TemplateBody=_TEMPLATE.read_text(),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        until = time.monotonic() + 60
        while (stack := stacks.describe_stacks(StackName="farthing-degradation")["Stacks"][0])["StackStatus"] != "CREATE_COMPLETE":
            assert "IN_PROGRESS" in stack["StackStatus"], stacks.describe_stack_events(StackName="farthing-degradation")["StackEvents"]
            assert time.monotonic() < until
            time.sleep(0.1)
        yield Account(aws=aws, outputs={one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]})


def package() -> bytes:
    """The function, as the README says to zip it."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as package:
        package.write(farthing.aws.lambda_mode.__file__, "lambda_mode.py")
    return held.getvalue()


def store_of(account: Account) -> AppConfig:
    """As a gateway has it, by the stack's outputs; each look is a new poll."""
    names = {name: account.outputs[name.capitalize()] for name in ("application", "environment", "profile", "strategy")}
    settings = AppConfigSettings.model_validate({**names, "region": REGION, "endpoint_url": account.aws.url, "timeout_s": 20})
    ticks = iter(range(0, 10**9, 1000))
    return AppConfig(settings, clock=lambda: next(ticks))


async def spends(account: Account, usd_per_hour: float, *, less: bool = False) -> None:
    """A gateway tells CloudWatch, by the real publisher. `less` than before: the emulator's alarm looks back over 60 s, and what was told
    before is so old that it counts for three more. It tells by the second when an alarm changed; a change in the second of the one before
    would count as late.
    """
    await asyncio.sleep(61 - _AGO_S if less else _TICK_S)

    async def numbers() -> dict[str, float]:
        return {"SpendUsdPerHour": usd_per_hour}

    wanted = {"mode": "put", "region": REGION, "endpoint_url": account.aws.url, "timeout_s": 20}
    publishing = CloudWatch(CloudWatchSettings.model_validate(wanted), numbers, clock=lambda: time.time() - _AGO_S)
    await publishing.publish()
    assert (publishing.published, publishing.failed) == (1, 0)


async def eventually(store: AppConfig, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The document, once it is as expected."""
    until = time.monotonic() + 30
    while True:
        document = await store.read(MODES)
        assert document is not None
        if holds(document.body):
            return document.body
        assert time.monotonic() < until, document
        await asyncio.sleep(0.1)


def mode_for(body: dict[str, Any], tenant: str = "acme") -> str:
    return effective(state_of(body), Principal(key_id=new_id(), tenant=tenant), _LADDER, utc_now()).name


async def test_spending_too_much_goes_down_and_spending_less_comes_back(account: Account) -> None:
    store = store_of(account)
    first = await store.read(MODES)
    assert first is not None
    assert (first.body, mode_for(first.body)) == ({"RAG_MODE": "DEEP"}, "DEEP")
    await spends(account, 63.5)
    body = await eventually(store, lambda body: body["RAG_MODE"] == "SHALLOW" and len(body["alarms"]) == 2)
    assert mode_for(body) == "SHALLOW"
    told = {(one.by, one.reason.partition(":")[0]) for one in await store.history(MODES, 2)}
    assert told == {("external", _HIGH), ("external", _CRITICAL)}, "each alarm tells its first state, in any order"
    await spends(account, 12.0, less=True)
    body = await eventually(store, lambda body: body["RAG_MODE"] == "DEEP")
    assert mode_for(body) == "DEEP"


async def test_far_too_much_goes_down_further_and_a_pin_of_an_operator_holds(account: Account) -> None:
    store = store_of(account)
    before = await store.read(MODES)
    assert before is not None
    state = pinned(state_of(before.body), "tenant:vip", "DEEP", by="operator:ann", reason="they pay", now=utc_now())
    await store.write(MODES, body_after(before.body, state, "DEEP"), expect=before.version, by="operator:ann", reason="they pay")
    await spends(account, 500.0)
    body = await eventually(store, lambda body: body["RAG_MODE"] == "SUPER_SHALLOW" and len(body["alarms"]) == 2)
    assert (mode_for(body), mode_for(body, "vip")) == ("SUPER_SHALLOW", "DEEP")
    await spends(account, 100.0, less=True)
    body = await eventually(store, lambda body: body["RAG_MODE"] == "SHALLOW")
    assert (mode_for(body), mode_for(body, "vip")) == ("SHALLOW", "DEEP")
    await spends(account, 1.0, less=True)
    body = await eventually(store, lambda body: body["RAG_MODE"] == "DEEP")
    assert mode_for(body) == "DEEP"


async def test_what_is_forged_or_late_changes_nothing(account: Account) -> None:
    store, sns = store_of(account), client(account.aws, "sns")
    before = await store.read(MODES)
    assert before is not None
    alarm = {
        "AlarmName": _HIGH,
        "AWSAccountId": "000000000000",
        "NewStateValue": "ALARM",
        "NewStateReason": "late",
        "StateChangeTime": (datetime.now(UTC) - timedelta(hours=1)).isoformat(),
    }
    for message in ("", "DEEP", "{}", json.dumps(alarm), json.dumps({**alarm, "AWSAccountId": "666666666666"})):
        sns.publish(TopicArn=account.outputs["Topic"], Message=message or " ")
    true = {**alarm, "StateChangeTime": datetime.now(UTC).isoformat(), "NewStateReason": "true"}
    sns.publish(TopicArn=account.outputs["Topic"], Message=json.dumps(true))
    await eventually(store, lambda body: body["RAG_MODE"] == "SHALLOW")
    document = await store.read(MODES)
    assert document is not None
    assert (document.version, document.reason) == (before.version + 1, f"{_HIGH}: true"), "one of them has changed something"


async def test_many_at_once_end_in_what_was_last(account: Account) -> None:
    """SNS promises no order, and AppConfig takes one deployment at a time."""
    store, sns = store_of(account), client(account.aws, "sns")
    begin = datetime.now(UTC)
    changes = [(name, state) for name in (_HIGH, _CRITICAL) for state in ("ALARM", "OK", "ALARM", "OK", "ALARM")]
    messages = [
        {
            "AlarmName": name,
            "AWSAccountId": "000000000000",
            "NewStateValue": state,
            "NewStateReason": "",
            "StateChangeTime": (begin + timedelta(milliseconds=number)).isoformat(),
        }
        for number, (name, state) in enumerate([*changes, (_CRITICAL, "OK")])
    ]
    for message in [*messages[::2], *messages[::-1]]:
        sns.publish(TopicArn=account.outputs["Topic"], Message=json.dumps(message))
    last = {_HIGH: messages[4]["StateChangeTime"], _CRITICAL: messages[-1]["StateChangeTime"]}
    body = await eventually(store, lambda body: {name: body["alarms"][name]["at"] for name in body["alarms"]} == last)
    assert body["RAG_MODE"] == "SHALLOW"


def test_a_gateway_that_spends_too_much_is_told_so_by_aws(account: Account) -> None:
    """A real gateway, a real ledger: it publishes what it spends, and reads what follows."""
    names = {name: account.outputs[name.capitalize()] for name in ("application", "environment", "profile", "strategy")}
    here = {"region": REGION, "endpoint_url": account.aws.url}
    folder = Path(tempfile.mkdtemp(prefix="farthing-aws-", dir="/tmp"))
    with serve_in_thread() as upstream:
        upstream.script("dear", completion("a dear word", usage=usage_object(30, 40)))
        settings = {
            "local": {"enabled": False},
            "cache": {"semantic": {"enabled": False}},
            "providers": {"up": {"kind": "openai_compatible", "base_url": upstream.base_url, "api_key": "sk-upstream"}},
            "models": {"dear": {"provider": "up", "upstream_model": "dear", "price": {"input_usd_per_1m": 1e6, "output_usd_per_1m": 1e6}}},
            "modes": {"decide": "external"},
            "config": {"store": "appconfig", "appconfig": {**names, **here}},
            "telemetry": {"cloudwatch": {"mode": "put", "every_s": 1, **here}},
        }
        try:
            with Installation(folder, settings) as farthing:
                farthing.cli("mode", "set", "DEEP", "--reason", "whatever was before")
                assert shown(farthing) == "DEEP"
                answer = httpx.post(
                    f"{farthing.base_url}/chat/completions",
                    json={"model": "dear", "messages": [{"role": "user", "content": "hello"}]},
                    headers={"authorization": f"Bearer {farthing.key}"},
                    timeout=30,
                )
                assert answer.status_code == httpx.codes.OK
                assert float(answer.headers["x-farthing-cost-usd"]) == 70
                until = time.monotonic() + 60
                while shown(farthing) != "SHALLOW":
                    assert time.monotonic() < until, (farthing.log.read_text(), shown(farthing))
                    time.sleep(0.5)
                told = json.loads(farthing.cli("mode", "history", "--limit", "5", "--json").stdout)["data"]
                assert any(one["reason"].startswith(_HIGH) for one in told)
                farthing.cli("mode", "pin", "DEEP", "--scope", "tenant:vip", "--for", "1h", "--reason", "they pay")
                assert "tenant:vip" in farthing.cli("mode", "show").stdout
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def shown(farthing: Installation) -> str:
    """What holds for everybody."""
    status, body = farthing.get("/admin/v1/mode", key=farthing.key)
    assert status == httpx.codes.OK, body
    mode: str = json.loads(body)["scopes"][0]["mode"]
    return mode
