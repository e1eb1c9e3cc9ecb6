"""Whether a model's text is the JSON that was asked for. Pure.

Models ignore what they were asked for, or are cut off in the middle by the token limit; llama.cpp answers 200 where its grammar leaves
parts of a schema out (`not`, `if`, `oneOf`, `uniqueItems`, `contains`, unanchored patterns, bounds of fractions, …). So we look ourselves.
Schemas and texts come from outside: nothing is fetched, patterns run in linear time, and the number of steps is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from farthing.lazily import Lazily
from farthing.patterns import LinearPattern, WrongPattern
from farthing.pipeline.plain_schema import surely_fits
from farthing.types import Json

if TYPE_CHECKING:
    import jsonschema
    import referencing
    from jsonschema import ValidationError, exceptions, validators
    from referencing import exceptions as reference_exceptions
else:  # loaded by the first check: 70 ms that a gateway without one does without
    jsonschema, referencing = Lazily("jsonschema"), Lazily("referencing")
    exceptions, validators = Lazily("jsonschema.exceptions"), Lazily("jsonschema.validators")
    reference_exceptions = Lazily("referencing.exceptions")

_MAX_MESSAGE = 300
_SHORT_WAY_CHARS = 50_000
"""Of a text that is looked at the short way, which counts no steps: some milliseconds."""
_CHARS_PER_STEP = 500
_STEPS_PER_PATTERN = 10
_WORK_PER_STEP = 1_000
"""States of a pattern times characters of a text: at most some 20 µs."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was found wrong. `message` may quote the text; `keyword` is the part of the schema that it breaks, if it does.

    `unclear`: the schema cannot be read or asks for more work than is done (`keyword` is then `steps`): nothing is said of the text.
    """

    kind: Literal["not_json", "breaks", "unclear"]
    message: str
    keyword: str = ""


def check_response(response_format: Json | None, text: str, *, max_chars: int = 1_000_000, max_steps: int = 30_000) -> str | None:
    """None when the text is what OpenAI's `response_format` asks for, else what is wrong. Text is always text."""
    found = examine_response(response_format, text, max_chars=max_chars, max_steps=max_steps)
    return None if found is None else found.message


def examine_response(response_format: Json | None, text: str, *, max_chars: int = 1_000_000, max_steps: int = 30_000) -> Finding | None:
    """`check_response` for who wants to know more."""
    kind = (response_format or {}).get("type", "text")
    if kind == "json_object":
        return examine_object(text, max_chars=max_chars)
    if kind != "json_schema":
        return None
    asked = (response_format or {}).get("json_schema")
    schema = asked.get("schema") if isinstance(asked, dict) else None
    if schema is None:
        return examine_object(text, max_chars=max_chars)
    return examine(text, schema, max_chars=max_chars, max_steps=max_steps)


def check_json_object(text: str, *, max_chars: int = 1_000_000) -> str | None:
    """None when the text is one JSON object, else what is wrong."""
    found = examine_object(text, max_chars=max_chars)
    return None if found is None else found.message


def examine_object(text: str, *, max_chars: int = 1_000_000) -> Finding | None:
    """`check_json_object` for who wants to know more."""
    value, problem = _parse(text, max_chars)
    if problem is None and not isinstance(value, dict):
        return Finding(kind="not_json", message="the text is JSON but not an object")
    return problem


def check_json(text: str, schema: Json, *, max_chars: int = 1_000_000, max_steps: int = 30_000) -> str | None:
    """None when the text is JSON that the schema (Draft 2020-12) allows, else the likeliest reason why not. See `examine`."""
    found = examine(text, schema, max_chars=max_chars, max_steps=max_steps)
    return None if found is None else found.message


def examine(text: str, schema: Json, *, max_chars: int = 1_000_000, max_steps: int = 30_000) -> Finding | None:
    """`check_json` for who wants to know more.

    `format` is an annotation, as the draft has it by default. A pattern that no linear-time engine can run (look-around, back
    references) is not checked, nor `unevaluatedProperties` beside `patternProperties`. References outside the schema are reported, and
    so is a check that takes more than `max_steps` (30,000 take between 0.1 and 0.8 s).
    """
    value, problem = _parse(text, max_chars)
    if problem is not None or (len(text) <= _SHORT_WAY_CHARS and surely_fits(value, schema)):
        return problem
    try:
        steps = _Steps(max_steps, name_patterns=b'"patternProperties"' in msgspec.json.encode(schema))
        validator = _validator()(schema, registry=referencing.Registry(), format_checker=steps)
        error = exceptions.best_match(validator.iter_errors(value))
    except reference_exceptions.Unresolvable as unresolvable:
        return _unclear(f"the schema refers to {unresolvable.ref!r}, which it does not hold")
    except _TooManySteps:
        return Finding(kind="unclear", message=f"the check took more than {max_steps} steps", keyword="steps")
    except RecursionError:
        return _unclear("the schema or the text is nested too deeply")
    except Exception as malformed:  # noqa: BLE001 - a schema that `wrong_schema` would have refused breaks the validator anywhere
        return _unclear(f"the schema cannot be read: {malformed!r}")
    return (
        error
        if error is None
        else Finding(kind="breaks", message=_short(f"{error.json_path}: {error.message}"), keyword=str(error.validator or "false"))
    )


