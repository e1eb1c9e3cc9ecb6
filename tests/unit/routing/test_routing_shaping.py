from __future__ import annotations

import copy
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from farthing.providers.openai_compatible import OpenAICompatible
from farthing.routing.catalogue import Cooldown, Deployment, Model
from farthing.routing.families import family_of, wants_newer_limit
from farthing.routing.shaping import asked_output, body_for, mapped, shaped, spoken
from farthing.settings import ModelSettings, OpenAICompatibleSettings, PromptSettings
from farthing.settings.shaping import ParameterSettings
from farthing.types import DEEP, Extras, Json, Lifeline, Mode, Operation, Price, Principal, Prompt, Request, new_id


def deployment(upstream_model: str = "m", family: str | None = None) -> Deployment:
    return Deployment(
        model="m",
        provider=OpenAICompatible("p", OpenAICompatibleSettings(kind="openai_compatible", base_url="http://127.0.0.1:9/v1")),
        upstream_model=upstream_model,
        weight=1,
        price=Price(),
        retries=0,
        cooldown=Cooldown(3, 30, lambda: 0.0),
        family=family,
    )


def model(parameters: Json | None = None, upstream_model: str = "m") -> Model:
    return Model(
        name="m",
        operation=Operation.CHAT,
        deployments=(deployment(upstream_model),),
        parameters=None if parameters is None else ParameterSettings.model_validate(parameters),
    )


def request(body: Json, **facts: Any) -> Request:
    who = Principal(key_id=UUID(int=1), tenant="t")
    return Request(
        id=new_id(),
        principal=who,
        operation=Operation.CHAT,
        body=body,
        model="m",
        extras=Extras(),
        started_ns=0,
        lifeline=Lifeline(None),
        **facts,
    )


def with_parameters(body: Json, **parameters: Any) -> Json:
    return mapped(body, ParameterSettings.model_validate(parameters))


def user(text: str = "hello") -> Json:
    return {"role": "user", "content": text}


BODY: Json = {"model": "m", "messages": [user()], "temperature": 1.5, "max_tokens": 900, "stop": ["a", "b", "c"], "logit_bias": {"1": 2}}


def test_without_anything_to_say_the_body_is_the_same_object() -> None:
    assert body_for(request(BODY), model(), deployment()) is BODY
    assert body_for(request(BODY, mode=Mode(name="SHALLOW", rank=1)), model(), deployment()) is BODY


@pytest.mark.parametrize(
    ("parameters", "changed"),
    [
        ({"temperature": {"max": 1}}, {"temperature": 1}),
        ({"temperature": {"scale": 0.5}}, {"temperature": 0.75}),
        ({"temperature": {"min": 0.2, "max": 1, "scale": 0.1}}, {"temperature": 0.2}),
        ({"max_tokens": {"max": 500}}, {"max_tokens": 500}),
        ({"max_tokens": {"max": 1000, "default": 10}}, {}),
        ({"max_tokens": {"name": "max_completion_tokens"}}, {"max_tokens": None, "max_completion_tokens": 900}),
        ({"stop": {"most": 2}}, {"stop": ["a", "b"]}),
        ({"stop": {"most": 0}}, {"stop": None}),
        ({"drop": ["logit_bias", "seed"]}, {"logit_bias": None}),
        ({"set": {"reasoning_effort": "low"}}, {"reasoning_effort": "low"}),
        ({"set": {"logit_bias": {}}}, {"logit_bias": {}}),
        ({"n": {"max": 1}, "top_p": {"max": 0.5}}, {}),
    ],
)
def test_each_line_changes_its_own_field_and_no_other(parameters: Json, changed: Json) -> None:
    before = copy.deepcopy(BODY)
    expected = {name: value for name, value in {**BODY, **changed}.items() if value is not None}
    found = with_parameters(BODY, **parameters)
    assert found == expected
    assert before == BODY
    assert changed or found is BODY


