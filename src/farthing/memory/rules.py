"""Facts out of events by rules: declared in the settings, without a model.

What a rule counts is noted in a store, by the time at which it happened: whatever order events arrive in, and however often, the same
facts come of them in the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from farthing.memory.paths import filled, scalar_at
from farthing.memory.validation import Dropped, Values
from farthing.patterns import LinearPattern
from farthing.ports import FactStore, SightingStore
from farthing.settings import FactRuleSettings, MemorySettings, WhenSettings
from farthing.settings.memory_rules import Scalar, covers_type
from farthing.types import Event, NewFact, Sighting, event_name, utc_now

_LONGEST_TEXT = 2000
"""Of a value that a pattern is looked for in."""
_ERASURES_KEPT = timedelta(days=7)
_MOST_LEARNT = 100
"""Facts that a store is given at once."""


class Condition:
    """What a value must be like."""

    def __init__(self, settings: WhenSettings) -> None:
        self._among = None if settings.is_ is None else {_typed(value) for value in settings.is_}
        self._min, self._max = settings.min, settings.max
        self._pattern = LinearPattern(settings.matches) if settings.matches is not None else None
        self._present = settings.present

    def holds(self, value: Scalar | None) -> bool:
        """Whether it is. A value that is not there is not, unless that is what it must be like."""
        if not self._present:
            return value is None
        if value is None or (self._among is not None and _typed(value) not in self._among):
            return False
        bounded = self._min is not None or self._max is not None
        if bounded and (isinstance(value, bool | str) or not _within(value, self._min, self._max)):
            return False
        return self._pattern is None or (isinstance(value, str) and self._pattern.found(value[:_LONGEST_TEXT]))


class FactRule:
    """One rule, ready to look at events."""

    def __init__(self, settings: FactRuleSettings) -> None:
        self.settings = settings
        self._when = [(path, Condition(when)) for path, when in settings.when.items()]

    def fits(self, event: Event) -> bool:
        """Whether it is an event of the kind that the rule is about, with all that it needs in it."""
        settings = self.settings
        if not covers_type(settings.type, event.type):
            return False
        if any(not condition.holds(scalar_at(event, path)) for path, condition in self._when):
            return False
        return all(scalar_at(event, path) is not None for path in (*settings.same, *settings.places))

    def group(self, event: Event) -> bytes:
        """What stands for the values that must be the same. 32 bytes; no two groups run together, by JSON's own quoting."""
        values = [_typed(scalar_at(event, path)) for path in self.settings.same]
        return hashlib.sha256(msgspec.json.encode(values)).digest()


def window(times: Sequence[datetime], mine: int, count: int, within_s: float) -> tuple[int, int] | None:
    """Of times in order, the last `count` in a row within so many seconds among which number `mine` is: (from, to), both included.

    None when there are none. Pure. Which end comes out is the latest there is, so that it does not hang on who arrived last.
    """
    for end in range(min(len(times) - 1, mine + count - 1), max(mine, count - 1) - 1, -1):
        start = end - count + 1
        if start <= mine and (times[end] - times[start]).total_seconds() <= within_s:
            return start, end
    return None


def learnable(events: Sequence[Event], now: datetime) -> list[Event]:
    """Those that facts may still be learnt of: whether a user was forgotten since is remembered for a week."""
    return [event for event in events if event.received_at > now - _ERASURES_KEPT]


class FactRules:
    """All rules. `fired` counts the facts that they made; `dropped` says, by reason, what became none."""

    def __init__(
        self,
        settings: MemorySettings,
        sightings: SightingStore,
        facts: FactStore,
        dropped: dict[str, int],
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._rules = [FactRule(rule) for rule in settings.all_rules()]
        self._values = Values(settings)
        self._sightings = sightings
        self._facts = facts
        self._dropped = dropped
        self._clock = clock
        self.fired = 0

    @property
    def types(self) -> tuple[str, ...]:
        """The patterns of the types of events that any rule is about."""
        return tuple(dict.fromkeys(rule.settings.type for rule in self._rules))

    def take(self, event: Event) -> bool:
        """Whether an event is for rules: then no model is asked about it, whether or not a fact comes of it."""
        return any(rule.fits(event) for rule in self._rules)

    async def observe(self, events: Sequence[Event]) -> None:
        """Learn what there is to learn of events of one user. See `events.handler.Handle`. Raises the stores' errors."""
        learnt: list[NewFact] = []
        events = learnable(events, self._clock())
        for event in events:
            for rule in self._rules:
                if event.user is not None and rule.fits(event):
                    fact = await self._fact(rule, event, event.user)
                    if fact is not None:
                        learnt.append(fact)
        if not learnt:
            return
        learnt.sort(key=lambda fact: fact.valid_from)
        first = events[0]
        assert first.user is not None
        arrived = min(event.received_at for event in events)
        for at in range(0, len(learnt), _MOST_LEARNT):
            await self._facts.learn(first.tenant, first.user, learnt[at : at + _MOST_LEARNT], arrived=arrived)
        self.fired += len(learnt)

    async def _fact(self, rule: FactRule, event: Event, user: str) -> NewFact | None:
        seen = await self._counted(rule, event, user)
        if seen is None:
            return None
        settings = rule.settings
        at = seen[-1].at
        expires_at = None if settings.ttl_s is None else at + timedelta(seconds=settings.ttl_s)
        try:
            if expires_at is not None and expires_at <= self._clock():
                raise Dropped("expired")
            value = self._values.checked(filled(settings.value, event))
        except Dropped as dropped:
            self._dropped[dropped.reason] += 1
            return None
        return NewFact(
            key=settings.key,
            value=value,
            multi=settings.multi,
            confidence=settings.confidence,
            sources=tuple(one.event for one in seen),
            by=f"rule:{settings.name}",
            valid_from=at,
            expires_at=expires_at,
        )

    async def _counted(self, rule: FactRule, event: Event, user: str) -> list[Sighting] | None:
        """The events that make the fact, oldest first; None while there are not enough."""
        settings = rule.settings
        sighting = Sighting(
            tenant=event.tenant,
            user=user,
            rule=settings.name,
            group=rule.group(event),
            event=event_name(event),
            at=event.time,
            arrived=event.received_at,
        )
        if settings.within_s is None:
            return [sighting]
        seen = await self._sightings.see(sighting, within_s=settings.within_s, most=settings.count)
        mine = next((at for at, one in enumerate(seen) if one.event == sighting.event), None)
        if mine is None:
            return None  # the user was forgotten meanwhile
        found = window([one.at for one in seen], mine, settings.count, settings.within_s)
        return None if found is None else seen[found[0] : found[1] + 1]


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _typed(value: Scalar | None) -> tuple[str, Scalar | None]:
    """So that true is not 1, and 1 is 1.0."""
    if isinstance(value, bool):
        return "boolean", value
    return ("number", float(value)) if isinstance(value, int | float) else ("text", value)
