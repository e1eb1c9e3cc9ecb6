"""The event bus on DynamoDB, SQS and EventBridge, on an emulator: what is particular to it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from account import REGION, client
from stacks import deployed

from farthing.aws.event_inbox import Inbox
from farthing.aws.eventbridge import EventBridgeBus
from farthing.errors import BodyTooLarge, Unavailable
from farthing.settings.events_aws import AwsEventSettings
from farthing.testing.aws import Ministack
from farthing.testing.events import DeliveryContract, EventRig
from farthing.testing.events_kept import EventStoreContract
from farthing.types import Delivery, Event, Subscription, utc_now

pytestmark = pytest.mark.usefixtures("as_root")

pytest_plugins = ["clouds"]
_MOST = 100_000


@pytest.fixture
def aws(cloud: Ministack) -> Ministack:
    return cloud


@pytest.fixture
def settings(aws: Ministack) -> AwsEventSettings:
    prefix = f"f{uuid4().hex[:8]}"
    made = deployed(aws, "events", Prefix=prefix)
    wanted = {"prefix": prefix, "table": made["Table"], "bus": made["Bus"], "region": REGION, "endpoint_url": aws.url, "timeout_s": 30}
    return AwsEventSettings.model_validate(wanted)


@pytest.fixture(scope="module")
def clients() -> dict[str, Any]:
    """Those that AWS is called by, for all tests: making them takes longer than most of these do."""
    return {}


@pytest.fixture
def bus(settings: AwsEventSettings, clients: dict[str, Any]) -> EventBridgeBus:
    return _bus(settings, clients)


def _bus(settings: AwsEventSettings, clients: dict[str, Any], **how: Any) -> EventBridgeBus:
    made = EventBridgeBus(settings, **{"max_backlog": _MOST, **how})
    made._calls._clients = clients
    return made


@pytest.fixture
def rig(request: pytest.FixtureRequest, settings: AwsEventSettings, clients: dict[str, Any]) -> EventRig:
    """SQS has whole seconds, and they pass in no other way than by waiting: leases are short where a test waits for their end."""
    bus = _bus(settings, clients)
    slow = any(part in request.node.name for part in ("taker_died", "can_be_kept", "again_at_its_time", "more_of_a_lane"))

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds if slow else 0.02)

    async def versions(tenant: str, names: Sequence[str]) -> dict[str, int]:
        return bus._table.versions(tenant, names)

    return EventRig(
        bus=bus,
        other=_bus(settings, clients),
        crowded=_bus(settings, clients, max_backlog=9, counted_for_s=0),
        changes=None,
        versions=versions,
        now=utc_now,
        wait=wait,
        lease_s=2 if slow else 60,
        flood=300,
        same_batch_again=False,
        counts_exactly=False,
        positions_of_many=False,
        prunes_each=False,
        lanes_rotate=False,
    )


class TestDelivery(DeliveryContract):
    pass


class TestKept(EventStoreContract):
    pass


def event(id_: str, **more: Any) -> Event:
    now = utc_now()
    told: dict[str, Any] = {"source": "/app", "type": "page.viewed", "tenant": "acme", "time": now, "received_at": now, **more}
    return Event(id=id_, **told)


def ids(deliveries: list[Delivery]) -> list[list[str]]:
    return sorted([each.id for each in delivery.events] for delivery in deliveries)


async def taken(bus: EventBridgeBus, handler: str = "h", *, lanes: int = 10, lease_s: float = 30) -> list[Delivery]:
    """Once there is anything: SQS counts in seconds."""
    until = time.monotonic() + 10
    while not (found := await bus.take(handler, lanes=lanes, lease_s=lease_s)):
        assert time.monotonic() < until
        await asyncio.sleep(0.1)
    return found


async def test_a_publish_that_broke_off_before_the_queues_is_finished_by_the_next(bus: EventBridgeBus) -> None:
    await bus.subscribe([Subscription(handler="h", types=("*",))])
    await bus.publish([event("0", subject="other")])
    url = bus._queues._urls["h"]
    bus._queues._urls["h"] = url + "-gone"
    with pytest.raises(Exception, match="does not have what is needed"):
        await bus.publish([event("1")])
    bus._queues._urls["h"] = url
    assert await bus.publish([event("1")]) == [False], "it was stored"
    assert ids(await taken(bus)) == [["0"], ["1"]]
    assert await bus.publish([event("1")]) == [False]


async def test_forgetting_reaches_events_dead_letters_and_what_waits(bus: EventBridgeBus, aws: Ministack) -> None:
    await bus.subscribe([Subscription(handler="h", types=("*",))])
    late = event("late", user="ann", data="canary-7351")
    await bus.publish([event("1", user="ann", data="canary-7351"), event("2", user="ann", data="canary-7351"), event("3", user="bob")])
    (first, *_) = await taken(bus, lanes=1)
    await bus.failed(first, "bad", None)
    assert await bus.forget("acme", "ann") == 2
    await bus.publish([late])
    assert ids(await taken(bus)) == [["3"]], "what waited is gone too"
    assert [each.id for each in await bus.tail(tenant="acme", after=-1, limit=9)] == ["3"]
    everything = str(client(aws, "dynamodb").scan(TableName=bus._table._name)["Items"])
    assert "canary-7351" not in everything
    assert "ann" not in everything
    await bus.publish([event("new", user="ann")])
    assert ids(await taken(bus)) == [["new"]]
    assert await bus.forget("acme", None) == 2
    assert await bus.tail(tenant="acme", after=-1, limit=9) == []


async def test_tail_and_prune_follow_positions(bus: EventBridgeBus) -> None:
    await bus.publish([event(str(n), tenant="ab"[n % 2]) for n in range(50)])
    assert [each.id for each in await bus.tail(tenant=None, after=-1, limit=3)] == ["47", "48", "49"]
    assert [each.id for each in await bus.tail(tenant="a", after=10, limit=3)] == ["10", "12", "14"]
    assert await bus.prune(utc_now() - timedelta(hours=1), max_rows=20) == 30
    assert [each.id for each in await bus.tail(tenant=None, after=0, limit=1)] == ["30"]
    assert await bus.prune(utc_now() + timedelta(hours=1), max_rows=20) == 20
    assert await bus.tail(tenant=None, after=0, limit=1) == []
    assert await bus.publish([event("7", tenant="b")]) == [False], "names are remembered"


async def test_events_of_other_systems_become_events_of_the_tenant_in_the_settings(settings: AwsEventSettings, aws: Ministack) -> None:
    routes = [{"source": "shop.*", "tenant": "acme", "user": "detail.customer.id", "subject": "detail.order"}]
    bus = EventBridgeBus(settings, max_backlog=_MOST)
    await bus.subscribe([Subscription(handler="h", types=("shop.*",))])
    inbox = Inbox(_with(settings, inbox=f"{settings.prefix}-inbox", inbound=routes, timeout_s=4), bus.publish)
    detail = {"order": 71, "customer": {"id": "ann"}, "tenant": "evil"}
    told = [
        {"Source": "shop.web", "DetailType": "Order Placed", "Detail": json.dumps(detail), "EventBusName": settings.bus},
        {"Source": "hr", "DetailType": "Hired", "Detail": "{}", "EventBusName": settings.bus},
    ]
    assert client(aws, "events").put_events(Entries=told)["FailedEntryCount"] == 0
    sqs = client(aws, "sqs")
    url = sqs.get_queue_url(QueueName=f"{settings.prefix}-inbox")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="no event at all")
    until = time.monotonic() + 20
    while (inbox.taken, inbox.unwanted, inbox.refused) != (1, 1, 1):
        await inbox.once()
        assert time.monotonic() < until
    (delivery,) = await taken(bus)
    (found,) = delivery.events
    assert (found.tenant, found.type, found.user, found.subject) == ("acme", "shop.web.order-placed", "ann", "71")
    assert found.data == detail
    assert await inbox.once() == 0, "the other message waits for SQS to put it aside"


async def test_eventbridge_is_told_what_its_own_rules_want_and_nothing_comes_back(settings: AwsEventSettings, aws: Ministack) -> None:
    bus = EventBridgeBus(_with(settings, mirror=["mode.*"]), max_backlog=_MOST)
    sqs, events = client(aws, "sqs"), client(aws, "events")
    url = sqs.create_queue(QueueName=f"{settings.prefix}-theirs")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allowed = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [allowed]})})
    events.put_rule(Name="theirs", EventBusName=settings.bus, EventPattern=json.dumps({"source": ["farthing"]}))
    events.put_targets(Rule="theirs", EventBusName=settings.bus, Targets=[{"Id": "q", "Arn": arn}])
    await bus.publish([*(event(str(n), type="mode.changed", data={"n": n}, user="ann") for n in range(12)), event("x")])
    seen: set[int] = set()
    until = time.monotonic() + 20
    while seen != set(range(12)):
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            body = json.loads(message["Body"])
            assert (body["source"], body["detail-type"]) == ("farthing", "mode.changed")
            assert {"specversion": "1.0", "source": "/app", "tenant": "acme", "user": "ann"}.items() <= body["detail"].items()
            seen.add(body["detail"]["data"]["n"])
        assert time.monotonic() < until
    inbox = sqs.get_queue_url(QueueName=f"{settings.prefix}-inbox")["QueueUrl"]
    assert "Messages" not in sqs.receive_message(QueueUrl=inbox)


async def test_what_is_too_large_for_aws_is_told_and_nothing_is_stored(bus: EventBridgeBus) -> None:
    with pytest.raises(BodyTooLarge, match="event '2' has 262"):
        await bus.publish([event("1"), event("2", data="x" * 262_000)])
    assert await bus.tail(tenant=None, after=-1, limit=9) == []


@pytest.mark.parametrize("deaf", [True, False])
async def test_an_aws_that_is_away_or_silent_is_unavailable_within_the_deadline(settings: AwsEventSettings, *, deaf: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1] if deaf else 9}"
        bus = EventBridgeBus(_with(settings, endpoint_url=url, timeout_s=0.4), max_backlog=_MOST)
        with pytest.raises(Unavailable, match="AWS"):
            await bus.publish([event("1")])


def _with(settings: AwsEventSettings, **more: Any) -> AwsEventSettings:
    return AwsEventSettings.model_validate({**settings.model_dump(), **more})
