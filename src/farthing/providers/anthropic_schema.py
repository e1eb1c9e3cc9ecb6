"""JSON schemas as Anthropic's constrained decoding takes them. Pure.

Source: "Structured outputs" in Anthropic's documentation, and what its own SDK does (`anthropic.lib._parse._transform`): objects are
closed, `oneOf` becomes `anyOf`, and limits that the decoder does not know are told to the model in the description instead.
"""

from __future__ import annotations

from typing import Any

import msgspec

from farthing.types import Json

_UNKNOWN = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf")


def constrained(schema: Any) -> Any:
    """The schema with every object closed and without limits that would be refused. What is no schema stays as it is."""
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    if isinstance(found.get("oneOf"), list) and "anyOf" not in found:
        found["anyOf"] = found.pop("oneOf")
    for name in _MAPS:
        if isinstance(found.get(name), dict):
            found[name] = {key: constrained(value) for key, value in found[name].items()}
    for name in _LISTS:
        if isinstance(found.get(name), list):
            found[name] = [constrained(value) for value in found[name]]
    if "items" in found:
        found["items"] = constrained(found["items"])
    if "properties" in found or found.get("type") == "object":
        found["additionalProperties"] = False
    return _limits_told(found)


def _limits_told(schema: Json) -> Json:
    told = {name: schema.pop(name) for name in _UNKNOWN if name in schema}
    if schema.get("minItems") not in (None, 0, 1):
        told["minItems"] = schema.pop("minItems")
    if isinstance(schema.get("format"), str) and schema["format"] not in _FORMATS:
        told["format"] = schema.pop("format")
    if told:
        said = schema.get("description")
        limits = msgspec.json.encode(told).decode()
        schema["description"] = f"{said}\n\n{limits}" if isinstance(said, str) and said else limits
    return schema
