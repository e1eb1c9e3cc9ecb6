from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from farthing.errors import SettingsError
from farthing.settings import effective, load_text

Tree = dict[str, Any]
GOOD: Tree = {
    "providers": {"up": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}},
    "models": {
        "weak": {"provider": "up", "upstream_model": "weak"},
        "strong": {"provider": "up", "upstream_model": "strong"},
        "judge": {"provider": "up", "upstream_model": "judge"},
        "vectors": {"provider": "up", "upstream_model": "vectors", "kind": "embeddings"},
    },
    "generate": {"model": "auto", "task_types": {"chat": "auto"}},
    "routing": {
        "replace": {"strong": "auto"},
        "routers": {
            "auto": {
                "models": ["weak", "strong"],
                "rules": [{"name": "sum", "when": {"task_type": "sum", "model": ["auto", "strong"]}, "use": "weak"}],
                "judge": {"model": "judge", "classes": {"1": "weak", "2": {"use": "strong", "means": "hard"}}},
                "cascade": {"models": ["weak", "strong"], "checks": []},
            }
        },
    },
}
_GONE = object()


def changed(*path: str | int, to: Any) -> str:
    """The good settings with something else at a place."""
    tree: Any = copy.deepcopy(GOOD)
    here = tree
    for part in path[:-1]:
        here = here[part]
    if to is _GONE:
        del here[path[-1]]
    else:
        here[path[-1]] = to
    return yaml.safe_dump(tree)


def router(*path: str | int, to: Any) -> str:
    return changed("routing", "routers", "auto", *path, to=to)


