from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from routed import PRICES, SHALLOW, House, Said, model, request

from farthing.errors import InvalidRequest
from farthing.routing.choice import Choice
from farthing.types import Answer, Json, Mode, Operation, Price, Request, Source

JUDGE: Json = {"model": "judge", "classes": {"easy": "weak", "hard": "strong", "odd": "cascade", "new": "learned"}}
ALL: Json = {
    "models": ["weak", "mid", "strong"],
    "rules": [
        {"name": "night", "when": {"time": {"from": "22:00", "to": "06:00"}}, "use": "weak"},
        {"name": "try", "when": {"task_type": "try"}, "use": "cascade"},
        {"name": "learn", "when": {"task_type": "learn"}, "use": "learned"},
        {"name": "mid", "when": {"task_type": "mid"}, "use": "mid"},
    ],
    "otherwise": "judge",
    "judge": JUDGE,
    "cascade": {"models": ["weak", "strong"], "checks": [{"kind": "empty"}]},
    "learned": {"quality": 0.9},
}


class Learnt:
    """What has been learnt: always the same."""

    def __init__(self, chosen: str | None) -> None:
        self._chosen = chosen
        self.asked: list[tuple[str, float, list[str]]] = []

    async def choose(self, router: str, request: Request, quality: float, models: Sequence[str]) -> tuple[str | None, str]:
        del request
        self.asked.append((router, quality, list(models)))
        return self._chosen, "so it was learnt"


def house(*said: str | None, learnt: str | None = "mid", **more: object) -> House:
    return House({"routers": {"auto": {**ALL, **more}}}, ask=Said(*said), learned=Learnt(learnt))


async def chosen(a_house: House, **facts: Any) -> Choice:
    choice = await a_house.stage.choose(request(**facts))
    assert choice is not None
    return choice


async def test_a_request_for_a_model_is_left_alone() -> None:
    assert await house().stage.choose(request(model="mid")) is None
    assert await house().stage.choose(request(model="auto", operation=Operation.CHAT, extras={"task_type": "mid"})) is not None


async def test_the_stage_sets_the_choice_and_lets_the_request_go_on() -> None:
    seen: list[Request] = []

    async def following(came: Request) -> Answer:
        seen.append(came)
        return Answer(source=Source.MODEL, model="mid")

    for came in (request(extras={"task_type": "mid"}), request(operation=Operation.EMBEDDINGS, model="vectors")):
        await house().stage(came, following)
    assert [came.choice and came.choice.models for came in seen] == [("mid",), None]


async def test_a_rule_decides_before_anybody_is_asked() -> None:
    choice = await chosen(house(), extras={"task_type": "mid"})
    assert (choice.models, choice.route, choice.baseline, choice.checks, choice.router) == (("mid",), "rule:mid", "strong", (), "auto")


@pytest.mark.parametrize(
    ("said", "models", "route"),
    [
        ("easy", ("weak", "strong"), "judge:easy"),
        ("hard", ("strong",), "judge:hard"),
        ("odd", ("weak", "strong"), "judge:odd"),
        ("new", ("mid",), "learned"),
        ("3", ("strong",), "default"),
        ("I think it is easy.", ("strong",), "default"),
        (None, ("strong",), "default"),
    ],
)
async def test_the_judges_word_decides_and_anything_else_is_the_default(said: str | None, models: tuple[str, ...], route: str) -> None:
    choice = await chosen(house(said))
    assert (choice.models, choice.route) == (models, route)
    assert bool(choice.checks) == (len(models) > 1), "there is something to ask next"


async def test_what_is_learnt_is_asked_for_the_quality_that_is_wanted() -> None:
    learning = house(learnt="weak")
    choice = await chosen(learning, extras={"task_type": "learn"})
    assert (choice.models, choice.route) == (("weak", "strong"), "learned"), "it stands in the cascade"
    choice = await chosen(learning, extras={"route": {"quality": 0.5, "models": ["weak", "mid"]}})
    assert (choice.models, choice.route) == (("weak",), "learned")
    learned = learning.stage._learned
    assert isinstance(learned, Learnt)
    assert learned.asked == [("auto", 0.9, ["weak", "mid", "strong"]), ("auto", 0.5, ["weak", "mid"])]


@pytest.mark.parametrize("learnt", [None, "gone"])
async def test_where_nothing_is_known_the_default_answers(learnt: str | None) -> None:
    choice = await chosen(house(learnt=learnt, default="mid"), extras={"task_type": "learn"})
    assert (choice.models, choice.route, choice.baseline) == (("mid",), "default", "mid")
    nobody = House({"routers": {"auto": ALL}})
    assert await nobody.models(request(extras={"task_type": "learn"})) == ("strong",)


async def test_a_rule_may_have_the_cascade_tried() -> None:
    choice = await chosen(house(), extras={"task_type": "try"})
    assert (choice.models, choice.route, [check.name for check in choice.checks]) == (("weak", "strong"), "rule:try", ["empty"])


