"""The edge store in CloudFront KeyValueStore and S3, on an emulator: the contract, and what is particular to it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from account import REGION, client
from stacks import deployed

from farthing.aws.calls import AwsCalls
from farthing.aws.edge_codec import MOST_VALUE, answer_key, erasure_key, version_key
from farthing.aws.edge_kv import CloudFrontEdge
from farthing.aws.edge_values import KeyValues
from farthing.errors import SettingsError, Unavailable
from farthing.settings.edge_aws import CloudFrontSettings
from farthing.testing.aws import Ministack
from farthing.testing.edge import Edge, EdgeStoreContract, edge_answer
from farthing.testing.edge_function import played, token
from farthing.testing.stores import Clock

pytestmark = pytest.mark.usefixtures("as_root")

pytest_plugins = ["clouds"]
_FUNCTION = Path(__file__).parents[3] / "deploy" / "aws" / "edge" / "function.js"
_NAME = "tested-edge"
_ORIGIN = "farthing.example.com"
_KEY = "a key of thirty-two bytes or more, by chance"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account with the stack."""

    aws: Ministack
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def account(cloud: Ministack) -> Account:
    return Account(aws=cloud, outputs=deployed(cloud, "edge", Name=_NAME, OriginDomain=_ORIGIN))


@pytest.fixture
def settings(account: Account) -> CloudFrontSettings:
    """Of a store of one's own, and the bucket of all."""
    made = client(account.aws, "cloudfront").create_key_value_store(Name=f"edge-{uuid4().hex[:8]}")["KeyValueStore"]
    wanted = {"store": made["ARN"], "bucket": account.outputs["Bucket"], "region": REGION, "endpoint_url": account.aws.url, "timeout_s": 20}
    return CloudFrontSettings.model_validate(wanted)


@pytest.fixture(scope="module")
def clients() -> dict[str, Any]:
    """Those that AWS is called by, for all tests: making them takes longer than most of these do."""
    return {}


@pytest.fixture
def edge(settings: CloudFrontSettings, clients: dict[str, Any]) -> Edge:
    clock = Clock()
    store = CloudFrontEdge(settings, now=clock)
    store._calls._clients = clients
    return Edge(store=store, clock=clock)


class TestCloudFrontEdge(EdgeStoreContract):
    schedules = 8


def values(settings: CloudFrontSettings) -> dict[str, str]:
    """All that there is."""
    return KeyValues(AwsCalls(settings, "", ""), str(settings.store)).all()


def objects(account: Account, settings: CloudFrontSettings) -> list[str]:
    found = client(account.aws, "s3").list_objects_v2(Bucket=settings.bucket).get("Contents", [])
    return [one["Key"] for one in found]


async def test_what_is_stored_is_what_the_function_answers(account: Account, edge: Edge, settings: CloudFrontSettings) -> None:
    await edge.store.bump("acme", ["deployments"])
    now = edge.clock.now + timedelta(minutes=1)
    assert await edge.store.put(edge_answer(edge.clock, versions={"deployments": 1}))
    assert await edge.store.put(
        edge_answer(edge.clock, action="long", versions={"deployments": 1}, body={"content": "x" * 5000, "format": "text"})
    )
    held = {**values(settings), "k.2026": _KEY}
    await edge.store.bump("acme", ["deployments"])
    after = {**values(settings), "k.2026": _KEY}
    told = {
        "method": "GET",
        "cookie": token({"tenant": "acme", "sub": "ann", "exp": now.timestamp() + 60}, key=_KEY, kid="2026"),
        "headers": {},
    }
    cases = [
        {"name": name, "now_ms": int(now.timestamp() * 1000), "values": there, "request": {**told, "uri": f"/edge/{action}"}}
        for name, there, action in (
            ("short", held, "briefing"),
            ("long", held, "long"),
            ("stale", after, "briefing"),
            ("gone", after, "long"),
        )
    ]
    short, long, stale, gone = played(_FUNCTION, cases)
    assert json.loads(short["out"]["body"]["data"]) == {"content": "All is well."}
    assert long["origin"] == "answers"
    held_there = client(account.aws, "s3").get_object(Bucket=settings.bucket, Key=long["out"]["uri"].removeprefix("/"))
    assert held_there["Body"].read() == b"x" * 5000
    assert (held_there["ContentType"], held_there["CacheControl"]) == ("text/plain; charset=utf-8", "private, no-cache")
    assert [one["out"]["uri"] for one in (stale, gone)] == ["/edge/briefing", "/edge/long"], "both go to the origin"


async def test_writers_in_many_processes_lose_nothing_to_each_other(edge: Edge, settings: CloudFrontSettings) -> None:
    stores = [CloudFrontEdge(settings, now=edge.clock) for _ in range(3)]
    work = [store.bump("acme", ["s"]) for store in stores for _ in range(5)]
    work += [store.put(edge_answer(edge.clock, user=f"u{index}", versions={})) for index, store in enumerate(stores)]  # type: ignore[misc]
    await asyncio.gather(*work)
    assert await edge.store.versions("acme", ["s"]) == {"s": 15}
    assert all([await edge.store.get("acme", f"u{index}", "briefing") is not None for index in range(3)])


