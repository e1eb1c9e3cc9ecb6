"""What the function makes of what SNS delivers: true alarms, forged ones, and those that come twice, late or in the wrong order."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.aws.lambda_mode import NotForUsError, alarm_in, document_after, handler
from farthing.modes import effective, state_of
from farthing.types import Mode, Principal, new_id

_TOPIC = "arn:aws:sns:us-east-1:000000000000:farthing-spend"
_HIGH, _CRITICAL = "farthing-spend-high", "farthing-spend-critical"
_ARN = f"arn:aws:cloudwatch:us-east-1:000000000000:alarm:{_HIGH}"
_ENVIRON = {
    "TOPIC_ARN": _TOPIC,
    "ACCOUNT_ID": "000000000000",
    "OK_MODE": "DEEP",
    "ALARMS": json.dumps({_HIGH: "SHALLOW", _CRITICAL: "SUPER_SHALLOW"}),
}
_NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def record(text: Any = None, *, topic: str = _TOPIC, source: str = "aws:sns", **facts: Any) -> Any:
    """As SNS hands an alarm's message to Lambda."""
    message = {
        "AlarmName": _HIGH,
        "AlarmArn": _ARN,
        "AWSAccountId": "000000000000",
        "NewStateValue": "ALARM",
        "NewStateReason": "Threshold Crossed",
        "StateChangeTime": "2026-11-28T11:59:00.000+0000",
        **facts,
    }
    return {"EventSource": source, "Sns": {"TopicArn": topic, "Message": json.dumps(message) if text is None else text}}


def alarm(name: str, state: str, minute: int) -> dict[str, Any]:
    return {"name": name, "state": state, "at": _NOW + timedelta(minutes=minute), "why": ""}


def test_an_alarm_is_understood() -> None:
    found = alarm_in(record(), _ENVIRON, _NOW)
    assert found == {
        "name": _HIGH,
        "state": "ALARM",
        "at": datetime(2026, 11, 28, 11, 59, tzinfo=UTC),
        "why": "farthing-spend-high: Threshold Crossed",
    }


@pytest.mark.parametrize(
    "given_record",
    [
        None,
        {},
        {"EventSource": "aws:sns"},
        {"EventSource": "aws:sns", "Sns": "x"},
        record(source="aws:sqs"),
        record(topic=_TOPIC + "2"),
        record(text=""),
        record(text="null"),
        record(text="[1]"),
        record(text="{"),
        record(text="[" * 60_000),
        record(text=" " * 70_000),
        record(text=7),
        record(AlarmArn=_ARN.replace("000000000000", "666666666666")),
        record(AlarmArn=_ARN + "er"),
        record(AWSAccountId="666666666666"),
        record(AWSAccountId=None),
        record(AlarmName="farthing-spend-higher"),
        record(AlarmName=None),
        record(AlarmName=["farthing-spend-high"]),
        record(NewStateValue="INSUFFICIENT_DATA"),
        record(NewStateValue=None),
        record(StateChangeTime=None),
        record(StateChangeTime="soon"),
        record(StateChangeTime="2026-11-28T11:59:00"),
        record(StateChangeTime="2026-11-28T12:06:00+00:00"),
        record(StateChangeTime="9999-12-31T23:59:59-23:59"),
        record(StateChangeTime="0001-01-01T00:00:00+23:59"),
    ],
)
def test_what_is_forged_or_malformed_or_says_nothing_is_ignored(given_record: Any) -> None:
    with pytest.raises(NotForUsError):
        alarm_in(given_record, _ENVIRON, _NOW)


@pytest.mark.parametrize("event", [None, [], {}, {"Records": []}, "Records"])
def test_an_event_without_records_does_nothing(event: Any) -> None:
    assert handler(event, None) == {"done": []}


def test_one_bad_record_is_told_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _ENVIRON.items():
        monkeypatch.setenv(name, value)
    assert handler({"Records": [record(topic="other")]}, None) == {"done": [{"ignored": "a message of another topic"}]}