def test_good_settings_load_and_what_is_shown_of_them_loads_again() -> None:
    settings = load_text(yaml.safe_dump(GOOD), {})
    assert load_text(effective(settings), {}) == settings
    auto = settings.routing.routers["auto"]
    assert (auto.fallback, auto.last_rule, auto.cascade_models) == ("strong", "judge", ["weak", "strong"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (router("rules", 0, "when", to={"task_typ": "a"}), r"0.when.task_typ: there is no such setting; did you mean 'task_type'"),
        (router("rules", 0, "when", to={"tokens": {"mx": 5}}), r"rules.0.when.tokens.mx: there is no such setting"),
        (router("rules", 0, "when", to={"time": {"form": "1:00"}}), r"when.time.form: there is no such setting; did you mean 'from'"),
        (router("rules", 0, "when", to={"tokens": {}}), "needs min, max or both"),
        (router("rules", 0, "when", to={"tokens": {"min": 2, "max": 1}}), "min 2 is above max 1"),
        (router("rules", 0, "when", to={"tokens": {"min": -1}}), "tokens.min"),
        (router("rules", 0, "when", to={"task_type": []}), "task_type"),
        (router("rules", 0, "when", to={"language": "german"}), "language"),
        (router("rules", 0, "when", to={"tools": "maybe"}), "tools"),
        (router("rules", 0, "when", to={"time": {"from": "25:00"}}), "a time of day such as '18:30', not '25:00'"),
        (router("rules", 0, "when", to={"time": {"from": "24:30"}}), "less than or equal to 1440"),
        (router("rules", 0, "when", to={"time": {"from": "8:00", "to": "8:00"}}), "the same time"),
        (router("rules", 0, "when", to={"time": {"timezone": "Europe/Berln"}}), "no time zone 'Europe/Berln'"),
        (router("rules", 0, "when", to={"time": {"timezone": "../../etc/passwd"}}), "no time zone"),
        (router("rules", 0, "when", to={"time": {"days": ["someday"]}}), "days"),
        (router("rules", 0, "when", to={"model": ["strng"]}), r"rules.0.when.model: there is no 'strng'; did you mean 'strong'"),
        (router("rules", 0, "name", to="a b"), "rules.0.name"),
        (router("rules", 0, "use", to="stron"), r"rules.0.use: 'stron' is not among this router's models; did you mean 'strong'"),
        (router("rules", 0, "use", to="judge"), None),
        (router("rules", 0, "use", to="learned"), "rules.0.use: learned needs the section learned"),
        (router("rules", 0, "use", to="auto"), "'auto' is not among this router's models"),
        (router("rules", to=[GOOD["routing"]["routers"]["auto"]["rules"][0]] * 2), "there is a rule 'sum' already"),
        (router("rules", to=[{"name": "a", "use": "weak"}, {"name": "b", "use": "weak"}]), "'b' can never decide: 'a'"),
        (router("otherwise", to="wek"), "otherwise: 'wek' is not among this router's models; did you mean 'weak'"),
        (router("default", to="judge"), "default: 'judge' is not among this router's models"),
        (router("judge", to=_GONE), None),
        (router("judge", "model", to="jduge"), r"auto.judge.model: there is no 'jduge'; did you mean 'judge'"),
        (router("judge", "model", to="vectors"), "judge.model: 'vectors' is for embeddings"),
        (router("judge", "model", to="auto"), "judge.model: 'auto' is a router"),
        (router("judge", "classes", to={"1": "weak"}), "at least 2"),
        (router("judge", "classes", to={"1": "weak", "2": "judge"}), "judge.classes.2: 'judge' is not among this router's models"),
        (router("judge", "classes", to={"1": "weak", "2": "learned"}), "classes.2: learned needs the section learned"),
        (router("judge", "classes", to={"1": "weak", "a b": "weak"}), "the name of a class"),
        (router("judge", "classes", to={True: "weak", "2": "weak"}), "put the class's name in quotes"),
        (router("judge", "classes", to={1: "weak", 2: "strong"}), None),
        (router("judge", "classes", to={"1": {"us": "weak"}, "2": "weak"}), "there is no such setting; did you mean 'use'"),
        (router("models", to=[]), "models"),
        (router("models", to=["weak", "strong", "weak"]), "'weak' is there twice"),
        (router("models", to=["weak", "strong", "vectors"]), "models: 'vectors' is for embeddings, not for chat"),
        (router("models", to=["weak", "strong", "auto"]), "models: 'auto' is a router"),
        (router("models", to=["weak", "strong", "large"]), "models: there is no 'large'"),
        (router("cascade", "models", to=["weak", "weak"]), "cascade.models: 'weak' is there twice"),
        (router("cascade", "models", to=["judge"]), "cascade.models: 'judge' is not among this router's models"),
        (changed("routing", "routers", "a b", to={"models": ["weak"]}), "a router's name has"),
        (router("rules", 0, "when", to={"time": 5}), "when.time"),
        (changed("routing", "routers", "off", to={"models": ["weak"]}), "means that no router decides"),
        (changed("routing", "routers", "judge", to={"models": ["weak"]}), "there is a model of that name"),
        (changed("routing", "replace", to={"strong": "atuo"}), "routing.replace.strong: there is no 'atuo'; did you mean 'auto'"),
        (changed("routing", "replace", to={"gpt": "auto"}), "routing.replace: there is no 'gpt'"),
        (changed("routing", "replace", to={"vectors": "auto"}), "'vectors' is for embeddings"),
        (changed("routing", "replace", to={"auto": "auto"}), "'auto' is a router"),
        (changed("models", "weak", "fallbacks", to=["weak"]), "cannot fall back to itself"),
        (changed("models", "weak", "fallbacks", to=["auto"]), "fallbacks: there is no 'auto'"),
        (changed("budgets", to={"free_model": "auto"}), "budgets.free_model: there is no 'auto'"),
        (changed("generate", to={"model": "aut"}), "generate.model: there is no 'aut'; did you mean 'auto'"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_an_error_that_names_the_place(text: str, complaint: str | None) -> None:
    if complaint is None:
        load_text(text, {})
        return
    with pytest.raises(SettingsError, match=complaint):
        load_text(text, {})


@pytest.mark.parametrize("name", ["judge", "cascade", "learned"])
def test_a_candidate_is_not_called_as_something_that_rules_use(name: str) -> None:
    tree = copy.deepcopy(GOOD)
    tree["models"][name] = {"provider": "up", "upstream_model": "x"}
    tree["routing"] = {"routers": {"auto": {"models": [name]}}}
    with pytest.raises(SettingsError, match="which rules use for something else"):
        load_text(yaml.safe_dump(tree), {})


def test_yaml_reads_times_and_norwegian_as_they_are_meant() -> None:
    text = """
models: {a: {provider: local, upstream_model: x}}
routing: {routers: {r: {models: [a], rules: [
  {name: n, when: {language: [no, de], time: {from: 18:30, to: 08:00}}, use: a}]}}}
"""
    when = load_text(text, {}).routing.routers["r"].rules[0].when
    assert when.language == ["no", "de"]
    assert when.time is not None
    assert (when.time.from_, when.time.to) == (18 * 60 + 30, 8 * 60)
