from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routed import NOON, request

from farthing.routing.reading import Reading
from farthing.routing.rules import compiled, first
from farthing.settings import ConditionSettings, RuleSettings
from farthing.settings.rules import DAYS, WEEK_MINUTES, TimeSettings, check_rules
from farthing.types import Json, Request

TOOL = [{"type": "function", "function": {"name": "f"}}]
IMAGE = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
GERMAN = "Wie setze ich mein Passwort zurück?"
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "And now?"}]


def holds(when: Json, asked: Request, at: datetime = NOON) -> bool:
    rules = compiled([RuleSettings(name="one", when=ConditionSettings.model_validate(when), use="x")])
    return first(rules, Reading(asked, lambda: at)) is not None


@pytest.mark.parametrize(
    ("when", "fitting", "other"),
    [
        ({"task_type": "summarize"}, request(extras={"task_type": "summarize"}), request(extras={"task_type": "Summarize"})),
        ({"task_type": ["a", "b"]}, request(extras={"task_type": "b"}), request()),
        ({"tokens": {"max": 10}}, request("x" * 24), request("x" * 25)),
        ({"tokens": {"min": 11}}, request("x" * 25), request("x" * 24)),
        ({"tokens": {"min": 10, "max": 10}}, request("x" * 24), request("x" * 16)),
        ({"turns": {"min": 2}}, request(messages=TALK), request()),
        ({"tools": True}, request(tools=TOOL), request(tools=[])),
        ({"tools": False}, request(tools=None), request(functions=[{"name": "f"}])),
        ({"images": True}, request(IMAGE), request([IMAGE[0]])),
        ({"response_format": "json_schema"}, request(response_format={"type": "json_schema"}), request()),
        ({"response_format": "text"}, request(response_format={"type": ["odd"]}), request(response_format={"type": "json_object"})),
        ({"language": "de"}, request(GERMAN), request("How do I reset my password?")),
        ({"language": "de"}, request([{"type": "text", "text": GERMAN}]), request("x")),
        ({"tier": "pro"}, request(who={"tier": "pro"}), request()),
        ({"tenant": "acme"}, request(), request(who={"tenant": "acme2"})),
        ({"user": "bob"}, request(extras={"user": "bob"}), request()),
        ({"user": "bob"}, request(who={"user": "bob"}, extras={"user": "eve"}), request(who={"user": "eve"}, extras={"user": "bob"})),
        ({"tags": ["a", "b"]}, request(extras={"tags": ("c", "b")}), request(extras={"tags": ("c",)})),
        ({"namespace": "docs"}, request(extras={"namespace": "docs"}), request()),
        ({"stream": True}, request(stream=True), request()),
        ({"model": "gpt-4o"}, request(model="gpt-4o"), request()),
        ({"tier": "pro", "tools": True}, request(who={"tier": "pro"}, tools=TOOL), request(who={"tier": "pro"})),
        ({}, request(), None),
    ],
)
def test_a_condition_holds_for_what_it_names_and_for_nothing_else(when: Json, fitting: Request, other: Request | None) -> None:
    assert holds(when, fitting)
    assert other is None or not holds(when, other)


@pytest.mark.parametrize(
    ("time", "inside", "outside"),
    [
        ({"from": "09:00", "to": "17:00"}, "2026-11-25T16:59:59Z", "2026-11-25T17:00:00Z"),
        ({"from": "09:00", "to": "17:00"}, "2026-11-25T09:00:00Z", "2026-11-25T08:59:59Z"),
        ({"from": "22:00", "to": "06:00"}, "2026-11-25T05:59:00Z", "2026-11-25T06:00:00Z"),
        ({"from": "22:00", "to": "06:00", "days": ["fri"]}, "2026-11-28T05:00:00Z", "2026-11-27T05:00:00Z"),
        ({"from": "22:00", "to": "06:00", "days": "sun"}, "2026-11-30T05:59:00Z", "2026-11-29T05:59:00Z"),
        ({"days": ["sat", "sun"]}, "2026-11-29T23:59:00Z", "2026-11-30T00:00:00Z"),
        ({"to": "24:00", "from": "23:00"}, "2026-11-25T23:30:00Z", "2026-11-25T00:00:00Z"),
        ({"from": 540, "to": 1020, "timezone": "Europe/Berlin"}, "2026-11-25T08:00:00Z", "2026-11-25T16:00:00Z"),
        ({"from": 540, "to": 1020, "timezone": "Europe/Berlin"}, "2026-07-01T07:00:00Z", "2026-07-01T15:00:00Z"),
    ],
)
def test_a_time_holds_between_its_ends_in_its_own_zone(time: Json, inside: str, outside: str) -> None:
    assert holds({"time": time}, request(), datetime.fromisoformat(inside))
    assert not holds({"time": time}, request(), datetime.fromisoformat(outside))


