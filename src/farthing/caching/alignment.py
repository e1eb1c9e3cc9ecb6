"""Which word of one question stands for which word of another, and how well."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from farthing.caching.reading import CONTENT, FULL, Reading
from farthing.lazily import Lazily

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Lazily("numpy")


class Side(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One of the two questions.

    `content`: the places of its content words (of all words when it has none). `best`: for each word the similarity of the word of the
    other question that is nearest to it. `loose`: the content words that the other question does not have. `weights`: how informative
    each word is, 0.17 to 1; `weight` their sum over the content.
    """

    words: tuple[str, ...]
    marks: bytes
    content: list[int]
    best: list[float]
    loose: list[int]
    weights: list[float]
    weight: float


class Alignment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Two questions, word against word.

    `similar[i][j]` is the cosine of word i of the one and word j of the other, in their places. `pairs` maps words of the one to the
    same words of the other (but for endings and slips of the pen), each used once.
    """

    one: Side
    other: Side
    similar: list[list[float]]
    pairs: dict[int, int]


def align(one: Reading, other: Reading) -> Alignment:
    """Align two questions that have words."""
    similar = (_rows(one) @ _rows(other).T) * (1 / FULL**2)
    contents = _content(one), _content(other)
    pairs = _pairs(one, other, *contents)
    taken = set(pairs.values())
    return Alignment(
        one=_side(one, contents[0], similar.max(axis=1), pairs.keys()),
        other=_side(other, contents[1], similar.max(axis=0), taken),
        similar=similar.tolist(),
        pairs=pairs,
    )


def _side(reading: Reading, content: list[int], best: NDArray[np.float32], paired: Container[int]) -> Side:
    weights = [_WEIGHTS[rarity] for rarity in reading.rarity]
    return Side(
        words=reading.words,
        marks=reading.marks,
        content=content,
        best=best.tolist(),
        loose=[place for place in content if place not in paired],
        weights=weights,
        weight=sum([weights[place] for place in content]),
    )


_WEIGHTS: Final = tuple(max(rarity, 40) / 237 for rarity in range(256))


def _rows(reading: Reading) -> NDArray[np.float32]:
    return np.frombuffer(reading.vectors, np.int8).reshape(len(reading.words), -1).astype(np.float32)


def _content(reading: Reading) -> list[int]:
    return [place for place, mark in enumerate(reading.marks) if mark & CONTENT] or list(range(len(reading.marks)))


def _pairs(one: Reading, other: Reading, content: list[int], others: list[int]) -> dict[int, int]:
    """Equal words first, of several the one at the like place; then content words that are nearly equal."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(other.words):
        places.setdefault(word, []).append(place)
    pairs: dict[int, int] = {}
    stretch = len(other.words) / len(one.words)
    for place, word in enumerate(one.words):
        free = places.get(word)
        if free:
            chosen = free[0] if len(free) == 1 else min(free, key=lambda there: abs(there - place * stretch))
            free.remove(chosen)
            pairs[place] = chosen
    taken = set(pairs.values())
    left = [place for place in others if place not in taken]
    for place in content:
        if place not in pairs:
            for there in left:
                if nearly_equal(one.words[place], other.words[there]):
                    pairs[place] = there
                    left.remove(there)
                    break
    return pairs


def nearly_equal(one: str, other: str) -> bool:
    """The same word but for its ending, or for one slip of the pen in a word of five letters or more. Digits must be equal."""
    shorter, longer = (one, other) if len(one) <= len(other) else (other, one)
    if len(shorter) < _SHORT:
        return len(shorter) == _SHORT - 1 and longer == shorter + "s"
    if shorter[0] != longer[0] and shorter[1] != longer[1]:
        return False
    if not (one.isalpha() and other.isalpha()):
        return False
    common = _common_prefix(shorter, longer)
    if common >= max(_SHORT - 1, len(shorter) - 2) and len(longer) - common <= _ENDING:
        return True
    return len(shorter) > _SHORT and len(longer) - len(shorter) <= 1 and _one_slip(shorter[common:], longer[common:])


_SHORT: Final = 4
_ENDING: Final = 4


def _common_prefix(one: Sequence[str], other: Sequence[str]) -> int:
    common = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        common += 1
    return common


def _one_slip(shorter: str, longer: str) -> bool:
    """Whether these, that begin differently, differ by one letter changed, added, or exchanged with the next."""
    if len(shorter) < len(longer):
        return shorter == longer[1:]
    return shorter[1:] == longer[1:] or (shorter[2:] == longer[2:] and shorter[:2] == longer[1::-1])
