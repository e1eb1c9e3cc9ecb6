"""What becomes of what a model says, and of what rules fill in: a fact, or nothing, for a reason that is counted. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from farthing.memory.claims import denied, instructs, of_others, of_somebody_else, plain, privileges
from farthing.memory.grounding import Ground, content_words, copies
from farthing.memory.scrubbing import Scrubber
from farthing.settings import FactKeySettings, MemorySettings
from farthing.settings.memory_rules import Scalar, fact_key
from farthing.types import Event, NewFact, event_name

REASONS: Final = (
    "not_json",
    "malformed",
    "unknown_key",
    "denied_key",
    "type",
    "too_long",
    "too_many",
    "secret",
    "personal",
    "instruction",
    "privilege",
    "somebody_else",
    "ungrounded",
    "repetition",
    "contradiction",
    "expired",
)
"""Why something did not become a fact."""

_FENCE: Final = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL | re.IGNORECASE)
_NUMBER: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,6})?")
_MOST_ITEMS: Final = 1000
"""Of an answer that is looked at; it is bounded by the tokens that the model may write anyway."""


class Dropped(Exception):  # it ends no program
    """It becomes no fact. `reason` is one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An event, and what a model is shown of it."""

    event: Event
    text: str


class Values:
    """What holds for the value of every fact, whoever made it."""

    def __init__(self, settings: MemorySettings) -> None:
        self._most = settings.max_value_chars
        self._scrub = Scrubber(personal=settings.personal_data == "scrub")

    def checked(self, value: Any) -> Scalar:
        """The value as it may be kept. Raises `Dropped`."""
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            if not math.isfinite(value) or abs(value) >= 2**53:
                raise Dropped("type")
            return value
        if not isinstance(value, str):
            raise Dropped("type")
        text = plain(value[: 4 * self._most + 1]).replace("\n", " ")
        if not text:
            raise Dropped("malformed")
        if len(text) > self._most:
            raise Dropped("too_long")
        found = self._scrub(text).found
        if found:
            raise Dropped("secret" if "secret" in found else "personal")
        if instructs(text):
            raise Dropped("instruction")
        return text


class Validation:
    """What a model says of a user's events, as facts."""

    def __init__(self, settings: MemorySettings) -> None:
        self._keys = settings.keys
        self._open = settings.open_keys
        self._denied = frozenset(settings.denied_keys)
        self._grounding = settings.extractor.grounding
        self._most = settings.extractor.max_facts
        self._values = Values(settings)

    def facts(self, items: Sequence[Any], said: Sequence[Said], user: str, by: str) -> tuple[list[NewFact], list[str]]:
        """The facts, oldest first, and for each of the others why it is none."""
        facts: list[NewFact] = []
        reasons: list[str] = []
        for item in items[:_MOST_ITEMS]:
            try:
                facts.append(self._fact(item, said, user, by))
            except Dropped as dropped:
                reasons.append(dropped.reason)
        facts, contradicting = _agreeing(facts)
        facts.sort(key=lambda fact: fact.valid_from)
        reasons += ["contradiction"] * contradicting + ["too_many"] * max(0, len(facts) - self._most)
        return facts[: self._most], reasons

    def _fact(self, item: Any, said: Sequence[Said], user: str, by: str) -> NewFact:
        if not isinstance(item, dict):
            raise Dropped("malformed")
        key, declared = self._key(item.get("key"))
        if item.get("about", "user") != "user":
            raise Dropped("somebody_else")
        value = _typed(self._values.checked(item.get("value")), declared)
        if isinstance(value, str):
            _about_the_user(value, user)
        sources = _cited(item.get("from"), said) or _telling(value, said)
        share = self._grounded(key, value, declared, sources)
        at = max(one.event.time for one in sources)
        return NewFact(
            key=key,
            value=value,
            multi=declared.multi,
            confidence=round(0.5 + 0.5 * share, 2),
            sources=tuple(dict.fromkeys(event_name(one.event) for one in sources)),
            by=by,
            valid_from=at,
            expires_at=None if declared.ttl_s is None else at + timedelta(seconds=declared.ttl_s),
        )

    def _key(self, key: Any) -> tuple[str, FactKeySettings]:
        if not isinstance(key, str):
            raise Dropped("malformed")
        try:
            fact_key(key)
        except ValueError:
            raise Dropped("unknown_key") from None
        if denied(key, self._denied):
            raise Dropped("denied_key")
        declared = self._keys.get(key) or (FactKeySettings(multi=True) if self._open else None)
        if declared is None:
            raise Dropped("unknown_key")
        return key, declared

    def _grounded(self, key: str, value: Scalar, declared: FactKeySettings, sources: Sequence[Said]) -> float:
        """The share of the value's words that stand in the sources. Raises `Dropped` where that is too little."""
        texts = [one.text for one in sources]
        ground = Ground(texts)
        if declared.values is not None:
            return 1.0 if sources else 0.0
        if isinstance(value, bool):
            words = content_words(key.replace("_", " "))
        elif isinstance(value, str):
            if copies(value, " ".join(texts)):
                raise Dropped("repetition")
            if ground.misses_a_name(value):
                raise Dropped("ungrounded")
            words = content_words(value)
        else:
            return _counted(value, texts)
        share = ground.share(words)
        if share == 0 or share < self._grounding:
            raise Dropped("ungrounded")
        return share