def test_a_default_limit_is_for_those_who_name_none() -> None:
    assert with_parameters({"messages": []}, max_tokens={"default": 10}) == {"messages": [], "max_tokens": 10}
    assert with_parameters({"messages": [], "max_tokens": None}, max_tokens={"default": 10}) == {"messages": [], "max_tokens": 10}
    newer = with_parameters({"max_completion_tokens": 70}, max_tokens={"default": 10, "max": 50})
    assert newer == {"max_completion_tokens": 50}, "the caller's own name stays where the settings name none"


def test_both_names_of_the_limit_are_never_sent_together() -> None:
    both = {"max_tokens": 30, "max_completion_tokens": 20}
    for parameters in ({}, {"name": "max_tokens"}, {"name": "max_completion_tokens"}, {"max": 5}):
        found = with_parameters(both, max_tokens=parameters)
        assert len(found) == 1
        assert asked_output(found) == min(20, parameters.get("max", 20))


def test_thinking_that_no_longer_fits_under_the_limit_leaves_room_for_the_answer() -> None:
    body = {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 8000}, "messages": [user()]}
    assert with_parameters(body, max_tokens={"max": 4096})["thinking"]["budget_tokens"] == 2048
    assert "thinking" not in shaped(body, model(), Mode(name="S", max_tokens=1000))


@pytest.mark.parametrize("field", ["n", "tools", "response_format", "stream", "messages", "model", "logprobs"])
@pytest.mark.parametrize("where", ["drop", "set"])
def test_what_the_shape_of_the_answer_hangs_on_is_neither_dropped_nor_set(field: str, where: str) -> None:
    with pytest.raises(ValidationError, match="changes the shape of the answer"):
        ParameterSettings.model_validate({where: [field] if where == "drop" else {field: 1}})


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"drop": ["max_tokens"]}, "answers have no limit"),
        ({"set": {"max_completion_tokens": 5}}, "for the line max_tokens"),
        ({"drop": ["temperature"], "temperature": {"max": 1}}, "line of its own"),
        ({"drop": ["seed"], "set": {"seed": 1}}, "also dropped"),
        ({"set": {"stop": ["x"]}, "stop": {"most": 1}}, "line of its own"),
        ({"temperature": {"min": 1, "max": 0.5}}, "min must not be above max"),
        ({"max_tokens": {"max": 5, "default": 6}}, "default must not be above max"),
        ({"stop": {"most": -1}}, "greater than or equal to 0"),
        ({"max_token": {"max": 5}}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(wrong: Json, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ParameterSettings.model_validate(wrong)


def test_embeddings_have_no_sampling() -> None:
    with pytest.raises(ValidationError, match="embeddings have only"):
        ModelSettings.model_validate(
            {"provider": "p", "upstream_model": "e", "kind": "embeddings", "parameters": {"temperature": {"max": 1}}}
        )


numbers = st.none() | st.integers(-5, 5000) | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3)


@given(
    body=st.fixed_dictionaries(
        {"messages": st.just([user()])},
        optional={
            "max_tokens": st.none() | st.integers(-5, 5000),
            "max_completion_tokens": st.none() | st.integers(-5, 5000),
            "temperature": numbers,
            "top_p": numbers,
            "n": numbers,
            "stop": st.none() | st.text() | st.lists(st.text(), max_size=6),
            "seed": st.integers(),
        },
    ),
    high=st.integers(1, 4000),
    name=st.sampled_from([None, "max_tokens", "max_completion_tokens"]),
)
def test_whatever_is_asked_what_is_sent_is_within_bounds_and_mapping_twice_is_as_once(body: Json, high: int, name: str | None) -> None:
    parameters = {
        "max_tokens": {"max": high, "default": 1, "name": name},
        "temperature": {"min": 0.1, "max": 0.9},
        "top_p": {"max": 0.5},
        "n": {"max": 2},
        "stop": {"most": 1},
        "drop": ["seed"],
    }
    before = copy.deepcopy(body)
    found = with_parameters(body, **parameters)
    assert body == before
    assert with_parameters(found, **parameters) == found
    limit = asked_output(found)
    assert limit is not None
    assert 1 <= limit <= high
    assert len({"max_tokens", "max_completion_tokens"} & found.keys()) == 1
    assert "seed" not in found
    if isinstance(found.get("temperature"), int | float) and not isinstance(found["temperature"], bool):
        assert 0.1 <= found["temperature"] <= 0.9
    if isinstance(found.get("stop"), list):
        assert len(found["stop"]) <= 1
    assert found["messages"] is body["messages"]


# What a mode holds back


def call(name: str) -> Json:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }


