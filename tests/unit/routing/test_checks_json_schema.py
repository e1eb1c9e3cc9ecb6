"""Whether an answer is the JSON that was asked for: by table, in agreement with the library, and whatever schemas strangers send."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from looking import answered, calling, check, completion

from farthing.routing.checks.check import HOLD_ALL
from farthing.routing.checks.compile import KINDS
from farthing.routing.checks.placed import Undecided
from farthing.settings import JsonSchemaCheckSettings
from farthing.types import Json

FITS = JsonSchemaCheckSettings(kind="json_schema")
PERSON: Json = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
OBJECT: Json = {"response_format": {"type": "json_object"}}
TOOLS: Json = {
    "tools": [
        {"type": "function", "function": {"name": "person", "parameters": PERSON}},
        {"type": "function", "function": {"name": "anything"}},
    ]
}


NOTHING: Any = False


def formatted(schema: Any) -> Json:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


@pytest.mark.parametrize(
    ("text", "asked", "reason"),
    [
        ('{"name": "Ann", "age": 31}', formatted(PERSON), None),
        ('\n{"name": "Ann", "age": 31}\n', formatted(PERSON), None),
        ('{"name": "Ann"}', formatted(PERSON), "it breaks the schema (required)"),
        ('{"name": "Ann", "age": "31"}', formatted(PERSON), "it breaks the schema (type)"),
        ('{"name": "Ann", "age": -1}', formatted(PERSON), "it breaks the schema (minimum)"),
        ('{"name": "Ann", "age": 1, "x": 1}', formatted(PERSON), "it breaks the schema (additionalProperties)"),
        ('```json\n{"name": "Ann", "age": 31}\n```', formatted(PERSON), "not JSON"),
        ('Here you are: {"name": "Ann", "age": 31}', formatted(PERSON), "not JSON"),
        ('{"name": "Ann", "age": 31', formatted(PERSON), "not JSON"),
        ("", formatted(PERSON), "not JSON"),
        ("1", formatted(NOTHING), "it breaks the schema (false)"),
        ("{}", OBJECT, None),
        ("[]", OBJECT, "not JSON"),
        ("Sure!", OBJECT, "not JSON"),
        ("Sure!", {}, None),
        ("Sure!", {"response_format": {"type": "text"}}, None),
        ("Sure!", {"response_format": None}, None),
        ("Sure!", {"response_format": "json"}, None),
        ("{}", {"response_format": {"type": "json_schema", "json_schema": "x"}}, None),
    ],
)
async def test_text_is_held_to_the_response_format(text: str, asked: Json, reason: str | None) -> None:
    assert await check(FITS).judge(answered(completion(text), asked)) == reason


async def test_each_choice_is_looked_at() -> None:
    assert await check(FITS).judge(answered(completion("{}", "{}", "no"), OBJECT)) == "not JSON"


async def test_a_refusal_is_not_held_to_the_schema() -> None:
    assert await check(FITS).judge(answered(completion(None, refusal="I can't."), formatted(PERSON))) is None


@pytest.mark.parametrize(
    ("body", "asked", "reason"),
    [
        (calling("person", '{"name": "Ann", "age": 31}'), TOOLS, None),
        (calling("person", '{"name": "Ann"}'), TOOLS, "it breaks the schema (required)"),
        (calling("person", "{name: Ann}"), TOOLS, "not JSON"),
        (calling("person", ""), TOOLS, "it breaks the schema (required)"),
        (calling("person", {"name": "Ann", "age": 31}), TOOLS, "not JSON"),
        (calling("person", None), TOOLS, "not JSON"),
        (calling("anything", ""), TOOLS, None),
        (calling("anything", '{"a": 1}'), TOOLS, None),
        (calling("anything", "[1]"), TOOLS, "not JSON"),
        (calling("nothing", "{}"), TOOLS, "it breaks the schema (a tool that there is not)"),
        (calling("anything", "{}", text="I look it up."), TOOLS | OBJECT, None),
        (calling("unknown", "{}"), {}, None),
        (calling("unknown", "{"), {}, "not JSON"),
        (
            calling("f", '{"a": "x"}'),
            {"functions": [{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}]},
            "it breaks the schema (type)",
        ),
    ],
)
async def test_arguments_are_held_to_the_parameters_of_the_tool(body: Json, asked: Json, reason: str | None) -> None:
    assert await check(FITS).judge(answered(body, asked)) == reason


@pytest.mark.parametrize(
    ("text", "asked", "rejected"),
    [
        ("Sure! Here is", OBJECT, True),
        ("```json\n{", OBJECT, True),
        ('{"na', OBJECT, False),
        ("  \n", OBJECT, False),
        ("", OBJECT, False),
        ("Sure! Here is", {}, False),
    ],
)
async def test_of_a_beginning_it_sees_whether_json_may_begin_so(text: str, asked: Json, rejected: bool) -> None:  # noqa: FBT001 - a table
    early = check(JsonSchemaCheckSettings(kind="json_schema", hold=10))
    assert (await early.judge(answered(completion(text, finish=None), asked, whole=False)) is not None) is rejected
    assert check(FITS).hold == HOLD_ALL


def _doubling(keyword: str) -> Json:
    """Sixty lines that ask for 2**60 steps."""
    defs: Json = {f"l{i}": {keyword: [{"$ref": f"#/$defs/l{i + 1}"}] * 2} for i in range(60)}
    return {"$defs": defs | {"l60": {"type": "integer"}}, "$ref": "#/$defs/l0"}


@pytest.mark.parametrize(
    "schema",
    [
        _doubling("allOf"),
        {"$ref": "#"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/$defs/none"},
        {"type": "zork"},
        {"properties": 5},
        [1],
        "x",
    ],
    ids=lambda schema: str(schema)[:40],
)
async def test_what_cannot_be_checked_passes_and_is_counted(schema: Any) -> None:
    undecided = Undecided(KINDS)
    assert await check(FITS, undecided).judge(answered(completion('{"a": 1}'), formatted(schema))) is None
    assert undecided.counts["json_schema"] == 1
    strict = check(JsonSchemaCheckSettings(kind="json_schema", on_error="reject"))
    assert await strict.judge(answered(completion('{"a": 1}'), formatted(schema))) == "the check could not tell"


async def test_while_a_large_schema_is_checked_the_loop_goes_on() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await check(FITS).judge(answered(completion("1"), formatted(_doubling("allOf"))))
    beside.cancel()
    assert turns > 1


async def test_a_slow_check_ends_at_its_deadline() -> None:
    undecided = Undecided(KINDS)
    hurried = check(JsonSchemaCheckSettings(kind="json_schema", timeout_s=0.001), undecided)
    many = json.dumps([{"a": at} for at in range(20_000)])
    schema = {"items": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}}
    assert await hurried.judge(answered(completion(many), formatted(schema))) is None
    assert undecided.counts["json_schema"] == 1


async def test_a_catastrophic_pattern_in_a_schema_does_no_harm() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert (
        await check(FITS).judge(answered(completion(json.dumps("a" * 30_000 + "!")), formatted(schema))) == "it breaks the schema (pattern)"
    )


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "ab"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
schemas = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "integer", "boolean", "null"]),
        "properties": st.dictionaries(
            st.sampled_from("abc"), st.fixed_dictionaries({"type": st.sampled_from(["string", "integer"])}), max_size=2
        ),
        "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
        "minLength": st.integers(0, 2),
        "items": st.fixed_dictionaries({"type": st.sampled_from(["string", "integer"])}),
    },
)


@given(value=values, schema=schemas)
async def test_it_agrees_with_the_library(value: Any, schema: Json) -> None:
    said = await check(FITS).judge(answered(completion(json.dumps(value)), formatted(schema)))
    assert (said is None) is bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@given(value=values, schema=schemas)
async def test_it_agrees_with_the_library_on_arguments(value: Any, schema: Json) -> None:
    tools = {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}
    said = await check(FITS).judge(answered(calling("f", json.dumps(value)), tools))
    assert (said is None) is bool(jsonschema.Draft202012Validator(schema).is_valid(value))
