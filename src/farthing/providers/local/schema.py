"""Whether a model's text is what `response_format` asked for. Pure.

llama.cpp turns a JSON schema into a grammar, and answers 200 where it cannot: with parts of the schema left out (`not`, `if`, `oneOf`,
`uniqueItems`, `contains`, unanchored patterns, bounds of fractions, …), or cut off in the middle by the token limit. So we look ourselves.
Schemas and texts come from outside: nothing is fetched, patterns run in linear time, and the number of steps is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, cast

import msgspec
from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from pydantic_core import SchemaError as PatternError
from pydantic_core import SchemaValidator, core_schema
from pydantic_core import ValidationError as PatternMismatch
from referencing import Registry
from referencing.exceptions import Unresolvable

from farthing.types import Json

_MAX_MESSAGE = 300
_CHARS_PER_STEP = 500


def check_response(response_format: Json | None, text: str, *, max_chars: int = 1_000_000, max_steps: int = 30_000) -> str | None:
    """None when the text is what OpenAI's `response_format` asks for, else what is wrong. Text is always text."""
    kind = (response_format or {}).get("type", "text")
    if kind == "json_object":
        return check_json_object(text, max_chars=max_chars)
    if kind != "json_schema":
        return None
    asked = (response_format or {}).get("json_schema")
    schema = asked.get("schema") if isinstance(asked, dict) else None
    if schema is None:
        return check_json_object(text, max_chars=max_chars)
    return check_json(text, schema, max_chars=max_chars, max_steps=max_steps)


def check_json_object(text: str, *, max_chars: int = 1_000_000) -> str | None:
    """None when the text is one JSON object, else what is wrong."""
    value, problem = _parse(text, max_chars)
    if problem is None and not isinstance(value, dict):
        return "the text is JSON but not an object"
    return problem


def check_json(text: str, schema: Json, *, max_chars: int = 1_000_000, max_steps: int = 30_000) -> str | None:
    """None when the text is JSON that the schema (Draft 2020-12) allows, else the likeliest reason why not.

    `format` is an annotation, as the draft has it by default. A pattern that no linear-time engine can run (look-around, back
    references) is not checked, nor `unevaluatedProperties` beside `patternProperties`. References outside the schema are reported, and
    so is a check that takes more than `max_steps` (30,000 take between 0.1 and 0.8 s).
    """
    value, problem = _parse(text, max_chars)
    if problem is not None:
        return problem
    try:
        steps = _Steps(max_steps, name_patterns=b'"patternProperties"' in msgspec.json.encode(schema))
        validator = _Validator(schema, registry=Registry(), format_checker=steps)
        error = best_match(validator.iter_errors(value))
    except Unresolvable as unresolvable:
        return _short(f"the schema refers to {unresolvable.ref!r}, which it does not hold")
    except _TooManySteps:
        return f"the check took more than {max_steps} steps"
    except RecursionError:
        return "the schema or the text is nested too deeply"
    except Exception as malformed:  # noqa: BLE001 - a schema that `wrong_schema` would have refused breaks the validator anywhere
        return _short(f"the schema cannot be read: {malformed!r}")
    return None if error is None else _short(f"{error.json_path}: {error.message}")


def wrong_schema(schema: Any) -> str | None:
    """None when this is a JSON schema (Draft 2020-12), else what is wrong: the caller's mistake, to be told before a model is asked."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return _short(f"{error.json_path}: {error.message}")
    except RecursionError:
        return "the schema is nested too deeply"
    return None


def _parse(text: str, max_chars: int) -> tuple[Any, str | None]:
    if len(text) > max_chars:
        return None, f"the text is longer than {max_chars} characters"
    try:
        return msgspec.json.decode(text), None
    except msgspec.DecodeError as error:
        return None, f"the text is not JSON: {error}"
    except UnicodeEncodeError:
        return None, "the text is not JSON: it holds half a surrogate pair"
    except RecursionError:
        return None, "the text is nested too deeply"


def _short(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE else message[:_MAX_MESSAGE] + "…"


class _TooManySteps(Exception):
    """The budget of one check is spent."""


class _Steps(FormatChecker):
    """The budget of one check. It rides in the validator's place for a format checker, the one thing that every subschema inherits."""

    def __init__(self, left: int, *, name_patterns: bool) -> None:
        super().__init__(formats=())
        self.left = left
        self.name_patterns = name_patterns

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooManySteps


_Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


def _counted(keyword: _Keyword) -> _Keyword:
    """The keyword, each use of which costs: a schema can ask for exponential work in a few lines of `$ref` or `anyOf`.

    An error costs by its length, because the library writes the whole offending value into it.
    """

    def count(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        validator.format_checker.spend()
        for error in keyword(validator, wanted, instance, schema) or ():
            validator.format_checker.spend(len(error.message) // _CHARS_PER_STEP)
            yield error

    return count


def _pattern(_validator: Any, pattern: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    search = _compiled(pattern)
    if isinstance(instance, str) and search is not None and not _found(search, instance):
        yield ValidationError(f"{instance[:80]!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, subschema in patterns.items():
        search = _compiled(pattern)
        validator.format_checker.spend(len(instance))
        for name, value in instance.items():
            if search is not None and _found(search, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    named = schema.get("properties", {})
    searches = [_compiled(pattern) for pattern in schema.get("patternProperties", {})]
    for name, value in instance.items():
        validator.format_checker.spend()
        if name in named or any(search is None or _found(search, name) for search in searches):
            continue
        if wanted is False:
            yield ValidationError(f"the property {name[:80]!r} is not allowed")
        else:
            yield from validator.descend(value, wanted, path=name)


def _unevaluated_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterable[ValidationError]:
    """Skipped where names are matched by pattern: the library would run those patterns with `re`, in exponential time."""
    if validator.format_checker.name_patterns:
        return ()
    library: _Keyword = Draft202012Validator.VALIDATORS["unevaluatedProperties"]
    return library(validator, wanted, instance, schema) or ()


def _unique_items(validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if wanted and isinstance(instance, list):
        validator.format_checker.spend(len(instance))
        if len({_hashable(item) for item in instance}) < len(instance):
            yield ValidationError("the items are not unique")


def _hashable(value: Any) -> Hashable:
    """Equal exactly for equal JSON values: 1 is 1.0, but not true."""
    if isinstance(value, dict):
        return ("object", frozenset((name, _hashable(item)) for name, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(_hashable(item) for item in value))
    return (isinstance(value, bool), cast("Hashable", value))


def _compiled(pattern: str) -> SchemaValidator | None:
    """A search for the pattern in linear time (Rust's regex, which pydantic carries); None when that engine cannot run the pattern."""
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except PatternError:
        return None


def _found(search: SchemaValidator, text: str) -> bool:
    try:
        search.validate_python(text)
    except PatternMismatch:
        return False
    return True


_Validator = extend(  # type: ignore[no-untyped-call] # the stubs leave it untyped
    Draft202012Validator,
    {name: _counted(cast("_Keyword", keyword)) for name, keyword in Draft202012Validator.VALIDATORS.items()}
    | {
        "pattern": _counted(_pattern),
        "patternProperties": _counted(_pattern_properties),
        "additionalProperties": _counted(_additional_properties),
        "unevaluatedProperties": _counted(_unevaluated_properties),
        "uniqueItems": _counted(_unique_items),
    },
)