def test_the_mode_follows_the_alarm_and_goes_back() -> None:
    on = document_after({"RAG_MODE": "DEEP"}, alarm(_HIGH, "ALARM", 0), _ENVIRON)
    assert on is not None
    assert on["RAG_MODE"] == "SHALLOW"
    off = document_after(on, alarm(_HIGH, "OK", 5), _ENVIRON)
    assert off is not None
    assert off["RAG_MODE"] == "DEEP"


def test_of_several_alarms_the_worst_counts() -> None:
    document: Any = {}
    seen = []
    for number, (name, state) in enumerate([(_HIGH, "ALARM"), (_CRITICAL, "ALARM"), (_HIGH, "OK"), (_HIGH, "ALARM"), (_CRITICAL, "OK")]):
        document = document_after(document, alarm(name, state, number), _ENVIRON)
        seen.append(document["RAG_MODE"])
    assert seen == ["SHALLOW", "SUPER_SHALLOW", "SUPER_SHALLOW", "SUPER_SHALLOW", "SHALLOW"]


def test_what_comes_twice_or_late_changes_nothing() -> None:
    after = document_after({}, alarm(_HIGH, "OK", 5), _ENVIRON)
    assert after is not None
    assert document_after(after, alarm(_HIGH, "OK", 5), _ENVIRON) is None
    assert document_after(after, alarm(_HIGH, "ALARM", 4), _ENVIRON) is None


@pytest.mark.parametrize(
    "states", [None, 7, [], {_HIGH: 7}, {_HIGH: {}}, {_HIGH: {"at": "x"}}, {_HIGH: {"at": "2026-01-01T00:00:00"}}, {"x": 1}]
)
def test_what_somebody_else_wrote_there_is_no_obstacle(states: Any) -> None:
    after = document_after({"alarms": states}, alarm(_HIGH, "ALARM", 0), _ENVIRON)
    assert after is not None
    assert (after["RAG_MODE"], list(after["alarms"])) == ("SHALLOW", [_HIGH])


def test_pins_of_operators_stay_and_go_before_the_alarm() -> None:
    ladder = [Mode(name=name, rank=rank) for rank, name in enumerate(("DEEP", "SHALLOW", "SUPER_SHALLOW"))]
    pin = {"mode": "DEEP", "since": _NOW.isoformat(), "by": "operator:ann"}
    after = document_after({"RAG_MODE": "DEEP", "pins": {"tenant:acme": pin}}, alarm(_HIGH, "ALARM", 0), _ENVIRON)
    assert after is not None
    state = state_of(after, _NOW)
    modes = [effective(state, Principal(key_id=new_id(), tenant=tenant), ladder, _NOW).name for tenant in ("acme", "rival")]
    assert modes == ["DEEP", "SHALLOW"]


_CHANGES = st.lists(st.tuples(st.sampled_from([_HIGH, _CRITICAL]), st.sampled_from(["ALARM", "OK"])), min_size=1, max_size=6)


@given(changes=_CHANGES, data=st.data())
def test_in_whatever_order_and_however_often_they_come_the_last_states_count(changes: list[tuple[str, str]], data: st.DataObject) -> None:
    sent = [alarm(name, state, minute) for minute, (name, state) in enumerate(changes)]
    twice = data.draw(st.permutations([*sent, *sent]))
    delivered: Any = {}
    for one in twice:
        delivered = document_after(delivered, one, _ENVIRON) or delivered
    last = {name: max((one for one in sent if one["name"] == name), key=lambda one: one["at"], default=None) for name in (_HIGH, _CRITICAL)}
    on = {name for name, one in last.items() if one is not None and one["state"] == "ALARM"}
    expected = "SUPER_SHALLOW" if _CRITICAL in on else "SHALLOW" if on else "DEEP"
    assert delivered["RAG_MODE"] == expected
    assert len(delivered["alarms"]) == len(set(itertools.chain(name for name, _ in changes)))
