from __future__ import annotations

import copy

import pytest

from farthing.providers.anthropic_schema import constrained
from farthing.types import Json


def test_objects_are_closed_however_deep() -> None:
    inner: Json = {"type": "object", "properties": {"x": {"type": "string"}}}
    properties: Json = {
        "list": {"type": "array", "items": inner},
        "either": {"anyOf": [inner, {"type": "null"}]},
        "ref": {"$ref": "#/$defs/d"},
    }
    schema: Json = {"type": "object", "properties": properties, "$defs": {"d": inner}, "additionalProperties": True}
    before = copy.deepcopy(schema)
    closed = {**inner, "additionalProperties": False}
    found = constrained(schema)
    assert schema == before
    assert found["additionalProperties"] is False
    assert found["properties"]["list"]["items"] == found["properties"]["either"]["anyOf"][0] == found["$defs"]["d"] == closed
    assert found["properties"]["ref"] == {"$ref": "#/$defs/d"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, {"type": "integer", "description": '{"minimum":1,"maximum":9}'}),
        ({"type": "string", "description": "A.", "pattern": "^a"}, {"type": "string", "description": 'A.\n\n{"pattern":"^a"}'}),
        ({"type": "array", "minItems": 1}, {"type": "array", "minItems": 1}),
        ({"type": "array", "minItems": 2}, {"type": "array", "description": '{"minItems":2}'}),
        ({"type": "string", "format": "uuid"}, {"type": "string", "format": "uuid"}),
        ({"type": "string", "format": "isbn"}, {"type": "string", "description": '{"format":"isbn"}'}),
        ({"oneOf": [{"type": "string"}]}, {"anyOf": [{"type": "string"}]}),
        ({"type": ["string", "null"], "enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a", None]}),
    ],
)
def test_limits_that_the_decoder_does_not_know_are_told_in_words(given: Json, sent: Json) -> None:
    assert constrained(given) == sent


def test_a_property_may_be_called_like_a_limit() -> None:
    schema: Json = {"type": "object", "properties": {"minimum": {"type": "integer"}, "format": {"type": "string"}}}
    assert constrained(schema)["properties"] == schema["properties"]


def test_what_is_no_schema_is_left_alone() -> None:
    odd: list[object] = [True, None, "x", []]
    assert [constrained(one) for one in odd] == odd
    assert constrained({"type": "object", "properties": 7})["properties"] == 7