def items_of(text: str | None) -> list[Any] | None:
    """What a model answered, as a list of facts to be; None when it is not the JSON that was asked for."""
    text = (text or "").strip()
    fenced = _FENCE.match(text)
    try:
        found = msgspec.json.decode((fenced[1] if fenced else text).encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(found, dict):
        found = found.get("facts")
    return found if isinstance(found, list) else None


def _typed(value: Scalar, declared: FactKeySettings) -> Scalar:
    """The value in the type of its key. A number in quotes is one; nothing else is guessed."""
    if declared.type == "boolean":
        if not isinstance(value, bool):
            raise Dropped("type")
        return value
    if declared.type == "number":
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = float(value) if "." in value else int(value)
        if isinstance(value, bool | str):
            raise Dropped("type")
        return value
    if isinstance(value, bool):
        raise Dropped("type")
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if declared.values is None:
        return text
    for one in declared.values:
        if one.casefold() == text.casefold():
            return one
    raise Dropped("type")


def _about_the_user(value: str, user: str) -> None:
    if of_others(value) or of_somebody_else(value, user):
        raise Dropped("somebody_else")
    if privileges(value):
        raise Dropped("privilege")


def _cited(numbers: Any, said: Sequence[Said]) -> list[Said]:
    """The events that a model names, by their number from 1."""
    if not isinstance(numbers, list):
        return []
    named = {number for number in numbers if type(number) is int}
    return [one for number, one in enumerate(said, 1) if number in named]


def _telling(value: Scalar, said: Sequence[Said]) -> list[Said]:
    """The events that have words of the value, where a model names none. Raises `Dropped` when none has."""
    words = content_words(str(value))
    found = [one for one in said if Ground([one.text]).share(words)]
    if not found:
        raise Dropped("ungrounded")
    return found


def _counted(value: float, texts: Sequence[str]) -> float:
    numbers = {float(number) for text in texts for number in _NUMBER.findall(text.replace(",", ""))}
    if float(value) not in numbers:
        raise Dropped("ungrounded")
    return 1.0


def _agreeing(facts: Sequence[NewFact]) -> tuple[list[NewFact], int]:
    """Of each single-valued key only what was said last; nothing where that contradicts itself. And how many were left out for it."""
    latest: dict[str, list[NewFact]] = {}
    for fact in facts:
        if not fact.multi:
            held = latest.setdefault(fact.key, [])
            if held and held[0].valid_from < fact.valid_from:
                held.clear()
            if not held or held[0].valid_from == fact.valid_from:
                held.append(fact)
    kept = {key: held[0] for key, held in latest.items() if len({str(fact.value).casefold() for fact in held}) == 1}
    agreeing = [fact for fact in facts if fact.multi or kept.get(fact.key) is fact]
    unique = {(fact.key, msgspec.json.encode(fact.value)): fact for fact in agreeing}
    torn = sum(len(held) for key, held in latest.items() if key not in kept)
    return list(unique.values()), torn
