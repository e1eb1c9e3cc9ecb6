"""The fact store in DynamoDB, on an emulator, in the table that the template makes: the contract, and what is DynamoDB's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import REGION, client

from farthing.aws.dynamodb_facts import DynamoDbFacts
from farthing.errors import InvalidRequest, Unavailable
from farthing.facts import Most
from farthing.settings import DynamoDbSettings
from farthing.testing.aws import Ministack
from farthing.testing.facts import FactStoreContract, Minded, fact
from farthing.testing.stores import Clock

pytest_plugins = ["clouds"]
pytestmark = pytest.mark.usefixtures("as_root")

_TEMPLATE = Path(__file__).parents[3] / "deploy" / "aws" / "memory" / "template.yaml"


@pytest.fixture(scope="module")
def aws() -> Iterator[Ministack]:
    with Ministack("dynamodb,cloudformation,iam,sts") as running:
        stacks = client(running, "cloudformation")
        stacks.create_stack(StackName="farthing-memory", TemplateBody=_TEMPLATE.read_text(), Capabilities=["CAPABILITY_IAM"])
        until = time.monotonic() + 60
        while (stack := stacks.describe_stacks(StackName="farthing-memory")["Stacks"][0])["StackStatus"] != "CREATE_COMPLETE":
            assert "IN_PROGRESS" in stack["StackStatus"], stacks.describe_stack_events(StackName="farthing-memory")["StackEvents"]
            assert time.monotonic() < until
            time.sleep(0.1)
        yield running


def items(aws: Ministack) -> list[dict[str, Any]]:
    """All of the table."""
    found: list[dict[str, Any]] = client(aws, "dynamodb").scan(TableName="farthing-facts")["Items"]
    return found


def settings(aws: Ministack, **more: Any) -> DynamoDbSettings:
    return DynamoDbSettings.model_validate({"region": REGION, "endpoint_url": aws.url, "timeout_s": 20, **more})


@pytest.fixture
def minded(aws: Ministack) -> Minded:
    for item in items(aws):
        client(aws, "dynamodb").delete_item(TableName="farthing-facts", Key={name: item[name] for name in ("owner", "item")})
    clock = Clock()
    return Minded(store=DynamoDbFacts(settings(aws), most=Most(facts=5), clock=clock), clock=clock, bounds_all=False)


class TestDynamoDbFacts(FactStoreContract):
    pass


async def test_who_was_forgotten_leaves_a_note_that_ends_by_itself_and_nothing_else(minded: Minded, aws: Ministack) -> None:
    for n in range(3):
        await minded.learn(fact(minded, "city", f"canary-{n}", ago_h=9 - n))
    assert sorted(item["item"]["S"].partition("#")[0] for item in items(aws)) == ["history", "history", "profile", "user"]
    assert await minded.store.forget("acme", "ann") == 3
    (note,) = items(aws)
    assert set(note) == {"owner", "item", "erased", "seen", "ttl"}
    assert int(note["ttl"]["N"]) == int(minded.clock.now.timestamp()) + 7 * 86_400


async def test_what_has_ended_ends_by_itself_after_its_time(minded: Minded, aws: Ministack) -> None:
    store = DynamoDbFacts(settings(aws, history_s=86_400), clock=minded.clock)
    for n in range(2):
        await store.learn("acme", "ann", [fact(minded, "city", n, ago_h=9 - n)], arrived=minded.clock.now)
    ttls = {item["item"]["S"].partition("#")[0]: item.get("ttl") for item in items(aws)}
    assert ttls == {"profile": None, "user": None, "history": {"N": str(int(minded.clock.now.timestamp()) + 86_400)}}


async def test_the_largest_profile_fits_into_an_item_and_more_than_fits_is_told(minded: Minded, aws: Ministack) -> None:
    store = DynamoDbFacts(settings(aws), most=Most(facts=1000), clock=minded.clock)
    for n in range(3):
        large = [fact(minded, f"k{n}.{m}", "x" * 1000, sources=tuple(f"{n}-{m}-{s}" + "y" * 400 for s in range(5))) for m in range(150)]
        profile = await store.learn("acme", "ann", large, arrived=minded.clock.now)
    assert 50 < len(profile.facts) < 150
    assert len(await store.history("acme", "ann", key=None, limit=1000)) == 450
    many = tuple(f"{s}" + "z" * 500 for s in range(32))
    huge = [fact(minded, f"huge{m}", m, sources=many) for m in range(200)]
    with pytest.raises(InvalidRequest, match="fewer"):
        await store.learn("acme", "bob", huge, arrived=minded.clock.now)
    assert await store.profile("acme", "bob") is None


async def test_a_table_that_is_not_there_is_told(aws: Ministack) -> None:
    store = DynamoDbFacts(settings(aws, table="none"))
    with pytest.raises(Unavailable, match="deploy/aws/memory"):
        await store.profile("acme", "ann")


async def test_an_address_where_nobody_is_is_unavailable() -> None:
    store = DynamoDbFacts(DynamoDbSettings.model_validate({"region": REGION, "endpoint_url": "http://127.0.0.1:9", "timeout_s": 20}))
    with pytest.raises(Unavailable, match=r"memory\.facts\.dynamodb"):
        await store.profile("acme", "ann")
