"""A real gateway with its events and its edge on an emulated AWS: what is told becomes facts, and answers at the edge that die in time."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from account import REGION, client
from stacks import deployed

from farthing.aws.calls import AwsCalls
from farthing.aws.edge_values import KeyValues
from farthing.settings import CloudFrontSettings
from farthing.testing.aws import Ministack
from farthing.testing.edge_function import played, token
from farthing.testing.installation import Installation
from farthing.testing.upstream import completion, serve_in_thread, usage_object

pytest_plugins = ["clouds"]
_FUNCTION = Path(__file__).parents[3] / "deploy" / "aws" / "edge" / "function.js"
_KEY = "a key of thirty-two bytes or more, by chance"
_BATCH = "application/cloudevents-batch+json"


class House(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway, and the account that it is in. `key` is of the tenant acme."""

    farthing: Installation
    aws: Ministack
    bus: str
    edge: CloudFrontSettings
    key: str

    def tell(self, *types: str) -> None:
        """Events of Ann, at the door."""
        common = {"specversion": "1.0", "source": "/app", "user": "ann", "data": {"page": "/deploys"}}
        told = [{**common, "id": f"{type_}-{number}", "type": type_} for number, type_ in enumerate(types)]
        headers = {"authorization": f"Bearer {self.key}", "content-type": _BATCH}
        answer = httpx.post(f"{self.farthing.base_url}/events", content=json.dumps(told), headers=headers, timeout=20)
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        assert answer.json()["accepted"] == len(told)

    def put(self, source: str, detail: dict[str, Any]) -> None:
        """An event of another system, by EventBridge."""
        entry = {"Source": source, "DetailType": "Told", "Detail": json.dumps(detail), "EventBusName": self.bus}
        assert client(self.aws, "events").put_events(Entries=[entry])["FailedEntryCount"] == 0

    def click(self, action: str) -> dict[str, Any]:
        """What the function makes of Ann's click, from what is in the store now."""
        values = {**KeyValues(AwsCalls(self.edge, "", ""), str(self.edge.store)).all(), "k.1": _KEY}
        cookie = token({"tenant": "acme", "sub": "ann", "exp": time.time() + 60}, key=_KEY, kid="1")
        request = {"method": "GET", "uri": f"/edge/{action}", "headers": {}, "cookie": cookie}
        (one,) = played(_FUNCTION, [{"name": action, "now_ms": int(time.time() * 1000), "values": values, "request": request}])
        out: dict[str, Any] = one["out"]
        return out

    def eventually(self, what: Callable[[], Any]) -> Any:
        """Its value, once it has one."""
        until = time.monotonic() + 40
        while not (found := what()):
            assert time.monotonic() < until, self.farthing.log.read_text()[-3000:]
            time.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def house(cloud: Ministack) -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="farthing-aws-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch, serve_in_thread() as upstream:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        events, edge = (
            deployed(cloud, "events", Prefix="gateway"),
            deployed(cloud, "edge", Name="gateway", OriginDomain="farthing.example.com"),
        )
        here = {"region": REGION, "endpoint_url": cloud.url}
        stores = {"store": edge["Store"], "bucket": edge["Bucket"], **here}
        bus = {"prefix": "gateway", "table": events["Table"], "bus": events["Bus"]}
        inbound = [{"source": "web", "tenant": "acme", "user": "detail.user", "type": "error.500"}]
        inbound += [{"source": "ci", "tenant": "acme", "type": "deployment.failed"}]
        upstream.script("cheap", completion("All is well.", usage=usage_object(30, 4)))
        action = {"after": ["user.login"], "model": "cheap", "user": "What happened?", "depends_on": ["deployments"]}
        settings = {
            "local": {"enabled": False},
            "cache": {"semantic": {"enabled": False}},
            "providers": {"up": {"kind": "openai_compatible", "base_url": upstream.base_url, "api_key": "sk-upstream"}},
            "models": {"cheap": {"provider": "up", "upstream_model": "cheap", "price": {"input_usd_per_1m": 1, "output_usd_per_1m": 1}}},
            "events": {"bus": "aws", "poll_s": 0.2, "aws": {**bus, "inbox": events["Inbox"], "inbound": inbound, **here}},
            "foresight": {
                "edge": {"store": "cloudfront", "cloudfront": stores},
                "states": {"deployments": {"types": ["deployment.*"]}},
                "actions": {"briefing": action, "long": {**action, "user": "Tell me all."}},
            },
        }
        try:
            with Installation(folder, settings) as farthing:
                made = json.loads(farthing.cli("key", "create", "--tenant", "acme", "--json").stdout)
                yield House(
                    farthing=farthing, aws=cloud, bus=events["Bus"], edge=CloudFrontSettings.model_validate(stores), key=made["key"]
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def test_errors_told_at_the_door_and_by_eventbridge_become_a_fact_without_a_model(house: House) -> None:
    def facts() -> list[dict[str, Any]]:
        answer = httpx.get(f"{house.farthing.base_url}/memory/ann", headers={"authorization": f"Bearer {house.key}"}, timeout=20)
        found: list[dict[str, Any]] = answer.json()["facts"]
        return found

    house.tell("error.500", "error.500")
    house.put("web", {"user": "ann", "page": "/deploys"})
    assert all(fact["by"].startswith("rule") for fact in house.eventually(facts))
    assert "error.500" in house.farthing.cli("events", "tail").stdout


def test_a_login_puts_answers_at_the_edge_and_a_deployment_takes_them_away(house: House) -> None:
    house.tell("user.login")
    for action in ("briefing", "long"):
        out = house.eventually(partial(_answered, house, action))
        assert (out["statusCode"], out["body"]["data"]) == (200, "All is well.")
        assert out["headers"]["x-farthing-source"]["value"] == "edge"
    house.put("ci", {"project": "web"})
    house.eventually(lambda: "statusCode" not in house.click("briefing"))
    assert house.click("long")["querystring"]["user"]["value"] == "ann", "the gateway is asked, and told by whom"


def _answered(house: House, action: str) -> dict[str, Any] | None:
    out = house.click(action)
    return out if "statusCode" in out else None