def result(name: str) -> Json:
    return {"role": "tool", "tool_call_id": name, "content": "r"}


SYSTEM = {"role": "system", "content": "s"}
DEVELOPER = {"role": "developer", "content": "d"}
SAID = {"role": "assistant", "content": "a"}


def history(messages: list[Json], turns: int) -> list[Json]:
    found: list[Json] = shaped({"messages": messages}, model(), Mode(name="S", history_turns=turns))["messages"]
    return found


def test_of_a_long_conversation_the_last_turns_are_sent_and_all_instructions() -> None:
    talk = [SYSTEM, user("1"), SAID, user("2"), DEVELOPER, SAID, user("3")]
    assert history(talk, 1) == [SYSTEM, DEVELOPER, user("3")]
    assert history(talk, 2) == [SYSTEM, user("2"), DEVELOPER, SAID, user("3")]
    assert history(talk, 3) == talk
    assert history(talk, 30) == talk


def test_messages_of_a_user_in_a_row_are_one_turn() -> None:
    assert history([user("1"), SAID, user("2"), user("3")], 1) == [user("2"), user("3")]


def test_a_result_is_never_sent_without_its_call() -> None:
    between = [user("1"), call("x"), user("2"), result("x"), SAID]
    assert history(between, 1) == between, "the result behind the cut answers a call before it"
    assert history([user("0"), SAID, *between], 1) == between
    old_style = [
        user("1"),
        {"role": "assistant", "function_call": {"name": "f"}},
        user("2"),
        {"role": "function", "name": "f", "content": "r"},
    ]
    assert history(old_style, 1) == old_style


messages = st.lists(
    st.sampled_from([SYSTEM, SAID, user("1"), user("2"), call("a"), call("b"), result("a"), result("b"), DEVELOPER]),
    max_size=24,
)


@given(messages=messages, turns=st.integers(1, 6), limit=st.integers(1, 50), asked=st.none() | st.integers(1, 100))
def test_what_a_mode_leaves_is_shorter_whole_and_stays_as_it_is(messages: list[Json], turns: int, limit: int, asked: int | None) -> None:
    mode = Mode(name="S", rank=1, history_turns=turns, max_tokens=limit)
    body: Json = {"messages": messages, "max_tokens": asked}
    before = copy.deepcopy(body)
    found = shaped(body, model(), mode)
    assert body == before
    assert shaped(found, model(), mode) == found, "twice is as once"
    kept = found["messages"]
    rest = iter(messages)
    assert all(any(one is other for other in rest) for one in kept), "what is left is in the order it came in"
    assert [one for one in kept if one["role"] in {"system", "developer"}] == [m for m in messages if m["role"] in {"system", "developer"}]
    users = [at for at, one in enumerate(messages) if one["role"] == "user"]
    if users:
        assert kept[-len(messages[users[-1] :]) :] == messages[users[-1] :], "the last user message and all behind it"
    assert _without_call(kept) <= _without_call(messages)
    assert asked_output(found) == min(limit, asked or limit)


def _without_call(messages: list[Json]) -> int:
    """How many results have no call before them."""
    made: set[str] = set()
    lone = 0
    for one in messages:
        made |= {each["id"] for each in one.get("tool_calls") or ()}
        lone += one["role"] == "tool" and one["tool_call_id"] not in made
    return lone


