"""What new facts make of what is known of a user. Pure.

Facts are bi-temporal (Snodgrass, "Developing Time-Oriented Database Applications in SQL", 1999): when it held in the world, and when we
believed it. A fact holds now when it has neither an end of the one (`valid_to`) nor of the other (`known_to`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import Fact, NewFact, new_id

MOST_VALUE: Final = 1024
"""Bytes of JSON that a value may have."""
MOST_SOURCES: Final = 32
"""Of a fact; of more, the latest are kept."""
MOST_PROFILE: Final = 256 * 1024
"""Bytes of JSON that all that holds of a user may have: below the 400 KB that DynamoDB takes in an item."""
MOST_LEARNT: Final = 200
"""Facts that may be learnt at once."""
_LONGEST_NAME: Final = 256
_LONGEST_SOURCE: Final = 512
_LARGEST_NUMBER: Final = 2**53
"""What every reader of JSON takes as it is written (RFC 7493, section 2.2)."""
_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_BY = re.compile(r"(?:rule|model|person):\S.{0,239}")
_encode = msgspec.json.Encoder(order="deterministic").encode


class Most(msgspec.Struct, frozen=True, kw_only=True):
    """How much may hold of a user at once. Beyond it what is worth least is believed no more."""

    facts: int = 200
    bytes: int = MOST_PROFILE


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """`facts` hold now, in the order in which they were learnt. `changed` are those that are new, or others than they were."""

    facts: tuple[Fact, ...]
    changed: tuple[Fact, ...]


class _Held(NewFact, frozen=True, kw_only=True, omit_defaults=True):
    """A fact that holds, as it is in a profile at rest."""

    id: UUID
    known_from: datetime
    confirmed_at: datetime | None = None


_decode = msgspec.json.Decoder(list[_Held]).decode


def packed(facts: Iterable[Fact]) -> bytes:
    """Facts that hold, as JSON."""
    return _encode([_Held(**{name: getattr(one, name) for name in _Held.__struct_fields__}) for one in facts])


def unpacked(tenant: str, user: str, data: bytes | str) -> tuple[Fact, ...]:
    """The facts again."""
    return tuple([Fact(tenant=tenant, user=user, **msgspec.structs.asdict(one)) for one in _decode(data)])


def holds(fact: Fact, now: datetime) -> bool:
    """Whether it holds now, as far as we know."""
    return is_open(fact) and (fact.expires_at is None or fact.expires_at > now)


def is_open(fact: Fact) -> bool:
    """Whether nothing has ended it, though it may have expired."""
    return fact.valid_to is None and fact.known_to is None


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    """As a history is read: what we learnt last comes first."""
    return sorted(facts, key=lambda one: (one.known_from, one.valid_from, one.id), reverse=True)


def checked_user(user: str) -> str:
    """The user's id as it was given. Raises `InvalidRequest`."""
    if not (0 < len(user) <= _LONGEST_NAME and user.isprintable()):
        raise InvalidRequest(f"a user's id has 1 to {_LONGEST_NAME} printable characters", param="user")
    return user


def checked(facts: Sequence[NewFact], now: datetime) -> list[NewFact]:
    """The facts as they can be stored; what is said to hold from a time to come holds from now. Raises `InvalidRequest`."""
    if len(facts) > MOST_LEARNT:
        raise InvalidRequest(f"{MOST_LEARNT} facts may be learnt at once, these are {len(facts)}")
    return [_checked(one, now) for one in facts]


def _checked(one: NewFact, now: datetime) -> NewFact:
    if not _KEY.fullmatch(one.key):
        raise InvalidRequest(
            f"a fact's key is a lower-case letter, then at most 63 letters, digits, _ . or -; not {one.key[:64]!r}", param="key"
        )
    if not 0 <= one.confidence <= 1:
        raise InvalidRequest("confidence is a number from 0 to 1", param="confidence")
    if not (_BY.fullmatch(one.by) and one.by.isprintable()):
        raise InvalidRequest("by is rule:NAME, model:NAME or person:KEY", param="by")
    if not all(0 < len(source) <= _LONGEST_SOURCE and source.isprintable() for source in one.sources):
        raise InvalidRequest(f"a source has 1 to {_LONGEST_SOURCE} printable characters", param="sources")
    if one.valid_from.tzinfo is None or (one.expires_at is not None and one.expires_at.tzinfo is None):
        raise InvalidRequest("a time needs its zone, such as 2026-11-23T10:00:00Z", param="valid_from")
    return msgspec.structs.replace(
        one, value=checked_value(one.value), valid_from=min(one.valid_from, now), sources=_gathered((), one.sources)
    )


def checked_value(value: Any) -> Any:
    """A JSON value in one spelling, so that the same is equal: 1 for 1.0. Raises `InvalidRequest` for what is none, or too large."""
    try:
        tidy = _tidy(value)
        size = len(_encode(tidy))
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise InvalidRequest("a fact's value is JSON: its numbers are finite and below 2^53, its texts Unicode without \\u0000") from None
    if size > MOST_VALUE:
        raise InvalidRequest(f"a fact's value may have {MOST_VALUE} bytes of JSON, this one has {size}", param="value")
    return tidy