def test_the_first_rule_whose_conditions_all_hold_decides() -> None:
    rules = compiled(
        [
            RuleSettings(name="tools", when=ConditionSettings(tools=True, tier=["pro"]), use="a"),
            RuleSettings(name="pro", when=ConditionSettings(tier=["pro"]), use="b"),
            RuleSettings(name="rest", use="c"),
        ]
    )

    def decided(asked: Request) -> str:
        rule = first(rules, Reading(asked, lambda: NOON))
        assert rule is not None
        return rule.name

    assert decided(request(who={"tier": "pro"}, tools=TOOL)) == "tools"
    assert decided(request(who={"tier": "pro"})) == "pro"
    assert decided(request(tools=TOOL)) == "rest"


def test_what_costs_time_is_looked_at_only_where_the_rest_holds() -> None:
    when = ConditionSettings.model_validate({"language": "de", "tokens": {"max": 5}, "time": {"days": "mon"}, "tier": "pro"})
    (rule,) = compiled([RuleSettings(name="dear", when=when, use="a")])
    assert [condition.name for condition in rule.conditions] == ["tier", "time", "tokens", "language"]

    def never() -> datetime:
        raise AssertionError("nobody needs to know")

    assert first([rule], Reading(request(), never)) is None


def test_a_body_that_is_no_conversation_breaks_no_rule() -> None:
    odd: list[Any] = [None, [], "x", [None, 1, {"role": 7}], [{"role": "user", "content": {"a": 1}}]]
    for messages in odd:
        asked = request()
        asked.body = {"messages": messages, "response_format": "json", "tools": {}}
        reading = Reading(asked, lambda: NOON)
        assert (reading.turns in {0, 1}, reading.images, reading.tools, reading.text, reading.language) == (True, False, False, "", None)


# What may be in conditions, with few values each, so that rules meet.
SPANS = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda ends: {"min": min(ends), "max": max(ends)})
HALF_SPANS = st.one_of(SPANS, st.integers(0, 12).map(lambda low: {"min": low}), st.integers(0, 12).map(lambda high: {"max": high}))


def some(*values: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=len(values), unique=True)


TIMES = st.builds(
    lambda start, length, days, zone: {"from": start, "to": (start + length) % 1440, "days": days, "timezone": zone},
    st.sampled_from([0, 360, 720, 1200]),
    st.sampled_from([60, 360, 720, 1439]),
    some(*DAYS),
    st.sampled_from(["UTC", "Asia/Tokyo"]),
).filter(lambda time: time["from"] != time["to"])
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "task_type": some("a", "b", "c"),
        "tokens": HALF_SPANS,
        "turns": HALF_SPANS,
        "tools": st.booleans(),
        "images": st.booleans(),
        "response_format": some("text", "json_object", "json_schema"),
        "language": some("de", "en", "fr"),
        "tier": some("free", "pro"),
        "user": some("bob", "eve"),
        "tags": some("a", "b", "c"),
        "stream": st.booleans(),
        "time": TIMES,
    },
)
REQUESTS = st.builds(
    lambda text, tools, image, wanted, tier, user, tags, stream, task_type, turns: request(
        messages=[{"role": "user", "content": "."}] * turns + [{"role": "user", "content": [*IMAGE, {"type": "text", "text": text}]}]
        if image
        else [{"role": "user", "content": "."}] * turns + [{"role": "user", "content": text}],
        who={"tier": tier, "user": user},
        extras={"tags": tags, "task_type": task_type},
        stream=stream,
        **({"tools": TOOL} if tools else {}),
        **({"response_format": {"type": wanted}} if wanted else {}),
    ),
    st.sampled_from(["", GERMAN, "How do I reset my password?", "x" * 20, "Quelle est la capitale de la France ?"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "text", "json_object", "json_schema"]),
    st.sampled_from(["free", "pro"]),
    st.sampled_from([None, "bob", "eve"]),
    st.lists(st.sampled_from("abcd"), max_size=2).map(tuple),
    st.booleans(),
    st.sampled_from([None, "a", "b", "d"]),
    st.integers(0, 3),
)
WHENS = CONDITIONS.map(ConditionSettings.model_validate)
HOURS = st.integers(0, WEEK_MINUTES - 1).map(lambda minute: datetime(2026, 11, 23, tzinfo=UTC) + timedelta(minutes=minute))