async def test_an_answer_is_not_stored_when_a_state_changes_in_the_middle_of_it(edge: Edge, settings: CloudFrontSettings) -> None:
    other = CloudFrontEdge(settings, now=edge.clock)
    for _ in range(5):
        versions = await edge.store.versions("acme", ["s"])
        stored, _ = await asyncio.gather(edge.store.put(edge_answer(edge.clock, versions=versions)), other.bump("acme", ["s"]))
        assert await edge.store.get("acme", "ann", "briefing") is None, f"stored before the change: {stored}"


async def test_a_body_in_s3_is_forgotten_with_its_answer(account: Account, edge: Edge, settings: CloudFrontSettings) -> None:
    for user in ("forgotten", "kept"):
        assert await edge.store.put(edge_answer(edge.clock, user=user, body={"content": "canary-9216" * 200}))
    assert len([key for key in objects(account, settings) if key.startswith(_prefix("acme", "forgotten"))]) == 1
    edge.clock.now += timedelta(seconds=1)
    assert await edge.store.forget("acme", "forgotten") == 1
    left = objects(account, settings)
    assert not [key for key in left if key.startswith(_prefix("acme", "forgotten"))]
    assert [key for key in left if key.startswith(_prefix("acme", "kept"))]


def _prefix(tenant: str, user: str) -> str:
    return answer_key(tenant, user, "").rpartition(".")[0].replace(".", "/") + "/"


async def test_without_a_bucket_only_what_fits_is_stored(settings: CloudFrontSettings) -> None:
    clock = Clock()
    store = CloudFrontEdge(settings.model_copy(update={"bucket": None}), now=clock)
    assert not await store.put(edge_answer(clock, body={"content": "x" * MOST_VALUE}))
    assert await store.put(edge_answer(clock))


async def test_a_store_that_is_full_makes_room_by_age(settings: CloudFrontSettings) -> None:
    clock = Clock()
    store = CloudFrontEdge(settings.model_copy(update={"max_bytes": 10_000}), now=clock)
    for number in range(14):
        clock.now += timedelta(seconds=1)
        assert await store.put(edge_answer(clock, user=f"u{number}", body={"content": "x" * 600}))
    there = values(settings)
    assert sum(len(key) + len(value) for key, value in there.items()) <= 10_000
    assert await store.get("acme", "u13", "briefing") is not None
    assert await store.get("acme", "u0", "briefing") is None


@pytest.mark.parametrize("broken", ["{", "", '{"e": 1}', '{"e":9e15,"t":1,"v":{},"r":"x","m":"m"}\n{}', "[" * 500])
async def test_a_value_that_is_none_of_ours_is_no_answer_and_is_written_over(edge: Edge, settings: CloudFrontSettings, broken: str) -> None:
    kvs = KeyValues(AwsCalls(settings, "", ""), str(settings.store))
    kvs.change(lambda: {answer_key("acme", "ann", "briefing"): broken}, 0)
    assert await edge.store.get("acme", "ann", "briefing") is None
    assert await edge.store.put(edge_answer(edge.clock))
    assert await edge.store.get("acme", "ann", "briefing") is not None


async def test_old_erasures_go_and_versions_stay(edge: Edge, settings: CloudFrontSettings) -> None:
    await edge.store.bump("acme", ["s"])
    await edge.store.forget("acme", "ann")
    edge.clock.now += timedelta(days=6)
    await edge.store.prune(10)
    assert set(values(settings)) == {version_key("acme", "s"), erasure_key("acme", "ann")}
    edge.clock.now += timedelta(days=2)
    await edge.store.prune(10)
    assert set(values(settings)) == {version_key("acme", "s")}


async def test_a_store_that_is_not_there_is_told(settings: CloudFrontSettings) -> None:
    gone = settings.model_copy(update={"store": str(settings.store) + "-gone"})
    store = CloudFrontEdge(gone)
    clock = Clock()
    for call in (store.get("acme", "ann", "briefing"), store.put(edge_answer(clock)), store.bump("acme", ["s"])):
        with pytest.raises(Unavailable, match=r"edge-aws\.md"):
            await call
    with pytest.raises(SettingsError, match="ARN"):
        CloudFrontEdge(CloudFrontSettings())


def test_the_stack_runs_the_function_with_the_store(account: Account) -> None:
    cloudfront = client(account.aws, "cloudfront")
    name = account.outputs["Function"]
    code = cloudfront.get_function(Name=name, Stage="LIVE")["FunctionCode"].read().decode()
    assert code.strip() == _FUNCTION.read_text().strip()
    config = cloudfront.describe_function(Name=name, Stage="LIVE")["FunctionSummary"]["FunctionConfig"]
    assert config["Runtime"] == "cloudfront-js-2.0"
    assert [one["KeyValueStoreARN"] for one in config["KeyValueStoreAssociations"]["Items"]] == [account.outputs["Store"]]
    (distribution,) = [one for one in cloudfront.list_distributions()["DistributionList"]["Items"] if one["Comment"] == _NAME]
    assert {one["Id"]: one["DomainName"] for one in distribution["Origins"]["Items"]}["gateway"] == _ORIGIN
    (associated,) = distribution["DefaultCacheBehavior"]["FunctionAssociations"]["Items"]
    assert (associated["EventType"], associated["FunctionARN"].rpartition("/")[2]) == ("viewer-request", name)
