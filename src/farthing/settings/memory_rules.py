"""The rules that make facts out of events. See docs/extraction.md."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from farthing.patterns import LinearPattern, WrongPattern
from farthing.settings.basic import Section

LONGEST_WINDOW_S = 7 * 86_400
"""What rules count is kept no longer than this."""
MOST_COUNTED = 100

_PATH = re.compile(r"type|source|subject|data(?:\.[A-Za-z0-9_-]{1,64}){1,8}")
_EVENT_TYPE = re.compile(r"\*|[A-Za-z0-9_-][A-Za-z0-9._/-]{0,126}(?<!\.)(?:\.\*)?")
_PLACE = re.compile(r"\{([^{}]*)\}")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,47}")
_PATHS = "write type, source, subject, or data.NAME (more names may follow, and numbers of list items: data.items.0.name)"

Scalar = str | bool | int | float


def event_type(pattern: str) -> str:
    """The pattern of event types as it was given. Raises ValueError unless it is a type, `PREFIX.*` or `*`."""
    if not _EVENT_TYPE.fullmatch(pattern):
        msg = f"{pattern[:64]!r} is no pattern of event types: write a type such as error.500, a prefix such as error.*, or *"
        raise ValueError(msg)
    return pattern


def covers_type(pattern: str, type_: str) -> bool:
    """Whether a pattern (`event_type`) is meant by a type, or by a narrower pattern."""
    return pattern in {"*", type_} or (pattern.endswith(".*") and type_.startswith(pattern[:-1]))


def fact_key(key: str) -> str:
    """The key as it was given. Raises ValueError unless a fact may have it."""
    if not _KEY.fullmatch(key):
        msg = f"{key[:64]!r} is no key of a fact: 1 to 48 small letters, digits and _, a letter first"
        raise ValueError(msg)
    return key


def _path(path: str) -> str:
    if not _PATH.fullmatch(path):
        msg = f"{path[:64]!r} is no path into an event: {_PATHS}"
        raise ValueError(msg)
    return path


def places_of(template: str) -> list[str]:
    """The paths that a template names in braces. Raises ValueError for braces that hold no path, or are not in pairs."""
    rest = _PLACE.sub("", template)
    if "{" in rest or "}" in rest:
        msg = "a brace stands alone: braces hold a path, such as {data.page}"
        raise ValueError(msg)
    return [_path(path) for path in _PLACE.findall(template)]


def _listed(value: Any) -> Any:
    """A value stands for a condition that it is that one, a list for one that it is among them."""
    return {"is": value if isinstance(value, list) else [value]} if not isinstance(value, dict | WhenSettings) else value


EventType = Annotated[str, BeforeValidator(lambda value: event_type(value) if isinstance(value, str) else value)]
FactKey = Annotated[str, BeforeValidator(lambda value: fact_key(value) if isinstance(value, str) else value)]
Path = Annotated[str, BeforeValidator(lambda value: _path(value) if isinstance(value, str) else value)]


class WhenSettings(Section):
    """What a value in an event must be like, all of it. An event without that value does not fit, unless it must not be there."""

    model_config = {**Section.model_config, "serialize_by_alias": True}

    is_: Annotated[Annotated[list[Scalar], Field(min_length=1, max_length=100)] | None, Field(alias="is")] = None
    """One of them. A value alone, or a list, stands for this."""
    min: float | None = None
    """A number that is not less."""
    max: float | None = None
    """A number that is not more."""
    matches: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """A text in which this regular expression is found."""
    present: bool = True
    """False: there must be no such value."""

    @field_validator("matches")
    @classmethod
    def _runs(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                LinearPattern(pattern)
            except WrongPattern as error:
                raise ValueError(str(error)) from None
        return pattern

    @model_validator(mode="after")
    def _can_hold(self) -> WhenSettings:
        if not self.present and any(one is not None for one in (self.is_, self.min, self.max, self.matches)):
            msg = "present: false says that there is no such value, so nothing else can be said of it: it can never hold"
            raise ValueError(msg)
        if self.min is not None and self.max is not None and self.min > self.max:
            msg = f"min {self.min:g} is above max {self.max:g}: it can never hold"
            raise ValueError(msg)
        if self.matches is not None and (self.min is not None or self.max is not None):
            msg = "matches is for texts, min and max are for numbers: it can never hold"
            raise ValueError(msg)
        if self.is_ is not None and not any(self._allows(value) for value in self.is_):
            msg = "none of the values in `is` fits min, max and matches: it can never hold"
            raise ValueError(msg)
        return self

    def _allows(self, value: Scalar) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.min is not None and not (number and float(value) >= self.min):
            return False
        if self.max is not None and not (number and float(value) <= self.max):
            return False
        return self.matches is None or (isinstance(value, str) and LinearPattern(self.matches).found(value))


When = Annotated[WhenSettings, BeforeValidator(_listed)]


class FactRuleSettings(Section):
    """A rule: events of a `type` for which `when` holds make a fact. With `count`, only so many of them `within_s` seconds do."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,48}$")]
    type: EventType
    """A type of events, a prefix (`error.*`), or `*`."""
    when: Annotated[dict[Path, When], Field(max_length=20)] = {}
    """By path into the event: a value, a list of which one is enough, or `is`, `min`, `max`, `matches`."""
    count: Annotated[int, Field(ge=1, le=MOST_COUNTED)] = 1
    """How many events it takes."""
    within_s: Annotated[float, Field(gt=0, le=LONGEST_WINDOW_S)] | None = None
    """By the times at which they happened, in whatever order they arrive. Needed with a `count`."""
    same: Annotated[list[Path], Field(max_length=5)] = []
    """Only events that have the same values here are counted together."""
    key: FactKey
    """The key of the fact."""
    value: Annotated[str, Field(min_length=1, max_length=500)] | bool | int | float = True
    """Its value: text in which paths in braces stand for what is in the event. A path alone keeps its type."""
    multi: bool = False
    """Whether the key gathers values. Else a new value takes the place of the old one."""
    ttl_s: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = None
    """Seconds from the event on after which the fact is gone. Unset: never."""
    confidence: Annotated[float, Field(gt=0, le=1)] = 1

    @model_validator(mode="after")
    def _counts(self) -> FactRuleSettings:
        if self.count > 1 and self.within_s is None:
            msg = "count needs within_s: so many events in how many seconds?"
            raise ValueError(msg)
        if self.count == 1 and (self.within_s is not None or self.same):
            msg = "within_s and same are for rules with a count of 2 or more"
            raise ValueError(msg)
        for path in self.places if self.count > 1 else ():
            if path not in self.same:
                msg = f"value: {{{path}}} may differ between the events that are counted; put {path} into same"
                raise ValueError(msg)
        return self

    @property
    def places(self) -> list[str]:
        """The paths in the value."""
        return places_of(self.value) if isinstance(self.value, str) else []

    @field_validator("value")
    @classmethod
    def _is_a_template(cls, value: Scalar) -> Scalar:
        if isinstance(value, str):
            places_of(value)
        elif not math.isfinite(value):
            msg = "value: not a number that JSON has"
            raise ValueError(msg)
        return value


