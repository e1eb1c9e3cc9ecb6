"""What AWS takes only in part is sent again; what it never takes is told. With clients that do as AWS's documentation says they may."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.aws.calls import AwsCalls
from farthing.aws.event_mirror import Mirror
from farthing.aws.event_queues import Queues, hidden, queue_name
from farthing.errors import Unavailable
from farthing.types import Event

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Partly:
    """SQS and EventBridge that take nothing of what is `refused` the first `times` times."""

    def __init__(self, refused: set[str], times: int) -> None:
        self.refused = refused
        self.times = times
        self.taken: list[str] = []
        self.batches: list[int] = []

    def client(self, _: str) -> Partly:
        return self

    def _takes(self, name: str) -> bool:
        if name in self.refused and self.times > 0:
            return False
        self.taken.append(name)
        return True

    def _count(self, size: int) -> None:
        self.batches.append(size)

    def get_queue_url(self, **_: str) -> dict[str, str]:
        return {"QueueUrl": "url"}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> Any:  # noqa: N803 - as boto3 has it
        assert QueueUrl == "url"
        self._count(len(Entries))
        failed = [each for each in Entries if not self._takes(str(json.loads(each["MessageBody"])["position"]))]
        self.times -= 1
        return {"Failed": [{"Id": each["Id"], "Code": "InternalError", "SenderFault": False} for each in failed]}

    def put_events(self, *, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803 - the same
        self._count(len(Entries))
        told = [{} if self._takes(json.loads(each["Detail"])["id"]) else {"ErrorCode": "InternalFailure"} for each in Entries]
        self.times -= 1
        return {"Entries": told}


def event(number: int, **more: Any) -> Event:
    told: dict[str, Any] = {"source": "/", "type": "t", "tenant": "acme", "time": NOW, "received_at": NOW, "position": number, **more}
    return Event(id=str(number), **told)


def calls(client: Partly) -> AwsCalls:
    return cast("AwsCalls", client)


@given(groups=st.lists(st.sampled_from("abcdefghijklmnop"), max_size=60), refused=st.sets(st.integers(0, 59)), times=st.integers(0, 2))
@settings(deadline=None)
def test_those_of_a_group_are_sent_in_order_whatever_sqs_leaves_out(groups: list[str], refused: set[int], times: int) -> None:
    sqs = Partly({str(number) for number in refused}, times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("farthing.aws.event_queues._PAUSE_S", 0.0)
        Queues(calls(sqs), "farthing").send("h", [(group, event(number)) for number, group in enumerate(groups)])
    assert sorted(map(int, sqs.taken)) == list(range(len(groups)))
    for group in set(groups):
        of_group = [int(name) for name in sqs.taken if groups[int(name)] == group]
        assert of_group == sorted(of_group)
    assert max(sqs.batches, default=0) <= 10


def test_what_sqs_never_takes_is_told() -> None:
    with pytest.raises(Unavailable, match="SQS did not take 1 messages"):
        Queues(calls(Partly({"3"}, 99)), "farthing").send("h", [(f"lane {number}", event(number)) for number in range(5)])


def test_what_eventbridge_did_not_take_is_told_again_and_no_more() -> None:
    bus = Partly({"2", "11"}, 1)
    Mirror(calls(bus), "bus", ["t"]).tell([event(number) for number in range(12)])
    assert bus.batches == [10, 1, 2]
    assert sorted(bus.taken, key=int) == [str(number) for number in range(12)]
    with pytest.raises(Unavailable, match="EventBridge did not take 1 events"):
        Mirror(calls(Partly({"2"}, 99)), "bus", ["*"]).tell([event(2)])


def test_batches_of_eventbridge_are_no_larger_than_it_takes() -> None:
    bus = Partly(set(), 0)
    Mirror(calls(bus), "bus", ["*"]).tell([event(number, data="x" * 100_000) for number in range(5)])
    assert bus.batches == [2, 2, 1]


def test_only_types_that_are_wanted_are_told() -> None:
    bus = Partly(set(), 0)
    Mirror(calls(bus), "bus", ["mode.*", "exact"]).tell(
        [event(1, type="mode.changed"), event(2, type="exact"), event(3, type="exactly"), event(4, type="model")]
    )
    assert bus.taken == ["1", "2"]


def test_an_event_too_large_for_eventbridge_goes_without_its_data() -> None:
    told: list[Any] = []

    class Bus(Partly):
        def put_events(self, *, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803 - as above
            told.extend(json.loads(each["Detail"]) for each in Entries)
            return {"Entries": [{} for _ in Entries]}

    Mirror(calls(Bus(set(), 0)), "bus", ["*"]).tell([event(7, data="x" * 255_000)])
    assert [(each["id"], each.get("data"), each["dataref"]) for each in told] == [("7", None, "farthing:position:7")]


@pytest.mark.parametrize(("seconds", "whole"), [(0.0, 0), (-5.0, 0), (0.01, 1), (1.0, 1), (1.2, 2), (10**6, 43_140)])
def test_sqs_has_whole_seconds_and_twelve_hours(seconds: float, whole: int) -> None:
    assert hidden(seconds) == whole


def test_a_queues_name_has_what_sqs_takes() -> None:
    assert queue_name("farthing", "memory.extract") == "farthing-memory_extract.fifo"
