"""From settings and from requests to checks, and what all of them keep to: none ever raises."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from looking import answered, check, completion, no_process, nobody, request

from farthing.errors import InvalidRequest
from farthing.routing.checks.check import ANNOTATE, HOLD_ALL, Answered
from farthing.routing.checks.compile import KINDS, CheckDeps, checks_of_request, compile_checks
from farthing.routing.checks.placed import CannotTell, Placed, Undecided
from farthing.settings import (
    AnyCheckSettings,
    ConfidenceCheckSettings,
    EmptyCheckSettings,
    JsonSchemaCheckSettings,
    JudgeCheckSettings,
    PatternCheckSettings,
    RefusalCheckSettings,
    RepetitionCheckSettings,
    TruncatedCheckSettings,
    ValidatorCheckSettings,
    load_text,
)
from farthing.types import Json

HARMLESS: list[AnyCheckSettings] = [
    JsonSchemaCheckSettings(kind="json_schema"),
    RefusalCheckSettings(kind="refusal"),
    EmptyCheckSettings(kind="empty"),
    TruncatedCheckSettings(kind="truncated"),
    RepetitionCheckSettings(kind="repetition"),
    PatternCheckSettings(kind="pattern", must_match="a", must_not_match="b"),
    ConfidenceCheckSettings(kind="confidence", min_mean=-1, min_decile=-3),
]
GIVEN: list[Json] = [
    {"kind": "json_schema"},
    {"kind": "refusal"},
    {"kind": "empty", "min_chars": 3},
    {"kind": "truncated", "own_limit": "reject"},
    {"kind": "repetition"},
    {"kind": "pattern", "must_match": "a"},
    {"kind": "confidence", "min_mean": -1},
    {"kind": "refusal", "hold": "annotate"},
]


def test_checks_come_in_order_with_their_names_and_holds() -> None:
    settings: list[AnyCheckSettings] = [
        *HARMLESS,
        ValidatorCheckSettings(kind="validator", entry_point="a:b", name="house-style", hold="annotate"),
        JudgeCheckSettings(kind="judge", model="fast"),
    ]
    deps = CheckDeps(undecided=Undecided(KINDS), ask=nobody, process=no_process)
    made = compile_checks(settings, deps)
    assert [(one.name, one.hold) for one in made] == [
        ("json_schema", HOLD_ALL),
        ("refusal", 40),
        ("empty", 8),
        ("truncated", HOLD_ALL),
        ("repetition", 200),
        ("pattern", HOLD_ALL),
        ("confidence", HOLD_ALL),
        ("house-style", ANNOTATE),
        ("judge", HOLD_ALL),
    ]


async def test_a_check_may_be_for_some_models_only() -> None:
    some = check(EmptyCheckSettings(kind="empty", models=["weak"]))
    assert await some.judge(answered(completion(""), model="weak")) == "no text"
    assert await some.judge(answered(completion(""), model="strong")) is None


class Broken:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def judge(self, _answered: Answered) -> str | None:
        raise self.error


@pytest.mark.parametrize(("passes", "said"), [(True, None), (False, "the check could not tell")])
@pytest.mark.parametrize("error", [CannotTell("no idea"), ValueError("secret text of the answer"), RecursionError()])
async def test_what_it_cannot_tell_of_is_settled_as_the_settings_say(
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    passes: bool,  # noqa: FBT001 - a table
    said: str | None,
) -> None:
    now = [0.0]
    undecided = Undecided(("kind",), clock=lambda: now[0])
    placed = Placed(Broken(error), kind="kind", name="mine", hold=1, passes=passes, undecided=undecided)
    with caplog.at_level(logging.WARNING):
        for now[0] in (0.0, 1.0, 599.0, 601.0):
            assert await placed.judge(answered(completion("x"))) == said
    assert undecided.counts == {"kind": 4}
    assert len(caplog.records) == 2, "once every ten minutes"
    assert "mine" in caplog.text
    assert "secret" not in caplog.text


async def test_a_request_may_bring_checks_of_its_own() -> None:
    made = checks_of_request(GIVEN, Undecided(KINDS))
    assert [one.name for one in made] == [one["kind"] for one in GIVEN]
    assert made[-1].hold == ANNOTATE
    assert await made[2].judge(answered(completion("ab"))) == "fewer than 3 characters"


@pytest.mark.parametrize(
    ("given", "param", "said"),
    [
        ("refusal", "", "must be a list of at most 8"),
        ([{"kind": "empty"}] * 9, "", "at most 8"),
        (["refusal"], "[0]", "must be an object"),
        ([{"kind": "empty"}, {}], "[1].kind", "must be one of"),
        ([{"kind": "validator", "entry_point": "os:system"}], "[0].kind", "must be one of"),
        ([{"kind": "judge", "model": "fast"}], "[0].kind", "must be one of"),
        ([{"kind": ["empty"]}], "[0].kind", "must be one of"),
        ([{"kind": "empty", "min_char": 3}], "[0].min_char", "there is no such field"),
        ([{"kind": "empty", "name": "x"}], "[0].name", "only be set by the operator"),
        ([{"kind": "empty", "models": []}], "[0].models", "only be set by the operator"),
        ([{"kind": "confidence", "min_mean": -1, "ask": True}], "[0].ask", "only be set by the operator"),
        ([{"kind": "pattern"}], "[0]", "set must_match or must_not_match"),
        ([{"kind": "pattern", "must_match": "("}], "[0].must_match", "cannot be read"),
        ([{"kind": "pattern", "must_match": "(?=a)"}], "[0].must_match", "linear time"),
        ([{"kind": "pattern", "must_match": "a" * 501}], "[0].must_match", "500 characters"),
        ([{"kind": "pattern", "must_not_match": "(a{30}){30}"}], "[0].must_not_match", "worth 900"),
        ([{"kind": "pattern", "must_match": "(((a{99}){99}){99}){99}"}], "[0].must_match", "too much work"),
        ([{"kind": "refusal", "hold": 0}], "[0].hold", "must be all, annotate, or a number"),
        ([{"kind": "refusal", "hold": ["all"]}], "[0].hold", "must be all, annotate, or a number"),
        ([{"kind": "truncated", "hold": 5}], "[0].hold", "'all' or 'annotate'"),
    ],
)
def test_a_check_that_a_request_may_not_bring_is_named(given: Any, param: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        checks_of_request(given, Undecided(KINDS))
    assert raised.value.param == f"farthing.route.checks{param}"
    assert said in raised.value.message


SETTINGS = """
providers: {{up: {{kind: openai_compatible, base_url: "http://127.0.0.1:1/v1"}}, anthropic: {{kind: anthropic}}}}
models: {{fast: {{provider: up, upstream_model: m}}, claude: {{provider: anthropic, upstream_model: m}}}}
routing: {{routers: {{auto: {{models: [fast], cascade: {{checks: [{{kind: empty}}, {check}]}}}}}}}}
"""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{kind: refusl}", "checks.1.kind: there is no 'refusl'; did you mean 'refusal'?"),
        ("{hold: 3}", "checks.1.kind: is missing; known: confidence, empty"),
        ("{kind: refusal, holt: 3}", "checks.1.holt: there is no such setting; did you mean 'hold'?"),
        ("{kind: pattern, must_match: '(?<=a)b'}", "checks.1.must_match: the pattern uses look-around"),
        ("{kind: confidence}", "checks.1: set min_mean or min_decile"),
        ("{kind: judge, model: fats}", "routing.routers.auto.cascade.checks.1.model: there is no 'fats'; did you mean 'fast'?"),
        ("{kind: empty, models: [fats]}", "routing.routers.auto.cascade.checks.1.models.0: there is no 'fats'"),
        ("{kind: validator, entry_point: 'a b'}", "checks.1.entry_point: "),
        ("{kind: confidence, min_mean: -1, ask: true}", "checks.1: ask needs models"),
        (
            "{kind: confidence, min_mean: -1, ask: true, models: [fast, claude]}",
            "cascade.checks.1.models.1: the provider of 'claude' tells no log-prob",
        ),
        ("{kind: judge, model: fast, hold: 3}", "checks.1.hold: "),
    ],
)
def test_an_error_in_the_settings_is_named_with_its_place(wrong: str, said: str) -> None:
    with pytest.raises(Exception, match="cascade") as raised:
        load_text(SETTINGS.format(check=wrong), {})
    assert said in str(raised.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(["content", "refusal", "tool_calls", "function_call", "audio", "role"])
messages = st.dictionaries(names, json_values, max_size=4) | json_values
choices = (
    st.dictionaries(st.sampled_from(["message", "finish_reason", "logprobs", "index"]), messages | json_values, max_size=4) | json_values
)
bodies = st.fixed_dictionaries({}, optional={"choices": st.lists(choices, max_size=3) | json_values, "usage": json_values})
asked = st.dictionaries(
    st.sampled_from(["response_format", "tools", "functions", "max_tokens", "messages"]),
    json_values | st.fixed_dictionaries({"type": st.sampled_from(["json_object", "json_schema"]), "json_schema": json_values}),
    max_size=3,
)


@given(body=bodies, request_body=asked, whole=st.booleans())
async def test_no_check_ever_raises(body: Json, request_body: Json, whole: bool) -> None:  # noqa: FBT001 - drawn
    for settings in HARMLESS:
        undecided = Undecided(KINDS)
        said = await check(settings, undecided).judge(Answered(request=request(request_body), model="weak", body=body, whole=whole))
        assert said is None or (said and said.isprintable())
        assert settings.kind in {"json_schema", "confidence"} or undecided.counts[settings.kind] == 0, "it was read, not caught"


def test_the_holds_are_numbers_that_a_gate_can_compare() -> None:
    assert math.isinf(HOLD_ALL)
    assert HOLD_ALL > 200 > ANNOTATE
