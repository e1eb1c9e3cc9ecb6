"""From settings, or from what a request asks for, to checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import msgspec
from pydantic import TypeAdapter, ValidationError

from farthing.errors import InvalidRequest
from farthing.patterns import cost
from farthing.routing.checks.check import ANNOTATE, HOLD_ALL, Check
from farthing.routing.checks.confidence import Confidence
from farthing.routing.checks.empty import Empty
from farthing.routing.checks.json_schema import FitsSchema
from farthing.routing.checks.judge import Ask, Judge
from farthing.routing.checks.pattern import MatchesPattern
from farthing.routing.checks.placed import Kind, Placed, Undecided
from farthing.routing.checks.refusal import Refusal
from farthing.routing.checks.repetition import Repetition
from farthing.routing.checks.truncated import Truncated
from farthing.routing.checks.validator import Validator, ValidatorProcess
from farthing.settings import (
    AnyCheckSettings,
    CheckSettings,
    ConfidenceCheckSettings,
    EmptyCheckSettings,
    JsonSchemaCheckSettings,
    JudgeCheckSettings,
    PatternCheckSettings,
    RefusalCheckSettings,
    RepetitionCheckSettings,
    TruncatedCheckSettings,
    ValidatorCheckSettings,
)

KINDS = tuple(kind for member in get_args(get_args(AnyCheckSettings)[0]) for kind in get_args(member.model_fields["kind"].annotation))
_LEAST_HELD = 8
_HARMLESS: Mapping[type[CheckSettings], Callable[[Any], Kind]] = {
    JsonSchemaCheckSettings: FitsSchema,
    RefusalCheckSettings: Refusal,
    EmptyCheckSettings: Empty,
    TruncatedCheckSettings: Truncated,
    RepetitionCheckSettings: Repetition,
    PatternCheckSettings: MatchesPattern,
    ConfidenceCheckSettings: Confidence,
}
"""They cost nothing and run nobody's code, so that requests may ask for them too."""
_OF_REQUESTS = sorted(kind for one in _HARMLESS for kind in get_args(one.model_fields["kind"].annotation))
_MOST_OF_REQUEST = 8
_MOST_PATTERN = 500
_MOST_PATTERN_COST = 500
_PATTERN_WORK = 500_000
_PLACE = "farthing.route.checks"
_parse = TypeAdapter[AnyCheckSettings](AnyCheckSettings).validate_python


class CheckDeps(msgspec.Struct, frozen=True, kw_only=True):
    """What checks work with. `ask` is how the judge is asked, `process` gives the process of a validator (entry point, megabytes)."""

    undecided: Undecided
    ask: Ask
    process: Callable[[str, int], ValidatorProcess]


def compile_checks(settings: Sequence[AnyCheckSettings], deps: CheckDeps) -> tuple[Check, ...]:
    """The checks of a cascade, in order."""
    return tuple(_placed(_work(one, deps), one, deps.undecided) for one in settings)


def checks_of_request(given: Any, undecided: Undecided) -> tuple[Check, ...]:
    """The checks that a request asks for itself (`farthing.route.checks`). Raises `InvalidRequest` that names the place.

    At most 8, and none that costs money or runs code: no `judge`, no `validator`. They are called by their kind, and may not name models.
    """
    if not isinstance(given, list) or len(given) > _MOST_OF_REQUEST:
        raise InvalidRequest(f"{_PLACE} must be a list of at most {_MOST_OF_REQUEST} checks", param=_PLACE)
    checks: list[Check] = []
    for at, one in enumerate(given):
        settings = _settings(one, f"{_PLACE}[{at}]")
        work = (
            MatchesPattern(settings, work=_PATTERN_WORK)
            if isinstance(settings, PatternCheckSettings)
            else _HARMLESS[type(settings)](settings)
        )
        checks.append(_placed(work, settings, undecided))
    return tuple(checks)


def _placed(work: Kind, settings: AnyCheckSettings, undecided: Undecided) -> Check:
    return Placed(
        work,
        kind=settings.kind,
        name=settings.name,
        hold=_held(settings),
        models=tuple(settings.models),
        passes=getattr(settings, "on_error", "pass") == "pass",
        wants_logprobs=isinstance(settings, ConfidenceCheckSettings) and settings.ask,
        undecided=undecided,
    )


def _held(settings: AnyCheckSettings) -> float:
    hold = settings.hold
    if hold is None:
        assert isinstance(settings, EmptyCheckSettings)
        return max(_LEAST_HELD, settings.min_chars)
    return HOLD_ALL if hold == "all" else ANNOTATE if hold == "annotate" else float(hold)


def _work(settings: AnyCheckSettings, deps: CheckDeps) -> Kind:
    match settings:
        case ValidatorCheckSettings():
            return Validator(settings, deps.process(settings.entry_point, settings.memory_mb))
        case JudgeCheckSettings():
            return Judge(settings, deps.ask)
        case _:
            return _HARMLESS[type(settings)](settings)


def _settings(given: Any, place: str) -> AnyCheckSettings:
    """One check of a request."""
    if not isinstance(given, dict):
        raise InvalidRequest(f'{place} must be an object with a kind, such as {{"kind": "refusal"}}', param=place)
    if given.get("kind") not in _OF_REQUESTS:
        raise InvalidRequest(f"{place}.kind must be one of {', '.join(_OF_REQUESTS)}", param=f"{place}.kind")
    for name in ("name", "models", "on_error", "timeout_s", "ask"):
        if name in given:
            raise InvalidRequest(f"{place}.{name} can only be set by the operator", param=f"{place}.{name}")
    try:
        settings = _parse(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = ".".join([place, *(str(part) for part in first["loc"][1:])])
        said = "there is no such field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{param}: {said}", param=param) from None
    if isinstance(settings, PatternCheckSettings):
        _check_patterns(settings, place)
    return settings


def _check_patterns(settings: PatternCheckSettings, place: str) -> None:
    for name in ("must_match", "must_not_match"):
        pattern = getattr(settings, name)
        if pattern is not None and (len(pattern) > _MOST_PATTERN or cost(pattern) > _MOST_PATTERN_COST):
            param = f"{place}.{name}"
            raise InvalidRequest(
                f"{param} may have {_MOST_PATTERN} characters and be worth {_MOST_PATTERN_COST} states, counted repetitions written out; "
                f"this one has {len(pattern)} and is worth {cost(pattern)}",
                param=param,
            )
