"""Routers through the real server and the official SDK: a name that callers use as a model, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import openai
import pytest
from conftest import Lasting
from inside import ask, eventually, new_key, query, settled
from openai import OpenAI

from farthing.testing.installation import Installation
from farthing.testing.replies import completion, rate_limited, stream
from farthing.testing.upstream import ScriptedUpstream

Json = dict[str, Any]
EASY, HARD = completion('{"class": "1"}'), completion("2")


@pytest.fixture(scope="module")
def routed(folders: Path, upstream: ScriptedUpstream, lasting: Lasting) -> Installation:
    """Two models at different prices, a judge, and routers over them. `deadline_s` of the judge is short."""

    def model(name: str, usd: float) -> Json:
        return {"provider": "up", "upstream_model": name, "price": {"input_usd_per_1m": usd, "output_usd_per_1m": usd}}

    judge = {"model": "referee", "classes": {"1": "small", "2": "large"}, "timeout_s": 0.5}
    settings = {
        "local": {"enabled": False},
        "ledger": {"flush_interval_s": 0.02},
        "cache": {"semantic": {"enabled": False}},
        "providers": {"up": {"kind": "openai_compatible", "base_url": upstream.base_url, "retries": 0, "cooldown": {"failures": 1000}}},
        "models": {
            "small": model("small", 1),
            "large": model("large", 10),
            "referee": model("referee", 1),
            "vectors": {**model("vectors", 1), "kind": "embeddings"},
        },
        "generate": {"model": "auto"},
        "modes": {"ladder": {"DEEP": {}, "LOW": {"model": "small", "judge": False, "cascade": False}}},
        "routing": {
            "replace": {"large": "auto"},
            "routers": {
                "auto": {
                    "models": ["small", "large"],
                    "rules": [
                        {"name": "summaries", "when": {"task_type": "summarize"}, "use": "small"},
                        {"name": "acme-tools", "when": {"tenant": "acme", "tools": True}, "use": "small"},
                        {"name": "paying", "when": {"tier": "pro"}, "use": "large"},
                    ],
                    "otherwise": "large",
                    "learned": {},
                },
                "judged": {"models": ["small", "large"], "judge": judge},
                "tried": {"models": ["small", "large"], "cascade": {"checks": [{"kind": "json_schema"}]}},
            },
        },
    }
    return lasting(Installation(folders / "routed", settings))


@pytest.fixture
def client(routed: Installation, up: ScriptedUpstream) -> Iterator[OpenAI]:
    del up
    with OpenAI(base_url=routed.base_url, api_key=routed.key, max_retries=0, timeout=20) as client:
        yield client


def words() -> str:
    return f"What is {uuid4()}?"


def went(client: OpenAI, model: str, text: str | None = None, farthing: Json | None = None, **more: Any) -> Json:
    """Where a request went, by the headers."""
    body = {"farthing": farthing} if farthing is not None else None
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": text or words()}], extra_body=body, **more
    )
    names = ("model", "route", "source", "cost-usd", "saved-usd", "request-id")
    return {name: raw.headers.get(f"x-farthing-{name}") for name in names}


def where(client: OpenAI, model: str, **more: Any) -> tuple[str, str]:
    found = went(client, model, **more)
    return found["model"], found["route"]


def test_a_router_is_listed_among_the_models_and_chosen_where_none_is_named(client: OpenAI, routed: Installation) -> None:
    owners = {model.id: model.owned_by for model in client.models.list()}
    assert {name: owners[name] for name in ("small", "auto", "judged", "tried")} == {
        "small": "up",
        "auto": "farthing",
        "judged": "farthing",
        "tried": "farthing",
    }
    assert client.models.retrieve("auto").id == "auto"
    body = {"prompt": words(), "task_type": "summarize"}
    answer = client.post(f"{routed.url}/api/v1/generate", body=body, cast_to=object)
    assert answer


def test_rules_decide_and_savings_are_counted_against_the_default(client: OpenAI, routed: Installation) -> None:
    small = went(client, "auto", farthing={"task_type": "summarize"})
    assert (small["model"], small["route"]) == ("small", "rule:summaries")
    (row,) = settled(routed, [small["request-id"]])[small["request-id"]]
    assert (row["model_asked"], row["model_used"], row["route"], row["task_type"]) == ("auto", "small", "rule:summaries", "summarize")
    assert row["saved_microusd"] == 9 * row["cost_microusd"] > 0
    assert where(client, "auto") == ("large", "default")


def test_who_asks_for_a_model_in_whose_place_a_router_stands_is_routed_unless_they_say_off(client: OpenAI) -> None:
    assert where(client, "large", farthing={"task_type": "summarize"}) == ("small", "rule:summaries")
    assert where(client, "large", farthing={"task_type": "summarize", "route": "off"}) == ("large", "direct")
    assert where(client, "small", farthing={"task_type": "summarize"}) == ("small", "direct")
    assert where(client, "small", farthing={"route": "auto"}) == ("large", "default")
    headers = {"x-farthing-route": "off", "x-farthing-task-type": "summarize"}
    assert where(client, "large", extra_headers=headers) == ("large", "direct")
    assert where(client, "auto", extra_headers={"x-farthing-route": '{"models": ["small"]}'}) == ("small", "default")
    with pytest.raises(openai.BadRequestError, match="x-farthing-route is not JSON"):
        where(client, "auto", extra_headers={"x-farthing-route": '{"models"'})


def test_streams_are_routed_too(client: OpenAI, up: ScriptedUpstream) -> None:
    up.script("small", stream(("a", "b")))
    with client.chat.completions.with_streaming_response.create(
        model="auto", messages=[{"role": "user", "content": words()}], stream=True, extra_body={"farthing": {"task_type": "summarize"}}
    ) as raw:
        assert (raw.headers["x-farthing-model"], raw.headers["x-farthing-route"]) == ("small", "rule:summaries")
        assert "".join(part.choices[0].delta.content or "" for part in raw.parse() if part.choices) == "ab"


def test_a_key_that_may_use_a_router_is_answered_by_whatever_it_chooses(routed: Installation, up: ScriptedUpstream) -> None:
    del up
    narrow = new_key(routed, "acme", models=["auto"])["key"]
    assert ask(routed, narrow, words(), model="auto").headers["x-farthing-model"] == "large"
    for wrong in ("large", "judged", "small"):
        assert ask(routed, narrow, words(), model=wrong).status_code == 403
    refused = ask(routed, narrow, words(), model="auto", farthing={"route": "judged"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "farthing.route")
    of_model = new_key(routed, "acme", models=["large"])["key"]
    answered = ask(routed, of_model, words(), model="large", farthing={"task_type": "summarize"})
    assert (answered.headers["x-farthing-model"], answered.headers["x-farthing-route"]) == ("large", "direct"), "not through a router"


def test_a_tenants_rule_is_for_that_tenant(routed: Installation, up: ScriptedUpstream) -> None:
    del up
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    theirs, others = new_key(routed, "acme")["key"], new_key(routed, "other")["key"]
    assert ask(routed, theirs, words(), model="auto", tools=tools).headers["x-farthing-route"] == "rule:acme-tools"
    forged = {"tenant": "acme", "mode": "DEEP"}
    assert ask(routed, others, words(), model="auto", tools=tools, farthing=forged).status_code == 400
    assert ask(routed, others, words(), model="auto", tools=tools).headers["x-farthing-route"] == "default"


def test_answers_of_a_tier_are_not_given_to_another_that_rules_part_from_it(routed: Installation, up: ScriptedUpstream) -> None:
    del up
    free, paying = (new_key(routed, "tiers", tier=tier)["key"] for tier in ("free", "pro"))
    text = words()
    extras = {"task_type": "summarize"}
    answers = [ask(routed, key, text, model="auto", farthing=extras) for key in (free, free, paying)]
    assert [answer.headers["x-farthing-source"] for answer in answers] == ["model", "exact", "model"]
    assert ask(routed, paying, text, model="auto").headers["x-farthing-route"] == "rule:paying"


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ({"qualty": 1}, "did you mean 'quality'"),
        ({"quality": 2}, "quality"),
        ({"models": ["referee"]}, "not a candidate"),
        ("atuo", "did you mean 'auto'"),
        ({"router": "judged", "quality": 0.5}, "no learned part"),
        ({"checks": [{"kind": "judge", "model": "referee"}]}, "kind"),
        ({"max_cost_usd": 0.0000001}, "the cheapest, small"),
        (7, "route"),
        ([], "route"),
    ],
)
def test_wrong_options_are_refused_and_named(client: OpenAI, up: ScriptedUpstream, route: Any, message: str) -> None:
    before = up.received
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        went(client, "auto", farthing={"route": route})
    assert (caught.value.param or "").startswith("farthing.route")
    assert up.received == before, "nothing was paid for"


def test_embeddings_have_no_route(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="nothing routes embeddings"):
        client.embeddings.create(model="vectors", input="Hi", extra_body={"farthing": {"route": "auto"}})
    with pytest.raises(openai.NotFoundError, match="not for embeddings"):
        client.embeddings.create(model="auto", input="Hi")


def test_a_request_may_narrow_the_choice(client: OpenAI) -> None:
    assert where(client, "auto", farthing={"route": {"models": ["small"]}}) == ("small", "default")
    assert where(client, "auto", farthing={"route": {"max_cost_usd": 0.005}}) == ("small", "default")


def test_answers_for_one_quality_are_not_given_for_another(client: OpenAI) -> None:
    text = words()
    sources = [went(client, "auto", text, {"route": {"quality": quality}})["source"] for quality in (0.5, 0.9, 0.5)]
    sources += [went(client, "auto", text)["source"], went(client, "large", text)["source"], went(client, "auto", text)["source"]]
    assert sources == ["model", "model", "exact", "model", "model", "exact"]


@pytest.mark.parametrize(("said", "model", "route"), [(EASY, "small", "judge:1"), (HARD, "large", "judge:2")])
def test_the_judge_decides_and_is_asked_once_for_the_same_words(
    client: OpenAI, up: ScriptedUpstream, routed: Installation, said: Any, model: str, route: str
) -> None:
    up.script("referee", said)
    text, before = words(), len(up.of("referee"))
    first = went(client, "judged", text, {"cache": "refresh"})
    again = went(client, "judged", text, {"cache": "refresh"}, temperature=0.5)
    assert [(one["model"], one["route"], one["source"]) for one in (first, again)] == [(model, route, "model")] * 2
    asked = up.of("referee")[before:]
    assert len(asked) == 1, "its word is kept"
    assert asked[0].body["messages"][1]["content"] == f"<request>\n{text}\n</request>"
    rows = eventually(
        lambda: query(routed, "SELECT * FROM farthing.ledger WHERE purpose = 'route' AND source = 'model' ORDER BY id DESC LIMIT 1"),
        "the judge in the ledger",
    )
    assert rows[0]["cost_microusd"] > 0
    assert (rows[0]["saved_microusd"], rows[0]["final"]) == (-rows[0]["cost_microusd"], False), "taken off what was saved"


@pytest.mark.parametrize(
    "said",
    [completion("3"), completion("It is class 1, I think."), completion(""), rate_limited(), completion('{"class": "1"}', delay=1.5)],
    ids=["three", "prose", "empty", "error", "late"],
)
def test_a_judge_that_names_no_class_in_time_leaves_it_to_the_default(client: OpenAI, up: ScriptedUpstream, said: Any) -> None:
    up.script("referee", said)
    assert where(client, "judged") == ("large", "default")


def test_a_judges_budget_is_the_callers(routed: Installation, up: ScriptedUpstream) -> None:
    up.script("referee", EASY)
    poor = new_key(routed, "poor", budget_usd="0.000001/day")["key"]
    before = len(up.of("referee"))
    assert ask(routed, poor, words(), model="judged").status_code == 429
    assert len(up.of("referee")) == before


def test_a_cascade_asks_the_next_model_when_the_answer_does_not_pass(client: OpenAI, up: ScriptedUpstream, routed: Installation) -> None:
    up.script("small", completion("no JSON at all"))
    up.script("large", completion('{"a": 1}'))
    found = went(client, "tried", response_format={"type": "json_object"})
    assert (found["model"], found["route"]) == ("large", "cascade")
    rows = settled(routed, [found["request-id"]])[found["request-id"]]
    assert [(row["model_used"], row["checks"], row["final"]) for row in rows] == [
        ("small", "failed:json_schema", False),
        ("large", "passed", True),
    ]
    up.script("small", completion('{"b": 2}'))
    assert where(client, "tried", response_format={"type": "json_object"}) == ("small", "otherwise")


def test_a_mode_holds_routers_and_models_under_its_ceiling(routed: Installation, up: ScriptedUpstream) -> None:
    low = new_key(routed, "low")["key"]
    routed.cli("mode", "pin", "LOW", "--scope", "tenant:low", "--for", "1h")
    eventually(lambda: ask(routed, low, words(), model="small").headers["x-farthing-mode"] == "LOW", "the mode")
    before = len(up.of("referee"))
    found = {model: ask(routed, low, words(), model=model).headers for model in ("large", "auto", "judged", "tried", "small")}
    assert {model: (headers["x-farthing-model"], headers["x-farthing-route"]) for model, headers in found.items()} == {
        "large": ("small", "mode:LOW"),
        "auto": ("small", "mode:LOW"),
        "judged": ("small", "mode:LOW"),
        "tried": ("small", "mode:LOW"),
        "small": ("small", "direct"),
    }
    assert len(up.of("referee")) == before, "no judge is asked"
    strict = new_key(routed, "low", models=["large"])["key"]
    assert ask(routed, strict, words(), model="large").headers["x-farthing-model"] == "large", "it may use no other"
    explained = json.loads(routed.cli("route", "explain", "Hi", "--model", "judged", "--tenant", "low", "--json").stdout.splitlines()[-1])
    assert (explained["mode"], explained["models"]) == ("LOW", ["small"])


def test_explain_says_what_would_be_done_and_asks_nobody(routed: Installation, up: ScriptedUpstream) -> None:
    before = up.received

    def explained(*arguments: str) -> Json:
        found: Json = json.loads(routed.cli("route", "explain", *arguments, "--json").stdout.splitlines()[-1])
        return found

    rules = explained("Wie geht das?", "--tier", "pro", "--tenant", "acme")
    assert (rules["models"], rules["route"], rules["language"]) == (["large"], "rule:paying", "de")
    assert [(rule["rule"], rule["holds"]) for rule in rules["rules"]] == [("summaries", False), ("acme-tools", False), ("paying", True)]
    assert rules["rules"][1]["failed"] == {"condition": "tools", "wanted": "true", "found": False}
    assert [one["model"] for one in rules["candidates"]] == ["small", "large"]
    judged = explained("Hi", "--model", "judged")
    assert (judged["models"], judged["judge"]["classes"]) == (None, {"1": ["small"], "2": ["large"]})
    assert judged["judge"]["question"]["messages"][1]["content"] == "<request>\nHi\n</request>"
    low = explained("Hi", "--model", "judged", "--mode", "LOW")
    assert (low["models"], low["route"]) == (["small"], "mode:LOW")
    assert up.received == before
    up.script("referee", EASY)
    asked = explained(words(), "--model", "judged", "--ask")
    assert (asked["models"], asked["route"]) == (["small"], "judge:1")
    assert up.received == before + 1


def test_the_list_of_models_names_the_routers(routed: Installation) -> None:
    found = json.loads(routed.cli("models", "--json").stdout.splitlines()[-1])
    assert {"name": "auto", "models": ["small", "large"]} in found["routers"]
    assert "judged" in routed.cli("models").stdout


def test_explain_in_words_names_the_rule_and_the_condition(routed: Installation) -> None:
    said = routed.cli("route", "explain", "Hi", "--model", "auto").stdout
    assert "rule summaries does not hold: task_type is None, wanted: summarize" in said
    assert "default: large" in said
    for arguments, complaint in (
        (("--model", "atuo"), "'atuo' does not exist"),
        (("--mode", "LWO"), "there is no mode 'LWO'"),
        (("--at", "yesterday"), "at"),
        (("--model", "judged", "--quality", "0.5"), "no learned part"),
    ):
        refused = routed.cli("route", "explain", "Hi", *arguments, check=False)
        assert refused.returncode == 1
        assert complaint in refused.stderr
