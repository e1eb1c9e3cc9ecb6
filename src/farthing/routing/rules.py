"""Rules, made ready to run: the cheap conditions of each first, so that what costs time is looked at only where it decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from farthing.routing.reading import Reading
from farthing.settings import ConditionSettings, RuleSettings, SpanSettings, TimeSettings, zone_of

Holds = Callable[[Reading], bool]

_DEAR = ("turns", "images", "time", "tokens", "language")
"""Conditions that need a look at the messages or the clock, by what they cost. All others are a look at a field."""


class Condition(msgspec.Struct, frozen=True):
    """One condition of a rule. `wanted` and `found` are for people who ask why."""

    name: str
    wanted: str
    holds: Holds
    found: Callable[[Reading], object]


_OUTSIDE = frozenset({"task_type", "tier", "user", "tags"})
"""Conditions on what is beside the body and not part of a cache's key by itself. The hour and `stream` are left out on purpose: an answer
that is kept is the answer at any time, however it travels."""


class Rule(msgspec.Struct, frozen=True):
    """A rule whose conditions are in the order of their cost. `use` is a model, or `judge`, `cascade` or `learned`."""

    name: str
    use: str
    conditions: tuple[Condition, ...]
    tests: tuple[Holds, ...]

    def failed(self, reading: Reading) -> Condition | None:
        """The first condition that does not hold; None when all do."""
        return next((condition for condition in self.conditions if not condition.holds(reading)), None)


def compiled(settings: Sequence[RuleSettings]) -> tuple[Rule, ...]:
    """The rules of a router, ready to run."""
    return tuple(_rule(one) for one in settings)


def first(rules: Sequence[Rule], reading: Reading) -> Rule | None:
    """The rule that decides; None when none does."""
    for rule in rules:
        for holds in rule.tests:
            if not holds(reading):
                break
        else:
            return rule
    return None


def outside(rules: Sequence[Rule]) -> tuple[Holds, ...]:
    """The conditions whose outcome can part two requests with the same words."""
    return tuple(condition.holds for rule in rules for condition in rule.conditions if condition.name in _OUTSIDE)


def _rule(settings: RuleSettings) -> Rule:
    names = [name for name in ConditionSettings.model_fields if getattr(settings.when, name) is not None]
    names.sort(key=lambda name: _DEAR.index(name) if name in _DEAR else -1)
    conditions = tuple(_condition(name, getattr(settings.when, name)) for name in names)
    return Rule(settings.name, settings.use, conditions, tuple(condition.holds for condition in conditions))


def _condition(name: str, wanted: Any) -> Condition:
    if isinstance(wanted, SpanSettings):
        return _span(name, wanted)
    if isinstance(wanted, TimeSettings):
        return _time(name, wanted)
    found = _FACTS[name]
    if isinstance(wanted, bool):
        return Condition(name, str(wanted).lower(), lambda reading: found(reading) is wanted, found)
    values = frozenset(wanted)
    shown = " or ".join(wanted)
    if name == "tags":
        return Condition(name, shown, lambda reading: not values.isdisjoint(reading.request.extras.tags), found)
    return Condition(name, shown, lambda reading: found(reading) in values, found)


def _span(name: str, span: SpanSettings) -> Condition:
    low, high = span.min or 0, span.max
    found = _FACTS[name]
    if high is None:
        return Condition(name, f"at least {low}", lambda reading: found(reading) >= low, found)
    return Condition(name, f"{low} to {high}", lambda reading: low <= found(reading) <= high, found)


def _time(name: str, time: TimeSettings) -> Condition:
    zone = zone_of(time.timezone)
    minutes = time.minutes()
    table = minutes.to_bytes((minutes.bit_length() + 7) // 8, "little")
    most = len(table) * 8

    def holds(reading: Reading) -> bool:
        minute = reading.minute(zone)
        return minute < most and bool(table[minute >> 3] >> (minute & 7) & 1)

    shown = f"{time.from_ // 60:02}:{time.from_ % 60:02} to {time.to // 60:02}:{time.to % 60:02} on {' '.join(time.days)}, {time.timezone}"
    return Condition(name, shown, holds, lambda reading: reading.at.astimezone(zone).strftime("%a %H:%M").lower())


_FACTS: dict[str, Callable[[Reading], Any]] = {
    "task_type": lambda reading: reading.request.extras.task_type,
    "tokens": lambda reading: reading.tokens,
    "turns": lambda reading: reading.turns,
    "tools": lambda reading: reading.tools,
    "images": lambda reading: reading.images,
    "response_format": lambda reading: reading.response_format,
    "language": lambda reading: reading.language,
    "tier": lambda reading: reading.request.principal.tier,
    "tenant": lambda reading: reading.request.principal.tenant,
    "user": lambda reading: reading.request.user,
    "tags": lambda reading: list(reading.request.extras.tags),
    "namespace": lambda reading: reading.request.extras.namespace,
    "stream": lambda reading: reading.request.stream,
    "model": lambda reading: reading.request.model,
}
