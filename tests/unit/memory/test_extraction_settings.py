"""Wrong settings of rules and extraction are refused, with words that say what to do."""

from typing import Any

import pytest
from pydantic import ValidationError

from farthing.settings import MemorySettings, Settings

_RULE = {"name": "r", "type": "error.500", "key": "k", "value": "x"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "*.foo"}, "no pattern of event types"),
        ({"type": ""}, "no pattern of event types"),
        ({"count": 3}, "count needs within_s"),
        ({"within_s": 3}, "for rules with a count"),
        ({"same": ["data.a"]}, "for rules with a count"),
        ({"count": 2, "within_s": 5, "value": "{data.page}"}, "put data.page into same"),
        ({"count": 2, "within_s": 5, "same": ["page"]}, "no path into an event"),
        ({"count": 101, "within_s": 5}, "less than or equal to 100"),
        ({"value": "{0.x}"}, "no path into an event"),
        ({"value": "{data.x!r}"}, "no path into an event"),
        ({"value": "{data.x:>1000000}"}, "no path into an event"),
        ({"value": "{data}"}, "no path into an event"),
        ({"value": "{data.x"}, "a brace stands alone"),
        ({"value": "}"}, "a brace stands alone"),
        ({"value": "x" * 251}, "longer than max_value_chars"),
        ({"value": float("nan")}, "not a number that JSON has"),
        ({"key": "Big"}, "no key of a fact"),
        ({"when": {"data.a": {"matches": "(a"}}}, "the pattern cannot be read"),
        ({"when": {"data.a": {"matches": "(?=a)"}}}, "look-around"),
        ({"when": {"data.a": {"matches": "a", "min": 1}}}, "can never hold"),
        ({"when": {"data.a": {"min": 3, "max": 2}}}, "can never hold"),
        ({"when": {"data.a": {"is": ["x", 1], "min": 2}}}, "can never hold"),
        ({"when": {"data.a": {"present": False, "is": ["x"]}}}, "can never hold"),
        ({"when": {"data.a": []}}, "at least 1 item"),
        ({"when": {"dat.a": 1}}, "no path into an event"),
        ({"within": 3}, "Extra inputs"),
    ],
)
def test_a_wrong_rule_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MemorySettings.model_validate({"rules": [{**_RULE, **change}]})
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"rules": [_RULE, _RULE]}, "there is a rule 'r' already"),
        ({"rules": [_RULE, {**_RULE, "name": "s", "multi": True}]}, "disagree on whether 'k' is multi"),
        ({"rules": [{**_RULE, "key": "location", "multi": True}]}, "disagree on whether it is multi"),
        ({"keys": {"K": {}}}, "no key of a fact"),
        ({"keys": {"user_role": {}}}, "nothing about 'role' is learnt"),
        ({"keys": {"k": {"type": "number", "values": ["1"]}}}, "values is for texts"),
        ({"extractor": {"types": []}}, "at least 1 item"),
        ({"extractor": {"types": ["a.*.b"]}}, "no pattern of event types"),
    ],
)
def test_wrong_settings_are_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MemorySettings.model_validate(section)
    assert words in str(refused.value)


def test_the_extractor_is_a_chat_model_that_there_is() -> None:
    with pytest.raises(ValidationError, match=r"memory.extractor.model: there is no 'lokal'; did you mean 'local'"):
        Settings.model_validate({"memory": {"extractor": {"model": "lokal"}}})
    Settings.model_validate({"memory": {"extractor": {"model": "local"}}})


def test_the_rules_that_come_along_can_be_switched_off_and_replaced() -> None:
    assert [rule.name for rule in MemorySettings().all_rules()] == ["frustrated-by-errors", "frustrated-by-errors-somewhere"]
    assert MemorySettings(default_rules=False).all_rules() == []
    own = {"rules": [{**_RULE, "name": "frustrated-by-errors"}]}
    assert [rule.key for rule in MemorySettings.model_validate(own).all_rules()] == ["k", "frustrated_by"]


def test_a_value_alone_and_a_list_stand_for_what_it_may_be() -> None:
    when = {"data.a": 1, "data.b": ["x", True], "data.c": {"is": ["y"], "matches": "y"}}
    rule = MemorySettings.model_validate({"rules": [{**_RULE, "when": when}]}).rules[0]
    assert [condition.is_ for condition in rule.when.values()] == [[1], ["x", True], ["y"]]
