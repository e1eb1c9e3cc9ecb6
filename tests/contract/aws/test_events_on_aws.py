"""The event bus on DynamoDB, SQS and EventBridge, on an emulator: what is particular to it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from account import REGION, client
from stacks import deployed

from farthing.aws.event_inbox import Inbox
from farthing.aws.eventbridge import EventBridgeBus
from farthing.errors import BodyTooLarge, Overloaded, Unavailable
from farthing.settings.events_aws import AwsEventSettings
from farthing.testing.aws import Ministack
from farthing.types import Delivery, Event, Subscription, utc_now

_SERVICES = "cloudformation,dynamodb,sqs,events,iam,sts"


@pytest.fixture(scope="module")
def aws() -> Iterator[Ministack]:
    with Ministack(_SERVICES) as running:
        yield running


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def settings(aws: Ministack) -> AwsEventSettings:
    prefix = f"f{uuid4().hex[:8]}"
    made = deployed(aws, "events", Prefix=prefix)
    wanted = {"prefix": prefix, "table": made["Table"], "bus": made["Bus"], "region": REGION, "endpoint_url": aws.url, "timeout_s": 30}
    return AwsEventSettings.model_validate(wanted)


@pytest.fixture
def bus(settings: AwsEventSettings) -> EventBridgeBus:
    return EventBridgeBus(settings)


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


async def test_events_of_a_lane_come_in_order_and_one_delivery_at_a_time(bus: EventBridgeBus) -> None:
    await bus.subscribe([Subscription(handler="h", types=("page.*",))])
    told = [event(f"{lane}{n}", subject=lane) for n in range(3) for lane in "ab"]
    assert await bus.publish([*told, event("x", type="other")]) == [True] * 7
    first = await bus.take("h", lanes=10, lease_s=30)
    assert ids(first) == [["a0"], ["b0"]]
    assert await bus.take("h", lanes=10, lease_s=30) == [], "both lanes are leased"
    assert await bus.done(first) == 2
    assert ids(await bus.take("h", lanes=10, lease_s=30)) == [["a1"], ["b1"]]


async def test_the_same_event_twice_is_one(bus: EventBridgeBus) -> None:
    await bus.subscribe([Subscription(handler="h", types=("*",))])
    assert await bus.publish([event("1"), event("1"), event("2")]) == [True, False, True]
    assert await bus.publish([event("1", tenant="other"), event("2")]) == [True, False]
    seen = []
    while found := await bus.take("h", lanes=10, lease_s=30):
        seen += [(each.tenant, each.id) for delivery in found for each in delivery.events]
        await bus.done(found)
    assert sorted(seen) == [("acme", "1"), ("acme", "2"), ("other", "1")]


async def test_a_failed_delivery_comes_again_and_counts_its_attempts(bus: EventBridgeBus) -> None:
    await bus.subscribe([Subscription(handler="h", types=("*",))])
    await bus.publish([event("1", subject="s"), event("2", subject="s")])
    for attempt in (1, 2, 3):
        (delivery,) = await taken(bus)
        assert (ids([delivery]), delivery.attempt) == ([["1"]], attempt)
        await bus.failed(delivery, "no luck", utc_now() + timedelta(seconds=0.5))
        assert await bus.take("h", lanes=9, lease_s=30) == [], "the rest of its lane waits too"
    (delivery,) = await taken(bus)
    await bus.failed(delivery, "never", None)
    (after,) = await taken(bus)
    assert (ids([after]), after.attempt) == ([["2"]], 1)
    (letter,) = await bus.dead(tenant="acme", handler=None, limit=9)
    assert (letter.event.id, letter.attempts, letter.error) == ("1", 4, "never")
    await bus.done([after])
    assert await bus.replay([letter.id, letter.id, uuid4()]) == 1
    (again,) = await taken(bus)
    assert (again.events[0].id, again.attempt) == ("1", 1)
    assert await bus.dead(tenant=None, handler="h", limit=9) == []


async def test_of_several_that_are_to_die_only_the_bad_one_does(bus: EventBridgeBus) -> None:
    await bus.subscribe([Subscription(handler="h", types=("*",), most=5)])
    await bus.publish([event(str(n), subject="s") for n in range(4)])
    (delivery,) = await taken(bus)
    assert ids([delivery]) == [["0", "1", "2", "3"]]
    await bus.failed(delivery, "one of them is bad", None)
    seen = []
    for _ in range(4):
        (one,) = await taken(bus)
        assert len(one.events) == 1
        seen.append(one.events[0].id)
        if one.events[0].id == "2":
            await bus.failed(one, "it is bad", None)
        else:
            assert await bus.done([one]) == 1
    assert seen == ["0", "1", "2", "3"]
    assert [letter.event.id for letter in await bus.dead(tenant=None, handler=None, limit=9)] == ["2"]


async def test_lingering_gathers_what_comes_after_and_is_no_attempt(bus: EventBridgeBus) -> None:
    await bus.subscribe([Subscription(handler="h", types=("*",), per="user", most=10, linger_s=1)])
    await bus.publish([event("1", user="u")])
    assert await bus.take("h", lanes=9, lease_s=30) == []
    await bus.publish([event("2", user="u"), event("nobody's")])
    (delivery,) = await taken(bus)
    assert (ids([delivery]), delivery.attempt, delivery.lane) == ([["1", "2"]], 1, "u")


async def test_a_lease_that_ends_is_lost_and_the_event_comes_again(bus: EventBridgeBus) -> None:
    await bus.subscribe([Subscription(handler="h", types=("*",))])
    await bus.publish([event("1")])
    (lost,) = await taken(bus, lease_s=1)
    kept = await bus.extend(lost, 2)
    assert kept is not None
    await asyncio.sleep(1.2)
    assert await bus.take("h", lanes=1, lease_s=30) == [], "it was extended"
    (again,) = await taken(bus)
    assert (again.events[0].id, again.attempt) == ("1", 2)
    assert await bus.extend(kept, 30) is None
    assert await bus.done([kept]) == 0
    assert await bus.done([again]) == 1


async def test_what_an_event_touches_has_a_new_version_before_publish_returns(bus: EventBridgeBus) -> None:
    await bus.publish([event("1", touches=("deploys", "alerts")), event("2", touches=("deploys",))])
    assert bus._table.versions("acme", ["deploys", "alerts", "other"]) == {"deploys": 1, "alerts": 1, "other": 0}
    await bus.publish([event("1", touches=("deploys",))])
    assert bus._table.versions("acme", ["deploys"]) == {"deploys": 1}, "it is no news"
    assert bus._table.versions("other", ["deploys"]) == {"deploys": 0}


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
    everything = str(client(aws, "dynamodb").scan(TableName=bus._settings.table)["Items"])
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
    bus = EventBridgeBus(settings)
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
    bus = EventBridgeBus(_with(settings, mirror=["mode.*"]))
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


async def test_while_a_handler_is_too_far_behind_nothing_is_published(settings: AwsEventSettings) -> None:
    bus = EventBridgeBus(_with(settings, max_waiting=2))
    await bus.subscribe([Subscription(handler="h", types=("*",))])
    await bus.publish([event("1"), event("2"), event("3")])
    bus._counts = (0.0, {})  # five seconds later
    with pytest.raises(Overloaded, match="h is 3 events behind"):
        await bus.publish([event("4")])
    assert [(each.handler, each.waiting, each.dead) for each in await bus.backlog()] == [("h", 3, 0)]


@pytest.mark.parametrize("deaf", [True, False])
async def test_an_aws_that_is_away_or_silent_is_unavailable_within_the_deadline(settings: AwsEventSettings, *, deaf: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1] if deaf else 9}"
        bus = EventBridgeBus(_with(settings, endpoint_url=url, timeout_s=1))
        with pytest.raises(Unavailable, match="AWS"):
            await bus.publish([event("1")])


def _with(settings: AwsEventSettings, **more: Any) -> AwsEventSettings:
    return AwsEventSettings.model_validate({**settings.model_dump(), **more})
