from __future__ import annotations

from typing import Any

import pytest
from routed import House, request

from farthing.errors import InvalidRequest, ModelNotFound, NotAllowed
from farthing.routing.options import read_options
from farthing.types import Json, Operation, Principal

ROUTERS: Json = {
    "auto": {
        "models": ["weak", "strong"],
        "rules": [{"name": "pro", "when": {"tier": "pro"}, "use": "strong"}, {"name": "sum", "when": {"task_type": "sum"}, "use": "weak"}],
        "learned": {"quality": 0.9},
    },
    "plain": {"models": ["weak", "mid"]},
}
ROUTING: Json = {"routers": ROUTERS, "replace": {"mid": "plain"}}


def fingerprint(house: House, text: str = "Hi", **more: Any) -> str:
    return house.routers.admit(request(text, **more))


def test_a_router_is_a_name_beside_the_models() -> None:
    house = House(ROUTING)
    who = Principal(key_id=request().principal.key_id, tenant="acme")
    assert house.catalogue.names(who, Operation.CHAT) == ["weak", "mid", "strong", "judge", "auto", "plain"]
    with pytest.raises(ModelNotFound, match="not for embeddings"):
        house.routers.admit(request(operation=Operation.EMBEDDINGS))
    with pytest.raises(ModelNotFound, match=r"'aut' does not exist.*auto"):
        house.routers.admit(request(model="aut"))


def test_a_key_may_use_the_routers_on_its_list_and_no_others() -> None:
    house = House(ROUTING)
    narrow = {"models": frozenset({"auto"})}
    assert house.routers.admit(request(who=narrow))
    for wrong in ("plain", "strong"):
        with pytest.raises(NotAllowed):
            house.routers.admit(request(who=narrow, model=wrong))
    with pytest.raises(NotAllowed) as caught:
        house.routers.admit(request(who=narrow, extras={"route": "plain"}))
    assert caught.value.param == "farthing.route"


async def test_a_model_is_not_replaced_for_a_key_that_may_not_use_the_router() -> None:
    house = House(ROUTING)
    assert await house.models(request(model="mid", who={"models": frozenset({"mid"})})) == ("mid",)
    choice = await house.stage.choose(request(model="mid"))
    assert choice is not None
    assert (choice.router, choice.baseline) == ("plain", "mid")


@pytest.mark.parametrize(
    ("model", "route", "message"),
    [
        ("auto", "off", "'off' needs the name of a model"),
        ("auto", "plan", "no router 'plan'; did you mean 'plain'"),
        ("auto", "x" * 10_000, "no router"),
        ("auto", {"qualty": 1}, "did you mean 'quality'"),
        ("auto", {"off": True}, "no such option"),
        ("auto", {"x" * 10_000: 1}, "no such option"),
        ("auto", {"quality": 0}, "quality"),
        ("auto", {"quality": 1.01}, "quality"),
        ("auto", {"quality": "0.5"}, "quality"),
        ("auto", {"quality": True}, "quality"),
        ("plain", {"quality": 0.5}, "no learned part"),
        ("auto", {"models": []}, "models"),
        ("auto", {"models": "weak"}, "models"),
        ("auto", {"models": ["mid"]}, "'mid' is not a candidate of 'auto'"),
        ("auto", {"models": ["stron"]}, "did you mean 'strong'"),
        ("auto", {"models": ["weak"] * 33}, "models"),
        ("auto", {"max_cost_usd": 0}, "above 0"),
        ("auto", {"max_cost_usd": -1}, "above 0"),
        ("auto", {"max_cost_usd": "NaN"}, "above 0"),
        ("auto", {"max_cost_usd": 1e300}, "above 0"),
        ("auto", {"max_cost_usd": "much"}, "max_cost_usd"),
        ("auto", {"max_cost_usd": True}, "max_cost_usd"),
        ("auto", {"router": 1}, "router"),
        ("auto", {"checks": "all"}, "checks"),
        ("auto", {"checks": [{"kind": "judge", "model": "judge"}]}, "kind"),
        ("auto", {"checks": [{"kind": "pattern"}]}, "must_match"),
        ("auto", {"checks": [{"kind": "empty"}] * 9}, "checks"),
        ("strong", {"quality": 0.5}, "'strong' is a model and no router"),
        ("strong", {"models": ["strong"]}, "'strong' is a model and no router"),
    ],
)
def test_options_that_are_wrong_are_refused_and_named(model: str, route: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        House(ROUTING).routers.admit(request(model=model, extras={"route": route}))
    assert (caught.value.param or "").startswith("farthing.route")
    assert len(caught.value.message) < 1000


def test_embeddings_have_no_route() -> None:
    with pytest.raises(InvalidRequest, match="nothing routes embeddings"):
        House(ROUTING).routers.admit(request(model="vectors", operation=Operation.EMBEDDINGS, extras={"route": "auto"}))


def test_all_that_an_answer_hangs_on_is_in_the_fingerprint() -> None:
    house = House(ROUTING)
    routes: list[Any] = [
        None,
        {"quality": 0.9},
        {"quality": 0.5},
        {"models": ["weak"]},
        {"max_cost_usd": 1},
        {"max_cost_usd": 2},
        {"checks": [{"kind": "empty"}]},
        {"router": "plain"},
    ]
    asked: list[Json] = [
        *({"extras": {"route": route}} for route in routes),
        {"who": {"tier": "pro"}},
        {"extras": {"task_type": "sum"}},
        {"model": "plain"},
        {"model": "mid"},
        {"model": "mid", "extras": {"route": "off"}},
        {"model": "weak", "extras": {"route": "plain"}},
        {"model": "weak"},
        {"model": "strong", "extras": {"route": "plain"}},
    ]
    found = [fingerprint(house, **one) for one in asked]
    assert len(set(found)) == len(found)
    assert fingerprint(house, model="weak", extras={"route": "off"}) == fingerprint(house, model="weak")


def test_what_no_rule_looks_at_does_not_part_answers() -> None:
    house = House(ROUTING)
    same: list[Json] = [{}, {"stream": True}, {"extras": {"tags": ("a",)}}, {"extras": {"task_type": "other"}}, {"who": {"tier": "team"}}]
    assert len({fingerprint(house, **one) for one in same}) == 1
    assert fingerprint(house, extras={"route": {"models": ["weak", "strong"]}}) == fingerprint(
        house, extras={"route": {"models": ["strong", "weak", "weak"]}}
    )


def test_a_router_whose_settings_change_gives_other_answers() -> None:
    changed = {**ROUTERS, "auto": {**ROUTERS["auto"], "default": "weak"}}
    before, after = House(ROUTING), House({**ROUTING, "routers": changed})
    assert fingerprint(before) != fingerprint(after)
    assert fingerprint(before, model="plain") == fingerprint(after, model="plain")


def test_a_number_of_dollars_is_exact() -> None:
    assert read_options({"max_cost_usd": 0.1}).max_microusd == 100_000
    assert read_options({"max_cost_usd": 0.0000019}).max_microusd == 1
    assert read_options({"max_cost_usd": "0.3"}).max_microusd == 300_000
