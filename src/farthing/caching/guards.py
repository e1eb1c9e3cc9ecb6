"""Reasons why an answer cannot fit another question, whatever the score says. Each reads what sentence vectors cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from farthing.caching.alignment import Alignment
from farthing.caching.facts import quantities_agree
from farthing.caching.lexicon import OPPOSITES
from farthing.caching.reading import NAME, NEGATION, Reading

READABLE: Final = frozenset({"en", "?"})
"""Languages that the embedder was trained on; `?` is Latin script that shows no language."""


def unreadable(one: Reading, other: Reading) -> str | None:
    """Why two questions cannot even be aligned; None when they can."""
    if one.cut or other.cut:
        return "too long to be read whole"
    if not one.words or not other.words:
        return "no words to compare"
    if one.language != other.language and not {one.language, other.language} <= READABLE:
        return "languages differ"
    if one.language not in READABLE:
        return "a language that the embedder does not read"
    return None


def veto(one: Reading, other: Reading, alignment: Alignment) -> str | None:
    """The first guard that forbids the answer of one question for the other; None when all let it pass."""
    for name, forbids in GUARDS:
        if forbids(one, other, alignment):
            return name
    return None


def _quantities(one: Reading, other: Reading, alignment: Alignment) -> bool:  # noqa: ARG001 - all guards are called alike
    return not quantities_agree(one.quantities, other.quantities)


def _codes(one: Reading, other: Reading, alignment: Alignment) -> bool:  # noqa: ARG001
    return one.codes != other.codes


def _forms(one: Reading, other: Reading, alignment: Alignment) -> bool:  # noqa: ARG001
    return one.forms != other.forms


def _roles(one: Reading, other: Reading, alignment: Alignment) -> bool:
    """Two words that have changed places: each now stands where the other stood, after or before the same word."""
    if not SYMMETRIC.isdisjoint(one.words) and not SYMMETRIC.isdisjoint(other.words):
        return False
    return exchanged(alignment) > 0


def _negation(one: Reading, other: Reading, alignment: Alignment) -> bool:
    """One says no, and of what else they say little differs."""
    if negations(one) % 2 == negations(other) % 2:
        return False
    return len(alignment.one.loose) + len(alignment.other.loose) <= _LITTLE


def _opposites(one: Reading, other: Reading, alignment: Alignment) -> bool:  # noqa: ARG001
    return opposed(alignment)


def _names(one: Reading, other: Reading, alignment: Alignment) -> bool:  # noqa: ARG001
    return all(any(side.marks[place] & NAME for place in side.loose) for side in (alignment.one, alignment.other))


GUARDS: Final[tuple[tuple[str, Callable[[Reading, Reading, Alignment], bool]], ...]] = (
    ("numbers, dates or amounts differ", _quantities),
    ("code or identifiers differ", _codes),
    ("the requested format, length or language differs", _forms),
    ("roles are exchanged", _roles),
    ("one is negated", _negation),
    ("they ask for opposites", _opposites),
    ("names differ", _names),
)
"""What vetoes say, and the guards, in the order they are asked."""

SYMMETRIC: Final = frozenset(
    {"difference", "differences", "different", "differ", "differs", "distance", "compare", "compared", "comparison", "between"}
)
"""Where one of these is in both questions, the order of the two things compared says nothing."""

_LITTLE: Final = 1
_EVEN: Final = frozenset({"and", "or", "vs", "versus", "&"})


def negations(reading: Reading) -> int:
    """How many words negate."""
    return sum(bool(mark & NEGATION) for mark in reading.marks)


def opposed(alignment: Alignment) -> bool:
    """Whether a word that only one question has means the contrary of one that only the other has."""
    one, other = alignment.one.words, alignment.other.words
    taken = set(alignment.pairs.values())
    only_other = {word for place, word in enumerate(other) if place not in taken}
    return any(place not in alignment.pairs and not OPPOSITES.get(word, _NONE).isdisjoint(only_other) for place, word in enumerate(one))


_NONE: Final[frozenset[str]] = frozenset()


def exchanged(alignment: Alignment) -> int:
    """How many pairs of content words have changed places."""
    one, other = alignment.one.words, alignment.other.words
    places = [place for place in alignment.one.content if place in alignment.pairs]
    count = 0
    for index, first in enumerate(places):
        there = alignment.pairs[first]
        for second in places[index + 1 :]:
            then = alignment.pairs[second]
            if then < there and not (_EVEN.issuperset(one[first + 1 : second]) and _EVEN.issuperset(other[then + 1 : there])):
                count += (_before(one, first) == _before(other, then) and _before(one, second) == _before(other, there)) or (
                    _after(one, first) == _after(other, then) and _after(one, second) == _after(other, there)
                )
    return count


def _before(words: tuple[str, ...], place: int) -> str:
    return words[place - 1] if place else ""


def _after(words: tuple[str, ...], place: int) -> str:
    return words[place + 1] if place + 1 < len(words) else ""
