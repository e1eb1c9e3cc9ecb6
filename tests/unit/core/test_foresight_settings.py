from typing import Any

import pytest
import yaml

from farthing.errors import SettingsError
from farthing.settings import Settings, load_text

BASE: dict[str, Any] = {
    "local": {"enabled": False},
    "providers": {"p": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}},
    "models": {"fast": {"provider": "p", "upstream_model": "m"}},
}
URL = "https://api.example.com/users/{user}/alerts"


def loaded(action: dict[str, Any], **section: Any) -> Settings:
    whole = {
        "states": {"deployments": {"types": ["deployment.*"]}},
        "hosts": {"api.example.com": {}, "10.0.0.7:8080": {"private": True}},
        "actions": {"briefing": {"model": "fast", "user": "Brief {user}.", **action}},
        **section,
    }
    return load_text(yaml.safe_dump({**BASE, "foresight": whole}), {})


def test_an_action_is_read() -> None:
    context = {"alerts": {"url": URL}, "inner": {"url": "http://10.0.0.7:8080/x?u={user}"}, "facts": {"facts": []}}
    said = loaded(
        {"after": ["user.*"], "user": "{context.alerts} {context.inner} {context.facts}", "context": context, "depends_on": ["deployments"]}
    )
    action = said.foresight.actions["briefing"]
    assert (action.after, action.ttl_s, action.answer) == (["user.*"], 3600, "text")


def test_yaml_reads_after_as_a_word_and_not_as_true() -> None:
    text = yaml.safe_dump(BASE) + "\nforesight: {actions: {a: {after: [user.login], model: fast, user: x}}}"
    assert load_text(text, {}).foresight.actions["a"].after == ["user.login"]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ({"model": "fats"}, "did you mean 'fast'"),
        ({"depends_on": ["deploymnts"]}, "did you mean 'deployments'"),
        ({"user": "Brief {user.name}."}, "there is no {user.name}"),
        ({"user": "Brief {usr}."}, "known: {user}"),
        ({"user": "Brief {user"}, "single '{'"),
        ({"user": "  "}, "blank"),
        ({"user": "{context.mail}"}, "there is no {context.mail}"),
        ({"context": {"alerts": {"url": URL}}}, "context.alerts is not used"),
        ({"after": ["user..*x"]}, "after"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"segment": "plan"}, "segment"),
        ({"answer": "xml"}, "answer"),
        ({"price_of_latency_usd": -1}, "price_of_latency_usd"),
    ],
)
def test_a_wrong_action_says_what_is_wrong(action: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match="foresight") as refused:
        loaded(action)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://api.exmple.com/x", "did you mean 'api.example.com'"),
        ("https://api.example.com:8443/x", "not one of foresight.hosts"),
        ("http://api.example.com/x", "private: true"),
        ("https://{user}/x", "without any {place}"),
        ("https://api.example.com{user}/x", "without any {place}"),
        ("https://api.example.com", "https://HOST/"),
        ("https://me:pw@api.example.com/x", "without user"),
        ("https://API.example.com/x", "lower case"),
        ("file:///etc/passwd", "https://HOST/"),
        ("https://api.example.com/x#{user}", "fragment"),
        ("https://api.example.com/{context.other}", "there is no {context.other}"),
    ],
)
def test_a_url_that_may_lead_elsewhere_is_refused(url: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        loaded({"user": "{context.page}", "context": {"page": {"url": url}}})
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä", "x" * 65])
def test_names_of_actions_fit_into_a_path(name: str) -> None:
    with pytest.raises(SettingsError):
        loaded({}, actions={name: {"model": "fast", "user": "x"}})


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"hosts": {"https://api.example.com": {}}}, "is no host"),
        ({"report": "weekly"}, "cron"),
        ({"states": {"s": {"types": ["a"], "per": "project"}}}, "per"),
        ({"states": {"s": {"types": []}}}, "types"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(section: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        loaded({}, **section)
    assert words in str(refused.value)


def test_a_source_is_one_thing() -> None:
    for source in ({}, {"url": URL, "data": "data.x"}):
        with pytest.raises(SettingsError, match="one of url, facts and data"):
            loaded({"user": "{context.page}", "context": {"page": source}})