@pytest.mark.parametrize(
    ("sections", "route", "models"),
    [
        ({}, "default", ("strong",)),
        ({"default": "weak"}, "default", ("weak",)),
        ({"otherwise": "mid"}, "otherwise", ("mid",)),
        ({"cascade": {}}, "otherwise", ("weak", "mid", "strong")),
        ({"cascade": {}, "judge": {**JUDGE, "classes": {"a": "weak", "b": "mid"}}}, "judge:a", ("weak", "mid", "strong")),
        ({"learned": {}, "cascade": {"models": ["weak", "strong"]}}, "learned", ("mid",)),
    ],
)
async def test_without_rules_the_best_that_a_router_has_decides(sections: Json, route: str, models: tuple[str, ...]) -> None:
    routing = {"routers": {"auto": {"models": ["weak", "mid", "strong"], **sections}}}
    choice = await chosen(House(routing, ask=Said("a"), learned=Learnt("mid")))
    assert (choice.route, choice.models) == (route, models)


@pytest.mark.parametrize(
    ("task_type", "models", "answered"),
    [
        ("mid", ["weak", "strong"], ("strong",)),
        ("mid", ["weak"], ("weak",)),
        ("mid", ["mid"], ("mid",)),
        ("try", ["mid", "strong"], ("strong",)),
        ("try", ["mid"], ("mid",)),
    ],
)
async def test_only_the_candidates_that_a_request_names_answer(task_type: str, models: list[str], answered: tuple[str, ...]) -> None:
    choice = await chosen(house(), extras={"task_type": task_type, "route": {"models": models}})
    assert choice.models == answered


async def test_only_candidates_that_are_not_estimated_to_cost_more_answer() -> None:
    a_house = house()
    # 1000 tokens out: weak $0.002, mid $0.010, strong $0.020
    assert (await chosen(a_house, extras={"task_type": "mid", "route": {"max_cost_usd": 0.003}})).models == ("weak",)
    assert (await chosen(a_house, extras={"task_type": "mid", "route": {"max_cost_usd": 0.011}})).models == ("mid",)
    cheap = await chosen(a_house, extras={"task_type": "mid", "route": {"max_cost_usd": 0.0002}}, max_tokens=10)
    assert cheap.models == ("mid",), "the request limits its answer"
    with pytest.raises(InvalidRequest, match=r"the cheapest, weak, at \$0.002007"):
        await chosen(a_house, extras={"task_type": "mid", "route": {"max_cost_usd": 0.0001}})


async def test_a_model_of_unknown_price_is_no_candidate_where_cost_counts() -> None:
    unknown = House({"routers": {"auto": {"models": ["weak", "strong"]}}}, models=[model("weak", price=Price())])
    assert await unknown.models(request(extras={"route": {"max_cost_usd": 1}})) == ("strong",)
    assert await unknown.models(request(extras={"route": {"models": ["weak"]}})) == ("weak",)


async def test_a_request_that_is_too_long_for_a_model_goes_to_one_with_room() -> None:
    routing = {"routers": {"auto": ALL}}
    small = House(routing, models=[model("weak", 100), model("mid", 1000)], at=datetime.fromisoformat("2026-11-25T23:00:00Z"))
    assert await small.models(request("x" * 200)) == ("weak",)
    longer = await chosen(small, text="x" * 2000)
    assert (longer.models, longer.route) == (("mid",), "context")
    assert await small.models(request("x" * 20_000)) == ("strong",)
    none = House(routing, models=[model("weak", 100), model("mid", 100), model("strong", 100)])
    assert await none.models(request("x" * 20_000, extras={"task_type": "mid"})) == ("mid",), "the provider has the last word"


async def test_a_request_may_bring_checks_of_its_own() -> None:
    checks = [{"kind": "pattern", "must_match": "yes"}]
    choice = await chosen(house(), extras={"task_type": "mid", "route": {"checks": checks}})
    assert choice.models == ("mid", "strong"), "what comes after it is there to be asked"
    assert [check.name for check in choice.checks] == ["empty", "pattern"]


async def test_in_a_mode_without_judge_or_cascade_nobody_is_asked_twice() -> None:
    learning = house(learnt="weak")
    choice = await chosen(learning, mode=SHALLOW)
    assert (choice.models, choice.route, choice.checks) == (("weak",), "learned", ())
    judge = {**JUDGE, "classes": {"a": "weak", "b": "strong"}}
    nothing_learnt = House({"routers": {"auto": {"models": ["weak", "strong"], "judge": judge}}})
    choice = await chosen(nothing_learnt, mode=SHALLOW)
    assert (choice.models, choice.route) == (("weak",), "mode:SHALLOW"), "while money is short, doubt goes to the cheapest"
    choice = await chosen(house(), mode=SHALLOW, extras={"task_type": "try", "route": {"checks": [{"kind": "empty"}]}})
    assert (choice.models, choice.route, choice.checks) == (("weak",), "mode:SHALLOW", ())


