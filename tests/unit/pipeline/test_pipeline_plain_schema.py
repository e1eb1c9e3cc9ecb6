"""The short way says yes only where the library does, and does so for the schemas that most people write."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from farthing.pipeline.plain_schema import surely_fits
from farthing.types import Json

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -0.0]) | st.sampled_from(["", "a", "ab"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
types = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.booleans() | st.fixed_dictionaries(
        {},
        optional={
            "type": types | st.lists(types, min_size=1, max_size=2, unique=True),
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "additionalProperties": inner,
            "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
            "items": inner,
            "enum": st.lists(scalars, min_size=1, max_size=3),
            "const": scalars,
            "minimum": st.integers(-2, 2),
            "maximum": st.integers(-2, 2),
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(0, 2),
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
            "title": st.just("A title"),
            "not": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "pattern": st.just("^a"),
        },
    )


schemas = st.recursive(st.booleans() | st.fixed_dictionaries({}, optional={"type": types}), _around, max_leaves=5)


@given(value=values, schema=schemas)
def test_what_surely_fits_fits(value: Any, schema: Any) -> None:
    if surely_fits(value, schema):
        assert Draft202012Validator(schema).is_valid(value)


PLAIN: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Order",
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "state": {"enum": ["open", "sent"]},
        "note": {"type": ["string", "null"], "maxLength": 5, "format": "email"},
        "lines": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": {"type": "number"}}},
    },
    "required": ["id", "state"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"id": 1, "state": "open"}, True),
        ({"id": 1.0, "state": "sent", "note": None, "lines": [{"a": 1, "b": 0.5}, {}]}, True),
        ({"id": True, "state": "open"}, False),
        ({"id": 0, "state": "open"}, False),
        ({"id": 1, "state": "gone"}, False),
        ({"id": 1}, False),
        ({"id": 1, "state": "open", "x": 1}, False),
        ({"id": 1, "state": "open", "note": "123456"}, False),
        ({"id": 1, "state": "open", "lines": []}, False),
        ({"id": 1, "state": "open", "lines": [{"a": "1"}]}, False),
        ([], False),
    ],
)
def test_the_schemas_that_most_people_write_are_decided_so(value: Any, fits: bool) -> None:  # noqa: FBT001 - a table
    assert surely_fits(value, PLAIN) is fits
    assert Draft202012Validator(PLAIN).is_valid(value) is fits


@pytest.mark.parametrize(
    "schema",
    [
        5,
        None,
        "x",
        [1],
        {"type": "zork"},
        {"type": 5},
        {"properties": 5},
        {"required": "a"},
        {"required": 5},
        {"enum": 5},
        {"minimum": "a"},
        {"minLength": "a"},
    ],
    ids=json.dumps,
)
def test_a_malformed_schema_is_left_to_the_full_check(schema: Any) -> None:
    values_of_each_kind: list[Any] = [{"a": 1, "b": "x"}, [1], "abc", 1]
    assert not all(surely_fits(value, schema) for value in values_of_each_kind)