@given(st.lists(WHENS, max_size=6), REQUESTS, HOURS)
def test_whatever_the_rules_are_the_first_that_holds_decides(whens: list[ConditionSettings], asked: Request, at: datetime) -> None:
    rules = compiled([RuleSettings(name=f"r{number}", when=when, use="x") for number, when in enumerate(whens)])
    each = [holds(when.model_dump(exclude_none=True), asked, at) for when in whens]
    decided = first(rules, Reading(asked, lambda: at))
    assert (decided.name if decided else None) == (f"r{each.index(True)}" if any(each) else None)
    for rule in rules:
        condition = rule.failed(Reading(asked, lambda: at))
        assert condition is None or not condition.holds(Reading(asked, lambda: at)), "the condition that is named is one that fails"


def unreachable(*whens: ConditionSettings) -> bool:
    try:
        check_rules([RuleSettings(name=f"r{at}", when=when, use="x") for at, when in enumerate(whens)])
    except ValueError:
        return True
    return False


@given(WHENS, WHENS, REQUESTS, HOURS)
def test_a_rule_that_is_called_unreachable_never_decides(
    earlier: ConditionSettings, later: ConditionSettings, asked: Request, at: datetime
) -> None:
    rules = compiled([RuleSettings(name="earlier", when=earlier, use="x"), RuleSettings(name="later", when=later, use="y")])
    rule = first(rules, Reading(asked, lambda: at))
    if earlier.covers(later):
        assert rule is None or rule.name == "earlier"


@given(CONDITIONS, CONDITIONS, REQUESTS, HOURS)
def test_a_rule_with_more_conditions_than_one_before_it_is_found(when: Json, more: Json, asked: Request, at: datetime) -> None:
    wide, narrow = ConditionSettings.model_validate(when), ConditionSettings.model_validate({**more, **when})
    assert unreachable(wide, narrow)
    reading = Reading(asked, lambda: at)
    (one,) = compiled([RuleSettings(name="wide", when=wide, use="x")])
    (two,) = compiled([RuleSettings(name="narrow", when=narrow, use="y")])
    assert one.failed(reading) is None or two.failed(reading) is not None


@given(WHENS)
def test_a_rule_covers_itself_and_nothing_is_covered_by_less(when: ConditionSettings) -> None:
    assert when.covers(when)
    assert ConditionSettings().covers(when)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"tokens": {"max": 10}}, {"tokens": {"max": 11}}),
        ({"tokens": {"max": 10}}, {}),
        ({"tokens": {"max": 10}}, {"turns": {"max": 10}}),
        ({"tier": "pro"}, {"tier": ["pro", "free"]}),
        ({"tools": True}, {"tools": False}),
        ({"time": {"days": "mon"}}, {"time": {"days": "mon", "timezone": "Asia/Tokyo"}}),
        ({"time": {"from": "08:00", "to": "12:00"}}, {"time": {"from": "22:00", "to": "10:00"}}),
        ({"tier": "pro", "tools": True}, {"tier": "pro"}),
    ],
)
def test_a_rule_that_has_something_left_is_not_called_unreachable(earlier: Json, later: Json) -> None:
    assert not unreachable(ConditionSettings.model_validate(earlier), ConditionSettings.model_validate(later))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"tokens": {"min": 0}}, {}),
        ({"response_format": ["text", "json_object", "json_schema"]}, {"tools": True}),
        ({"time": {}}, {}),
        ({"time": {"from": "20:00", "to": "08:00"}}, {"time": {"from": "22:00", "to": "06:00", "days": ["fri", "sun"]}}),
        ({"time": {"days": ["sat", "sun"]}}, {"time": {"from": "23:00", "to": "24:00", "days": "sun"}}),
    ],
)
def test_a_rule_that_has_nothing_left_is_found(earlier: Json, later: Json) -> None:
    assert unreachable(ConditionSettings.model_validate(earlier), ConditionSettings.model_validate(later))


@given(TIMES, st.integers(0, WEEK_MINUTES - 1))
def test_the_minutes_of_a_time_are_those_between_its_ends(time: Json, minute: int) -> None:
    found = TimeSettings.model_validate(time)
    length = (time["to"] - time["from"]) % 1440
    starts = [DAYS.index(day) * 1440 + time["from"] for day in time["days"]]
    assert bool(found.minutes() >> minute & 1) == any((minute - start) % WEEK_MINUTES < length for start in starts)