def _tidy(value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case int() | float():
            if not abs(value) < _LARGEST_NUMBER:  # nor is NaN
                raise ValueError
            return int(value) if value == int(value) else value
        case str():
            if "\0" in value:
                raise ValueError
            value.encode()
            return value
        case list() | tuple():
            return [_tidy(one) for one in value]
        case dict():
            return {_named(name): _tidy(one) for name, one in value.items()}
        case _:
            raise TypeError


def _named(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError
    return str(_tidy(name))


def learn(
    tenant: str,
    user: str,
    known: Sequence[Fact],
    new: Sequence[NewFact],
    *,
    now: datetime,
    most: Most,
    ids: Callable[[], UUID] = new_id,
) -> Learnt:
    """What follows from new facts (`checked`). `known` is all that holds of the user, and the history of the keys of the new facts.

    Which value of a single-valued key holds in the end hangs on when the facts were valid and not on when they arrive: the one that was
    valid latest, of one instant the one of higher confidence, then the last one in order.
    """
    mind = _Mind(tenant, user, known, now, ids)
    for one in sorted(new, key=lambda one: (one.valid_from, one.confidence)):
        mind.hear(one)
    mind.expire()
    mind.fit(most)
    return Learnt(facts=tuple(mind.open()), changed=tuple([mind.rows[fact_id] for fact_id in mind.changed]))


def retracted(fact: Fact, *, by: str, now: datetime) -> Fact:
    """The fact, believed no more."""
    return msgspec.structs.replace(fact, known_to=now, ended_by=by)


class _Mind:
    """What is known of a user while it changes."""

    def __init__(self, tenant: str, user: str, known: Sequence[Fact], now: datetime, ids: Callable[[], UUID]) -> None:
        self._tenant = tenant
        self._user = user
        self._now = now
        self._ids = ids
        self.rows = {one.id: one for one in known}
        self.changed: dict[UUID, None] = {}

    def open(self) -> list[Fact]:
        return [one for one in self.rows.values() if is_open(one)]

    def _put(self, fact: Fact) -> None:
        if self.rows.get(fact.id) != fact:
            self.rows[fact.id] = fact
            self.changed[fact.id] = None

    def hear(self, one: NewFact) -> None:
        """One fact, after those that were valid before it."""
        ours = [row for row in self.rows.values() if row.key == one.key]
        value = _encode(one.value)
        alike = [row for row in ours if _encode(row.value) == value]
        held = next((row for row in alike if is_open(row)), None)
        ended = next((row for row in alike if not is_open(row) and _is_repeat(row, one)), None)
        if held is not None and (ended is None or _is_repeat(held, one)):
            self._put(_confirmed(held, one))
        elif ended is not None:
            self._put(msgspec.structs.replace(ended, sources=_gathered(ended.sources, one.sources)))
        elif one.multi:
            self._add(one)
        else:
            self._replace(one, ours)

    def _add(self, one: NewFact, **ends: Any) -> Fact:
        facts = msgspec.structs.asdict(one)
        made = Fact(id=self._ids(), tenant=self._tenant, user=self._user, known_from=self._now, **facts, **ends)
        self._put(made)
        return made

    def _replace(self, one: NewFact, ours: Sequence[Fact]) -> None:
        """A value of a single-valued key: it takes the place of what held, or goes into history when it came too late."""
        believed = [row for row in ours if row.known_to is None]
        latest = max(believed, key=_rank, default=None)
        if latest is not None and (one.valid_from, one.confidence) < _rank(latest):
            self._add(one, valid_to=_until(latest), ended_by=f"fact:{latest.id}")
            return
        made = self._add(one)
        for row in ours:
            if is_open(row):
                self._put(msgspec.structs.replace(row, valid_to=one.valid_from, ended_by=f"fact:{made.id}"))

    def expire(self) -> None:
        """End what has expired."""
        for row in self.open():
            if not holds(row, self._now):
                self._put(msgspec.structs.replace(row, valid_to=row.expires_at, ended_by="expiry"))

    def fit(self, most: Most) -> None:
        """Believe no more of what is worth least than there is room for."""
        by_worth = sorted(self.open(), key=_worth)
        size = len(packed(by_worth))
        while by_worth and (len(by_worth) > most.facts or size > most.bytes):
            least = by_worth.pop(0)
            size -= len(packed([least])) - 1
            self._put(retracted(least, by="max_facts", now=self._now))


def _until(row: Fact) -> datetime:
    """When it was last said to hold."""
    return row.confirmed_at or row.valid_from


def _rank(row: Fact) -> tuple[datetime, float]:
    return _until(row), row.confidence


def _worth(row: Fact) -> tuple[bool, float, datetime, UUID]:
    """What a person said is worth more than what was inferred; then what is surer, then what was confirmed later."""
    return row.by.startswith("person:"), row.confidence, _until(row), row.id


def _confirmed(row: Fact, one: NewFact) -> Fact:
    """A fact that holds, and was said again."""
    expires = None if row.expires_at is None or one.expires_at is None else max(row.expires_at, one.expires_at)
    return msgspec.structs.replace(
        row,
        confidence=max(row.confidence, one.confidence),
        sources=_gathered(row.sources, one.sources),
        expires_at=expires,
        confirmed_at=one.valid_from if one.valid_from > _until(row) else row.confirmed_at,
    )


def _gathered(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*old, *new)))[-MOST_SOURCES:]


def _is_repeat(row: Fact, one: NewFact) -> bool:
    """Whether a fact is what is said again: out of the same events, be it that somebody took it back; or of a time at which it held."""
    same = set(one.sources) <= set(row.sources) if one.sources else row.valid_from == one.valid_from
    covered = row.known_to is None and row.valid_to is not None and row.valid_from <= one.valid_from < row.valid_to
    return same or (covered and row.ended_by != "expiry")