def _unclear(message: str) -> Finding:
    return Finding(kind="unclear", message=_short(message))


def wrong_schema(schema: Any) -> str | None:
    """None when this is a JSON schema (Draft 2020-12), else what is wrong: the caller's mistake, to be told before a model is asked."""
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return _short(f"{error.json_path}: {error.message}")
    except RecursionError:
        return "the schema is nested too deeply"
    return None


def _parse(text: str, max_chars: int) -> tuple[Any, Finding | None]:
    if len(text) > max_chars:
        return None, _unclear(f"the text is longer than {max_chars} characters")
    try:
        return msgspec.json.decode(text), None
    except msgspec.DecodeError as error:
        why = f"the text is not JSON: {error}"
    except UnicodeEncodeError:
        why = "the text is not JSON: it holds half a surrogate pair"
    except RecursionError:
        why = "the text is nested too deeply"
    return None, Finding(kind="not_json", message=why)


def _short(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE else message[:_MAX_MESSAGE] + "…"


class _TooManySteps(Exception):
    """The budget of one check is spent."""


class _Steps:
    """The budget of one check. It rides in the validator's place for a format checker, the one thing that every subschema inherits."""

    def __init__(self, left: int, *, name_patterns: bool) -> None:
        self.left = left
        self.name_patterns = name_patterns
        self._patterns: dict[str, LinearPattern | None] = {}

    def check(self, _instance: Any, _format: str) -> None:
        """Formats are annotations."""

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooManySteps

    def pattern(self, pattern: str) -> LinearPattern | None:
        """A search for the pattern; None when the linear-time engine cannot run it, or it asks for too much."""
        if pattern not in self._patterns:
            self.spend(_STEPS_PER_PATTERN)
            try:
                self._patterns[pattern] = LinearPattern(pattern)
            except WrongPattern:
                self._patterns[pattern] = None
        return self._patterns[pattern]


_Keyword = Callable[[Any, Any, Any, Any], "Iterable[ValidationError] | None"]


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


def _pattern(validator: Any, pattern: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    search = validator.format_checker.pattern(pattern)
    if search is None:
        return
    validator.format_checker.spend(search.cost * len(instance) // _WORK_PER_STEP)
    if not search.found(instance):
        yield jsonschema.ValidationError(f"{instance[:80]!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, subschema in patterns.items():
        search = validator.format_checker.pattern(pattern)
        validator.format_checker.spend(len(instance))
        for name, value in instance.items():
            validator.format_checker.spend(0 if search is None else search.cost * len(name) // _WORK_PER_STEP)
            if search is not None and search.found(name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    named = schema.get("properties", {})
    searches = [validator.format_checker.pattern(pattern) for pattern in schema.get("patternProperties", {})]
    for name, value in instance.items():
        validator.format_checker.spend()
        if name in named or any(search is None or search.found(name) for search in searches):
            continue
        if wanted is False:
            yield jsonschema.ValidationError(f"the property {name[:80]!r} is not allowed")
        else:
            yield from validator.descend(value, wanted, path=name)


def _unevaluated_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterable[ValidationError]:
    """Skipped where names are matched by pattern: the library would run those patterns with `re`, in exponential time."""
    if validator.format_checker.name_patterns:
        return ()
    library: _Keyword = jsonschema.Draft202012Validator.VALIDATORS["unevaluatedProperties"]
    return library(validator, wanted, instance, schema) or ()


def _unique_items(validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if wanted and isinstance(instance, list):
        validator.format_checker.spend(len(instance))
        if len({_hashable(item) for item in instance}) < len(instance):
            yield jsonschema.ValidationError("the items are not unique")


def _hashable(value: Any) -> Hashable:
    """Equal exactly for equal JSON values: 1 is 1.0, but not true."""
    if isinstance(value, dict):
        return ("object", frozenset((name, _hashable(item)) for name, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(_hashable(item) for item in value))
    return (isinstance(value, bool), cast("Hashable", value))


@cache
def _validator() -> Any:
    """The library's validator with each keyword counted, and some of our own in the place of those that can be made slow."""
    library = jsonschema.Draft202012Validator
    return validators.extend(  # type: ignore[no-untyped-call] # the stubs leave it untyped
        library,
        {name: _counted(cast("_Keyword", keyword)) for name, keyword in library.VALIDATORS.items()}
        | {
            "pattern": _counted(_pattern),
            "patternProperties": _counted(_pattern_properties),
            "additionalProperties": _counted(_additional_properties),
            "unevaluatedProperties": _counted(_unevaluated_properties),
            "uniqueItems": _counted(_unique_items),
        },
    )
