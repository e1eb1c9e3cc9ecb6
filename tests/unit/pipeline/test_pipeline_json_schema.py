"""Schemas and texts come from strangers: each outcome by table, the check against the library by property, the attacks by their bound."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from farthing.pipeline.json_schema import check_json, check_json_object, check_response, wrong_schema
from farthing.types import Json

PERSON: Json = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_an_answer_that_fits_the_schema_has_nothing_wrong() -> None:
    assert check_json('{"name": "Ann", "age": 31}', PERSON) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Ann is 31 years old.", "not JSON"),
        ('```json\n{"name": "Ann", "age": 31}\n```', "not JSON"),
        ('{"name": "Ann", "age": 31', "not JSON"),
        ('{"name": "Ann", "age": 31} Done.', "not JSON"),
        ('{"name": "Ann", "age": NaN}', "not JSON"),
        ('{"name": "Ann"}', "$: 'age' is a required property"),
        ('{"name": "Ann", "age": "31"}', "$.age: '31' is not of type 'integer'"),
        ('{"name": "Ann", "age": -1}', "$.age: -1 is less than the minimum"),
        ('{"name": "Ann", "age": 31, "x": 1}', "$: the property 'x' is not allowed"),
        ("[]", "$: [] is not of type 'object'"),
        ("", "not JSON"),
        ("\ud800", "half a surrogate"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said(text: str, reason: str) -> None:
    assert reason in str(check_json(text, PERSON))


# What llama.cpp leaves out of its grammar while answering 200 (tests/contract/local/test_local_chat_wire.py sees it do so).
@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "pattern": "[0-9]{5}"}, '"ab12345"', '"Ann"'),
        ({"type": "number", "exclusiveMinimum": 5, "maximum": 6}, "5.5", "31"),
        ({"type": "integer", "multipleOf": 7}, "49", "50"),
        ({"type": "array", "uniqueItems": True}, '[1, true, {"a": 1}, {"a": 2}, "1", null, [1]]', '[{"a": 1}, {"a": 1.0}]'),
        ({"type": "array", "contains": {"const": 99}}, "[1, 99]", "[1, 2]"),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, "[1]", "[1, 2]"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "1.5", "1"),
        ({"not": {"type": "string"}}, "1", '"x"'),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, '{"a": 1, "b": 1}', '{"a": 1}'),
        ({"type": "object", "minProperties": 1}, '{"a": 1}', "{}"),
        ({"propertyNames": {"pattern": "^q"}}, '{"qa": 1}', '{"a": 1}'),
        ({"patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": False}, '{"x_a": 1}', '{"y": 1}'),
        ({"patternProperties": {"^x_": {"type": "integer"}}}, '{"x_a": 1}', '{"x_a": "1"}'),
        ({"additionalProperties": {"type": "integer"}, "properties": {"a": {}}}, '{"a": "x", "b": 1}', '{"b": "x"}'),
        ({"properties": {"a": {}}, "unevaluatedProperties": False}, '{"a": 1}', '{"b": 1}'),
        ({"dependentRequired": {"a": ["b"]}}, '{"a": 1, "b": 2}', '{"a": 1}'),
        ({"$defs": {"p": {"$anchor": "here", "type": "integer"}}, "$ref": "#here"}, "1", '"1"'),
        ({"$defs": {"t": {"items": {"$ref": "#/$defs/t"}, "type": "array"}}, "$ref": "#/$defs/t"}, "[[], [[]]]", "[[1]]"),
    ],
)
def test_what_the_engine_ignores_is_checked(schema: Json, good: str, bad: str) -> None:
    assert check_json(good, schema) is None
    assert check_json(bad, schema) is not None


def test_a_pattern_that_no_linear_engine_runs_is_not_checked() -> None:
    assert check_json('"anything"', {"pattern": "^(?=.*\\d)x$"}) is None
    assert check_json('{"anything": 1}', {"patternProperties": {"^(?=.*\\d)x$": False}, "additionalProperties": False}) is None


def test_a_reference_outside_the_schema_is_reported_and_not_fetched() -> None:
    assert "https://example.com/s.json" in str(check_json("1", {"$ref": "https://example.com/s.json"}))
    assert "does not hold" in str(check_json("1", {"$ref": "#/$defs/none"}))


def _doubling(keyword: str) -> Json:
    """Sixty lines that ask for 2**60 steps."""
    defs: Json = {f"l{i}": {keyword: [{"$ref": f"#/$defs/l{i + 1}"}] * 2} for i in range(60)}
    return {"$defs": defs | {"l60": {"type": "integer"}}, "$ref": "#/$defs/l0"}


@pytest.mark.parametrize(
    ("text", "schema", "reason"),
    [
        ("1", _doubling("allOf"), "more than 5000 steps"),
        ('"x"', _doubling("anyOf"), "more than 5000 steps"),
        (json.dumps("x" * 900_000), {"anyOf": [{"type": "integer"}] * 5_000}, "more than 5000 steps"),
        ("1", {"$ref": "#"}, "nested too deeply"),
        (json.dumps("a" * 5_000 + "!"), {"pattern": "^(a+)+$"}, "does not match"),
        (json.dumps({"a" * 5_000 + "!": 1}), {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, "is not allowed"),
        (json.dumps([*range(4_000), 7]), {"uniqueItems": True}, "not unique"),
        ('"' + "x" * 1_000_000 + '"', {}, "longer than 1000000 characters"),
    ],
)
def test_hostile_schemas_and_texts_end_soon(text: str, schema: Json, reason: str) -> None:
    assert reason in str(check_json(text, schema, max_steps=5_000))


def test_hostile_name_patterns_do_not_run_through_unevaluated_properties() -> None:
    schema = {"patternProperties": {"^(a+)+$": {}}, "unevaluatedProperties": False}
    assert check_json(json.dumps({"a" * 5_000 + "!": 1}), schema) is None


@pytest.mark.parametrize("schema", [{"type": "zork"}, {"properties": 5}, {"required": "a"}, [1], "x", {"minimum": "a"}])
def test_a_schema_that_is_none_is_the_callers_mistake(schema: Any) -> None:
    assert wrong_schema(schema) is not None
    assert wrong_schema(PERSON) is None


@pytest.mark.parametrize("schema", [{"type": "zork"}, {"properties": 5}, [1], "x"])
def test_a_malformed_schema_never_raises(schema: Any) -> None:
    assert "cannot be read" in str(check_json("{}", schema))


def test_a_message_stays_short() -> None:
    assert len(str(check_json(json.dumps(["x" * 10_000]), {"items": {"type": "integer"}}))) < 400


@pytest.mark.parametrize(("text", "reason"), [("{}", None), (' {"a": 1}\n', None), ("[1]", "not an object"), ("hello", "not JSON")])
def test_json_object_mode_wants_an_object(text: str, reason: str | None) -> None:
    said = check_json_object(text)
    assert said is None if reason is None else reason in str(said)


@pytest.mark.parametrize(
    ("response_format", "text", "fits"),
    [
        (None, "free text", True),
        ({"type": "text"}, "free text", True),
        ({"type": "json_object"}, "{}", True),
        ({"type": "json_object"}, "free text", False),
        ({"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}, '{"name": "A", "age": 1}', True),
        ({"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}, "{}", False),
        ({"type": "json_schema", "json_schema": {"name": "p"}}, "{}", True),
        ({"type": "json_schema"}, "free text", False),
    ],
)
def test_each_response_format_is_checked_as_it_asks(response_format: Json | None, text: str, fits: bool) -> None:  # noqa: FBT001 - a table
    assert (check_response(response_format, text) is None) is fits


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1.0]) | st.sampled_from(["", "a", "ab"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
types = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])
leaves: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {},
    optional={
        "type": types,
        "minimum": st.integers(-2, 2),
        "minLength": st.integers(0, 2),
        "pattern": st.sampled_from(["^a", "b$", "a|b"]),
        "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
        "uniqueItems": st.booleans(),
        "enum": st.lists(scalars, min_size=1, max_size=3),
    },
)


def _around(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    patterns = st.dictionaries(st.sampled_from(["^a", "b|c"]), inner, max_size=2)
    several = st.lists(inner, min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": named,
            "patternProperties": patterns,
            "additionalProperties": inner | st.booleans(),
            "items": inner,
            "anyOf": several,
            "allOf": several,
            "not": inner,
        },
    )


@given(value=values, schema=st.recursive(leaves, _around, max_leaves=6))
def test_the_bounded_check_agrees_with_the_library(value: Any, schema: Json) -> None:
    assert (check_json(json.dumps(value), schema) is None) is bool(Draft202012Validator(schema).is_valid(value))