@pytest.mark.parametrize("upstream_model", ["gpt-5-mini", "o3", "openai/o4-mini"])
def test_a_limit_of_the_mode_has_the_name_that_the_model_takes(upstream_model: str) -> None:
    mode = Mode(name="S", max_tokens=50)
    assert shaped({"messages": []}, model(upstream_model=upstream_model), mode) == {"messages": [], "max_completion_tokens": 50}
    assert shaped({"messages": []}, model(), mode) == {"messages": [], "max_tokens": 50}
    named = model({"max_tokens": {"name": "max_completion_tokens"}})
    assert shaped({"messages": []}, named, mode) == {"messages": [], "max_completion_tokens": 50}


def test_a_mode_says_nothing_about_vectors() -> None:
    body = {"input": "x"}
    assert shaped(body, model(), Mode(name="S", history_turns=1, max_tokens=5)) is body


# Prompts

PROMPT = Prompt(version="support@1", system="Help.", variants={"llama": "Help, llama."})


def test_a_model_is_told_in_the_words_of_its_family() -> None:
    body = {"messages": [{"role": "system", "content": "Help."}, user()]}
    asked = request(body, prompt=PROMPT)
    assert body_for(asked, model(), deployment(family="llama"))["messages"][0]["content"] == "Help, llama."
    assert body_for(asked, model(), deployment(family="gpt")) is body
    assert body_for(asked, model(), deployment()) is body
    assert body["messages"][0]["content"] == "Help."


def test_words_of_a_prompt_are_put_only_where_the_prompt_was() -> None:
    other = {"messages": [{"role": "system", "content": "Judge."}, user()]}
    assert spoken(other, PROMPT, "llama") is other
    assert spoken({"messages": []}, PROMPT, "llama") == {"messages": []}


def test_the_mode_the_variant_and_the_mapping_come_together() -> None:
    talk = [{"role": "system", "content": "Help."}, user("1"), SAID, user("2")]
    asked = request({"messages": talk, "max_tokens": 500}, prompt=PROMPT, mode=Mode(name="S", rank=1, history_turns=1, max_tokens=100))
    found = body_for(asked, model({"max_tokens": {"name": "max_completion_tokens"}}), deployment(family="llama"))
    assert found == {"messages": [{"role": "system", "content": "Help, llama."}, user("2")], "max_completion_tokens": 100}
    assert DEEP.max_tokens is None


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpt-4o-mini", "gpt"),
        ("o3-mini", "gpt"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude"),
        ("meta.llama3-8b-instruct-v1:0", "llama"),
        ("smollm2-135m", "llama"),
        ("google/gemma-3-12b-it", "gemma"),
        ("gemini-2.5-flash", "gemini"),
        ("mistral.mixtral-8x7b-instruct-v0:1", "mistral"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("deepseek-r1-distill-llama-70b", "llama"),
        ("deepseek-chat", "deepseek"),
        ("amazon.nova-lite-v1:0", "nova"),
        ("microsoft/phi-4", "phi"),
        ("my-own", None),
    ],
)
def test_the_family_is_read_off_the_vendors_name(name: str, family: str | None) -> None:
    assert family_of(name) == family


def test_only_reasoning_models_of_openai_want_the_newer_name() -> None:
    assert [name for name in ("gpt-4o", "gpt-5", "o1", "openai/o3", "llama-o1x", "gpt-3.5-turbo", "foo1") if wants_newer_limit(name)] == [
        "gpt-5",
        "o1",
        "openai/o3",
    ]


@pytest.mark.parametrize(
    "wrong", [{"system": ""}, {"system": "  \n"}, {"system": "x" * 70_000}, {"system": "x", "variants": {"Llama 3": "y"}}, {}]
)
def test_a_prompt_without_words_or_with_too_many_is_refused(wrong: Json) -> None:
    with pytest.raises(ValidationError):
        PromptSettings.model_validate(wrong)
