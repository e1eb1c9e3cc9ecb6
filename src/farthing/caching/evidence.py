"""What speaks for and against two questions asking the same. Pure: readings in, numbers and perhaps a veto out.

All of it is symmetric: it does not matter which of the two was asked and which is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from farthing.caching import guards
from farthing.caching.alignment import Alignment, Side, align
from farthing.caching.facts import quantities_agree
from farthing.caching.reading import CONTENT, FIRST, NAME, QUANTIFIER, Reading

NAMES: Final = (
    "similarity",  # cosine of the sentences
    "shared_least",  # share of the content, by information, that the other question has too: of the side that has less of it
    "shared_most",
    "loose_most",  # content words that the other question does not have: of the side with more of them
    "loose_least",
    "covered_least",  # mean similarity of content words to their nearest, weighted by information
    "covered_most",
    "weakest",  # the content word that fits worst
    "weakest_other",
    "missing_most",  # of loose words: information times what is missing to a full similarity
    "missing_sum",
    "missing_least",
    "rarest_loose",
    "rarest_loose_other",
    "substitute_least",  # similarity among loose words of both sides: a synonym, or another thing
    "substitute_most",
    "all_covered_least",  # as covered, over all words alike
    "all_covered_most",
    "kept_least",  # words that both have: how alike they are in their places
    "kept_mean",
    "kept",  # how many these are
    "inversions",  # share of these in another order
    "inverted",  # how many, at most six
    "function_words",  # Jaccard
    "bigrams",  # Jaccard
    "length",  # words of the shorter
    "length_ratio",
    "content",  # content words of the shorter
    "content_difference",
    "trigrams",  # of letters, Jaccard
    "ask_same",
    "ask_clash",  # two different question words
    "why",  # only one asks why
    "who",  # only one asks who, when or where
    "negation",  # only one is negated
    "quantifiers",  # how many only one has
    "first_person_differs",
    "first_person",
    "loose_names",
    "quantities",  # they differ
    "opposites",
    "last",  # similarity of the last content words
    "first",  # and of the first
    "rarest",  # how rare the rarest content word is, of the side where it is less so
    "rarity",  # mean
)
"""The names of `Evidence.values`, in order."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was found. `values`: see `NAMES`. `veto` says, for people, why the answer must not be used; None when nothing forbids it.

    `identical`: the same words in the same order. Then there is nothing to weigh.
    """

    similarity: float
    values: tuple[float, ...]
    veto: str | None = None
    identical: bool = False

    @property
    def named(self) -> dict[str, float]:
        """The values by name; empty when the questions could not be aligned."""
        return dict(zip(NAMES, self.values, strict=False))


def compare(asked: Reading, known: Reading, similarity: float) -> Evidence:
    """Compare two questions. `similarity` is the cosine of their sentence vectors."""
    identical = asked.words == known.words and asked.codes == known.codes and bool(asked.words) and not asked.cut and not known.cut
    unreadable = None if identical else guards.unreadable(asked, known)
    if unreadable is not None:
        return Evidence(similarity=similarity, values=(), veto=unreadable)
    alignment = align(asked, known)
    return Evidence(
        similarity=similarity,
        values=_values(asked, known, alignment, similarity),
        veto=None if identical else guards.veto(asked, known, alignment),
        identical=identical,
    )


def _values(asked: Reading, known: Reading, alignment: Alignment, similarity: float) -> tuple[float, ...]:
    sides = alignment.one, alignment.other
    return (
        similarity,
        *_shared(*sides),
        *_covered(*sides),
        *_missing(*sides),
        *_substitutes(alignment),
        *_low_high(*(sum(side.best) / len(side.best) for side in sides)),
        *_kept(alignment),
        *_wording(*sides),
        *_asks(asked.ask, known.ask),
        *_small_words(asked, known, alignment),
        *_ends(alignment),
    )


def _low_high(one: float, other: float) -> tuple[float, float]:
    return (one, other) if one <= other else (other, one)


def _high_low(one: float, other: float) -> tuple[float, float]:
    return (one, other) if one >= other else (other, one)


def _weight(side: Side, places: Iterable[int]) -> float:
    return sum([side.weights[place] for place in places])


def _shared(one: Side, other: Side) -> tuple[float, ...]:
    shares = [1 - _weight(side, side.loose) / _weight(side, side.content) for side in (one, other)]
    return *_low_high(*shares), *_high_low(len(one.loose), len(other.loose))


def _covered(one: Side, other: Side) -> tuple[float, ...]:
    means = [sum([side.weights[i] * side.best[i] for i in side.content]) / _weight(side, side.content) for side in (one, other)]
    weakest = [min([side.best[i] for i in side.content]) for side in (one, other)]
    return *_low_high(*means), *_low_high(*weakest)


def _missing(one: Side, other: Side) -> tuple[float, ...]:
    gaps = [[side.weights[i] * (1 - side.best[i]) for i in side.loose] for side in (one, other)]
    most, least = _high_low(*(max(gap, default=0.0) for gap in gaps))
    rarest = [max([side.weights[i] for i in side.loose], default=0.0) for side in (one, other)]
    return most, sum(gaps[0]) + sum(gaps[1]), least, *_high_low(*rarest)


def _substitutes(alignment: Alignment) -> tuple[float, float]:
    """1 when nothing is loose, a half when something is on one side only."""
    one, other = alignment.one.loose, alignment.other.loose
    if not one or not other:
        value = 0.5 if one or other else 1.0
        return value, value
    among = [[alignment.similar[i][j] for j in other] for i in one]
    rows = [max(row) for row in among]
    columns = [max(column) for column in zip(*among, strict=True)]
    return min(*rows, *columns), max(rows)


def _kept(alignment: Alignment) -> tuple[float, ...]:
    kept = [(i, alignment.pairs[i]) for i in alignment.one.content if i in alignment.pairs and alignment.one.marks[i] & CONTENT]
    alike = [alignment.similar[i][j] for i, j in kept]
    order = [j for _, j in kept]
    inverted = sum([order[x] > order[y] for x in range(len(order)) for y in range(x + 1, len(order))])
    pairs = max(1.0, len(order) * (len(order) - 1) / 2)
    return min(alike, default=0.0), sum(alike) / max(len(alike), 1), len(kept), inverted / pairs, min(inverted, 6)


def _wording(one: Side, other: Side) -> tuple[float, ...]:
    function_words = [{word for word, mark in zip(side.words, side.marks, strict=True) if not mark & CONTENT} for side in (one, other)]
    lengths = sorted((len(one.words), len(other.words)))
    contents = sorted((len(one.content), len(other.content)))
    return (
        _jaccard(*function_words),
        _jaccard(*(set(zip(side.words, side.words[1:], strict=False)) for side in (one, other))),
        lengths[0],
        lengths[0] / lengths[1],
        contents[0],
        contents[1] - contents[0],
        _jaccard(_trigrams(one.words), _trigrams(other.words)),
    )


def _jaccard(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / max(1, len(one | other))


def _trigrams(words: Sequence[str]) -> set[str]:
    text = f" {' '.join(words)} "
    return {text[start : start + 3] for start in range(len(text) - 2)}


_DEFINITE: Final = frozenset({"how", "why", "when", "where", "who", "how many", "how much", "how long", "polar"})
_CIRCUMSTANCES: Final = frozenset({"who", "when", "where"})


def _asks(one: str, other: str) -> tuple[float, ...]:
    return (
        one == other,
        one != other and one in _DEFINITE and other in _DEFINITE,
        (one == "why") != (other == "why"),
        (one in _CIRCUMSTANCES) != (other in _CIRCUMSTANCES),
    )


def _small_words(asked: Reading, known: Reading, alignment: Alignment) -> tuple[float, ...]:
    quantifiers = [{word for word, mark in zip(r.words, r.marks, strict=True) if mark & QUANTIFIER} for r in (asked, known)]
    first = [any(mark & FIRST for mark in reading.marks) for reading in (asked, known)]
    return (
        guards.negations(asked) % 2 != guards.negations(known) % 2,
        len(quantifiers[0] ^ quantifiers[1]),
        first[0] != first[1],
        first[0] or first[1],
        sum(bool(side.marks[place] & NAME) for side in (alignment.one, alignment.other) for place in side.loose),
        not quantities_agree(asked.quantities, known.quantities),
        guards.opposed(alignment),
    )


def _ends(alignment: Alignment) -> tuple[float, ...]:
    one, other = alignment.one, alignment.other
    rarest = [max([side.weights[i] for i in side.content]) for side in (one, other)]
    mean = sum(_weight(side, side.content) / len(side.content) for side in (one, other)) / 2
    return (
        alignment.similar[one.content[-1]][other.content[-1]],
        alignment.similar[one.content[0]][other.content[0]],
        min(rarest),
        mean,
    )
