"""What speaks for and against two questions asking the same. Pure: readings in, numbers and perhaps a veto out.

All of it is symmetric: it does not matter which of the two was asked and which is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from farthing.caching import guards
from farthing.caching.alignment import Alignment, Side, align
from farthing.caching.lexicon import CREDENTIALS, HELP_NOUNS, RESET, WISHES
from farthing.caching.reading import CONTENT, FIRST, Reading

NAMES: Final = (
    "similarity",  # cosine of the sentences
    "shared_least",  # share of the content, by information, that the other question has too: of the side that has less of it
    "loose_most",  # content words that the other question does not have: of the side with more of them
    "loose_least",
    "covered_most",  # mean similarity of content words to their nearest, weighted by information: of the better side
    "weakest",  # the content word that fits worst
    "weakest_other",  # the same of the side that fits better
    "missing_most",  # of loose words: information times what is missing to a full similarity
    "missing_sum",
    "all_covered_least",  # mean similarity of all words alike to their nearest
    "all_covered_most",
    "kept",  # content words that both have
    "function_words",  # Jaccard
    "trigrams",  # of letters, Jaccard
    "length",  # words of the shorter
    "length_ratio",
    "content",  # content words of the shorter
    "last",  # similarity of the last content words
    "ask_same",
    "first_person",  # in either
    "rarest",  # how rare the rarest content word is, of the side where it is less so
    "rarity",  # mean
    "wish",  # a customer's wish for the same, in other words
)
"""The names of `Evidence.values`, in order."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was found. `values`: see `NAMES`; empty after a veto.

    `veto` says, for people, why the answer must not be used; None when nothing forbids it. `identical`: the same words in the same order.
    Then there is nothing to weigh.
    """

    similarity: float
    values: tuple[float, ...] = ()
    veto: str | None = None
    identical: bool = False

    @property
    def named(self) -> dict[str, float]:
        """The values by name."""
        return dict(zip(NAMES, self.values, strict=False))


def compare(asked: Reading, known: Reading, similarity: float) -> Evidence:
    """Compare two questions. `similarity` is the cosine of their sentence vectors."""
    if asked.words == known.words and asked.words and asked.codes == known.codes and not asked.cut and not known.cut:
        return Evidence(similarity=similarity, identical=True)
    unreadable = guards.unreadable(asked, known)
    if unreadable is not None:
        return Evidence(similarity=similarity, veto=unreadable)
    alignment = align(asked, known)
    veto = guards.veto(asked, known, alignment)
    if veto is not None:
        return Evidence(similarity=similarity, veto=veto)
    return Evidence(similarity=similarity, values=_values(asked, known, alignment, similarity))


def _values(asked: Reading, known: Reading, alignment: Alignment, similarity: float) -> tuple[float, ...]:
    one, other = alignment.one, alignment.other
    return (
        similarity,
        *_fit(one, other),
        *_low_high(sum(one.best) / len(one.best), sum(other.best) / len(other.best)),
        float(sum([place in alignment.pairs for place in one.content])),
        *_wording(one, other),
        alignment.similar[one.content[-1]][other.content[-1]],
        float(asked.ask == known.ask),
        float(any(mark & FIRST for mark in asked.marks + known.marks)),
        min(max([one.weights[i] for i in one.content]), max([other.weights[i] for i in other.content])),
        (one.weight / len(one.content) + other.weight / len(other.content)) / 2,
        float(_same_wish(asked, known, alignment)),
    )


def _low_high(one: float, other: float) -> tuple[float, float]:
    return (one, other) if one <= other else (other, one)


def _fit(one: Side, other: Side) -> tuple[float, ...]:
    """How well the content of each is found in the other."""
    shared, covered, weakest, missing = zip(*map(_fit_of, (one, other)), strict=True)
    loose = _low_high(len(one.loose), len(other.loose))
    gaps = missing[0] + missing[1]
    return min(shared), loose[1], loose[0], max(covered), min(weakest), max(weakest), max(gaps, default=0.0), sum(gaps)


def _fit_of(side: Side) -> tuple[float, float, float, list[float]]:
    weights, best = side.weights, side.best
    shared = 1 - sum([weights[i] for i in side.loose]) / side.weight
    covered = sum([weights[i] * best[i] for i in side.content]) / side.weight
    return shared, covered, min([best[i] for i in side.content]), [weights[i] * (1 - best[i]) for i in side.loose]


def _wording(one: Side, other: Side) -> tuple[float, ...]:
    small, smaller = ({word for word, mark in zip(side.words, side.marks, strict=True) if not mark & CONTENT} for side in (one, other))
    short, long = _low_high(len(one.words), len(other.words))
    return (
        len(small & smaller) / max(1, len(small | smaller)),
        _jaccard(_trigrams(one.words), _trigrams(other.words)),
        short,
        short / long,
        min(len(one.content), len(other.content)),
    )


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(1, len(one | other))


def _trigrams(words: Iterable[str]) -> set[str]:
    text = f" {' '.join(words)} "
    return {text[start : start + 3] for start in range(len(text) - 2)}


def _same_wish(asked: Reading, known: Reading, alignment: Alignment) -> bool:
    """Both want the same done to the same thing, each in its own words for that wish, and nothing else is in either of them."""
    one, other = alignment.one, alignment.other
    if asked.ask in _NO_WISH or known.ask in _NO_WISH or not (one.loose or other.loose):
        return False
    if not (_only_wishes(one.words, one.loose) and _only_wishes(other.words, other.loose)):
        return False
    wishes = _wishes(asked.words)
    things = {asked.words[i] for i in alignment.pairs if asked.marks[i] & CONTENT and asked.words[i] not in WISHES}
    if not things or not wishes or wishes != _wishes(known.words):
        return False
    return RESET not in wishes or not things.isdisjoint(CREDENTIALS)


def _only_wishes(words: Sequence[str], places: Sequence[int]) -> bool:
    return all(words[place] in WISHES or words[place] in HELP_NOUNS for place in places)


def _wishes(words: Sequence[str]) -> set[int]:
    return {WISHES[word] for word in words if word in WISHES}


_NO_WISH: Final = frozenset({"why", "who", "when", "how many", "how much", "how long", "how often", "how old"})