CEILING = Mode(name="LOW", rank=2, model="mid")


async def test_nothing_goes_to_a_dearer_model_than_the_modes_ceiling() -> None:
    a_house = house("hard", "easy")
    choice = await chosen(a_house, mode=CEILING)
    assert (choice.models, choice.route, choice.baseline) == (("mid",), "mode:LOW", "strong")
    choice = await chosen(a_house, mode=CEILING)
    assert (choice.models, choice.route, len(choice.checks)) == (("weak", "mid"), "judge:easy", 1)
    choice = await chosen(a_house, mode=CEILING, model="strong")
    assert (choice.models, choice.route, choice.baseline, choice.router) == (("mid",), "mode:LOW", "strong", None)
    assert await a_house.stage.choose(request(mode=CEILING, model="weak")) is None


async def test_a_ceiling_that_cannot_answer_is_none() -> None:
    small = House({"routers": {"auto": ALL}}, models=[model("mid", 100)])
    long = request("x" * 2000, model="strong", mode=CEILING)
    assert await small.models(long) == ("strong",)
    assert await small.models(request("x" * 10, model="strong", mode=CEILING)) == ("mid",)
    talk = [message for at in range(20) for message in ({"role": "user", "content": f"{at}" * 40}, {"role": "assistant", "content": "ok"})]
    cut = request(messages=[*talk, {"role": "user", "content": "Hi"}], model="strong", mode=replace(CEILING, history_turns=1))
    assert await small.models(cut) == ("mid",), "what the mode leaves of it fits"


async def test_a_ceiling_gives_no_key_a_model_that_it_may_not_use() -> None:
    a_house = house("hard")
    assert await a_house.models(request(model="strong", mode=CEILING, who={"models": frozenset({"strong"})})) == ("strong",)
    assert await a_house.models(request(mode=CEILING, who={"models": frozenset({"auto"})})) == ("mid",), "it is the router's candidate"


async def test_a_model_of_unknown_price_stands_under_every_ceiling_and_a_free_one_under_none() -> None:
    unknown = House({}, models=[model("strong", price=Price()), model("weak", price=Price(input=9, output=10**9, source="notional"))])
    assert await unknown.models(request(model="strong", mode=CEILING)) == ("mid",)
    assert await unknown.models(request(model="weak", mode=CEILING)) == ("weak",)
    assert await unknown.models(request(model="mid", mode=replace(CEILING, model="weak"))) == ("weak",)


async def test_what_we_ask_on_our_own_account_goes_where_we_send_it() -> None:
    a_house = house()
    for purpose, answered in (("route", "strong"), ("check", "strong"), ("verify", "strong"), ("refresh", "mid")):
        assert await a_house.models(request(model="strong", mode=CEILING, purpose=purpose, extras={"route": "off"})) == (answered,)


@given(
    said=st.sampled_from(["easy", "hard", "odd", "new", "3", "", None]),
    learnt=st.sampled_from([None, "weak", "mid", "strong"]),
    task_type=st.sampled_from([None, "try", "learn", "mid"]),
    models=st.none() | st.lists(st.sampled_from(["weak", "mid", "strong"]), min_size=1, max_size=32),
    most=st.none() | st.sampled_from([0.003, 0.011, 1]),
    mode=st.builds(
        Mode, name=st.just("M"), model=st.none() | st.sampled_from(["weak", "mid", "strong"]), cascade=st.booleans(), judge=st.booleans()
    ),
    length=st.sampled_from([1, 1000, 10_000]),
)
def test_whatever_is_said_somebody_answers_who_may(
    said: str | None, learnt: str | None, task_type: str | None, models: list[str] | None, most: float | None, mode: Mode, length: int
) -> None:
    a_house = House({"routers": {"auto": ALL}}, ask=Said(said), learned=Learnt(learnt), models=[model("weak", 2000), model("mid", 5000)])
    route = {name: value for name, value in (("models", models), ("max_cost_usd", most)) if value is not None}
    came = request("x" * length, mode=mode, extras={"task_type": task_type, "route": route or None})
    try:
        choice = asyncio.run(a_house.stage.choose(came))
    except InvalidRequest:
        if most is None:
            raise
        return
    assert choice is not None
    assert len(set(choice.models)) == len(choice.models) >= 1
    assert set(choice.models) <= set(models or ALL["models"]) | {mode.model}
    assert len(choice.models) == 1 or mode.cascade
    assert mode.cascade or not choice.checks
    assert 1 <= len(choice.route) <= 64
    if mode.model is not None and length == 1:
        assert max(PRICES[one] for one in choice.models) <= PRICES[mode.model]


def test_the_models_of_these_tests_are_in_the_order_of_their_price() -> None:
    assert PRICES["weak"] < PRICES["mid"] < PRICES["strong"]