DEFAULT_RULES = (
    FactRuleSettings(
        name="frustrated-by-errors",
        type="error.500",
        count=3,
        within_s=600,
        same=["data.page"],
        key="frustrated_by",
        value="error 500 on {data.page}",
        multi=True,
        ttl_s=7 * 86_400,
        confidence=0.8,
    ),
    FactRuleSettings(
        name="frustrated-by-errors-somewhere",
        type="error.500",
        when={"data.page": WhenSettings(present=False)},
        count=3,
        within_s=600,
        key="frustrated_by",
        value="error 500",
        multi=True,
        ttl_s=7 * 86_400,
        confidence=0.8,
    ),
)
"""Those that come with Farthing (`memory.default_rules`)."""


def check_fact_rules(rules: Sequence[FactRuleSettings]) -> None:
    """Raise ValueError for two rules of one name, and for two that disagree on whether a key gathers values."""
    seen: dict[str, FactRuleSettings] = {}
    for at, rule in enumerate(rules):
        for earlier in seen.values():
            if earlier.name == rule.name:
                msg = f"rules.{at}: there is a rule {rule.name!r} already"
                raise ValueError(msg)
            if earlier.key == rule.key and earlier.multi != rule.multi:
                msg = f"rules.{at}: {rule.name!r} and {earlier.name!r} disagree on whether {rule.key!r} is multi"
                raise ValueError(msg)
        seen[rule.name] = rule
