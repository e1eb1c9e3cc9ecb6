"""The rules of a router: what a request must be like for a rule to decide. See docs/routing.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from farthing.settings.basic import Section

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
_ALWAYS = (1 << WEEK_MINUTES) - 1
_CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")


def _listed(value: Any) -> Any:
    """One value stands for a list of one."""
    return value if isinstance(value, list) else [value]


def _languages(value: Any) -> Any:
    """YAML reads an unquoted `no` as false; there it is Norwegian."""
    return ["no" if one is False else one for one in _listed(value)]


def _minute(value: Any) -> Any:
    """`18:30` as minutes. YAML reads it unquoted as a number in base 60, which is the same; 24:00 is the end of the day."""
    if isinstance(value, str) and (match := _CLOCK.fullmatch(value)):
        return int(match[1]) * 60 + int(match[2])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    msg = f"a time of day such as '18:30', not {value!r}"
    raise ValueError(msg)


Text = Annotated[str, Field(min_length=1, max_length=256)]
AnyOf = Annotated[list[Text], BeforeValidator(_listed), Field(min_length=1, max_length=100)]
"""One of them is enough."""
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]
Clock = Annotated[int, BeforeValidator(_minute), Field(ge=0, le=DAY_MINUTES)]


Format = Literal["text", "json_object", "json_schema"]
Formats = Annotated[list[Format], BeforeValidator(_listed), Field(min_length=1)]


class SpanSettings(Section):
    """From `min` to `max`, both included."""

    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _holds_something(self) -> SpanSettings:
        if self.min is None and self.max is None:
            msg = "needs min, max or both"
            raise ValueError(msg)
        if self.min is not None and self.max is not None and self.min > self.max:
            msg = f"min {self.min} is above max {self.max}"
            raise ValueError(msg)
        return self

    def covers(self, other: SpanSettings | None) -> bool:
        """Whether all that is in `other` (None: anything) is in this one."""
        low, high = self.min or 0, self.max
        other_low, other_high = (0, None) if other is None else (other.min or 0, other.max)
        return low <= other_low and (high is None or (other_high is not None and other_high <= high))


class TimeSettings(Section):
    """From a time of day up to (not including) another, on some days of the week. A span over midnight belongs to the day it begins on."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    from_: Annotated[Clock, Field(alias="from")] = 0
    to: Clock = DAY_MINUTES
    days: Annotated[list[Day], BeforeValidator(_listed), Field(min_length=1)] = list(DAYS)
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        zone_of(name)
        return name

    @model_validator(mode="after")
    def _is_some_time(self) -> TimeSettings:
        if self.from_ == self.to:
            msg = "from and to are the same time: leave both out for the whole day"
            raise ValueError(msg)
        return self

    def minutes(self) -> int:
        """The minutes of the week in it, as bits: bit 0 is Monday 00:00."""
        length = (self.to - self.from_) % DAY_MINUTES or DAY_MINUTES
        found = 0
        for day in self.days:
            start = DAYS.index(day) * DAY_MINUTES + self.from_
            span = ((1 << length) - 1) << start
            found |= (span & _ALWAYS) | (span >> WEEK_MINUTES)
        return found

    def covers(self, other: TimeSettings | None) -> bool:
        """Whether all that is in `other` (None: any time) is in this one. Times of two time zones are not compared."""
        mine = self.minutes()
        if mine == _ALWAYS:
            return True
        return other is not None and other.timezone == self.timezone and not other.minutes() & ~mine


def zone_of(name: str) -> tzinfo:
    """A time zone by its IANA name. Raises ValueError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        msg = f"there is no time zone {name[:64]!r}; its name is like Europe/Berlin"
        raise ValueError(msg) from None


class ConditionSettings(Section):
    """What must hold, all of it; of a list, one is enough. Nothing: every request."""

    task_type: AnyOf | None = None
    tokens: SpanSettings | None = None
    """About how many tokens the request has (4 characters each)."""
    turns: SpanSettings | None = None
    """How many messages are a user's."""
    tools: bool | None = None
    """Whether tools or functions are offered."""
    images: bool | None = None
    response_format: Formats | None = None
    language: Annotated[list[Language], BeforeValidator(_languages), Field(min_length=1, max_length=100)] | None = None
    """The language of the last user message, ISO 639-1: a guess. What cannot be told fits none."""
    tier: AnyOf | None = None
    tenant: AnyOf | None = None
    user: AnyOf | None = None
    tags: AnyOf | None = None
    namespace: AnyOf | None = None
    stream: bool | None = None
    model: AnyOf | None = None
    """The name that was asked for: the router's, or a model's that it stands in for."""
    time: TimeSettings | None = None

    def covers(self, other: ConditionSettings) -> bool:
        """Whether these hold for every request for which the others do. False where it cannot be told."""
        return all(_covers(name, getattr(self, name), getattr(other, name)) for name in type(self).model_fields)


def _covers(name: str, mine: Any, other: Any) -> bool:
    if mine is None:
        return True
    if isinstance(mine, SpanSettings | TimeSettings):
        return mine.covers(other)
    if isinstance(mine, list):
        if name == "response_format" and set(mine) == set(get_args(Format)):
            return True
        return other is not None and set(other) <= set(mine)
    return bool(mine == other)


class RuleSettings(Section):
    """A rule: the first one whose conditions all hold decides. `use` is a model, or `judge`, `cascade` or `learned`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,48}$")]
    when: ConditionSettings = ConditionSettings()
    use: str


def check_rules(rules: Sequence[RuleSettings]) -> None:
    """Raise ValueError for two rules of one name, and for a rule that an earlier one leaves nothing for."""
    for at, rule in enumerate(rules):
        for earlier in rules[:at]:
            if earlier.name == rule.name:
                msg = f"rules.{at}: there is a rule {rule.name!r} already"
                raise ValueError(msg)
            if earlier.when.covers(rule.when):
                msg = f"rules.{at}: {rule.name!r} can never decide: {earlier.name!r} before it takes all that it would; put it first"
                raise ValueError(msg)
