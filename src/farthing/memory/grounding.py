"""Whether a fact stands in the words that it was read from. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final


def words(text: str) -> frozenset[str]:
    """The words of a list that is written as a line."""
    return frozenset(text.split())


_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD: Final = re.compile(rf"[^\W_{_CJK}]+(?:['\u2019][^\W_]+)?|[{_CJK}]")
_STEM: Final = 4
_LIKE: Final = 0.6
"""Share of the longer word that two forms of a word have in common at their beginning: build, building."""
_LONG_COPY: Final = 12
_COPIED: Final = 0.9

_IDLE: Final = words(
    "a an the this that these those and or but if of in on at to for from with by as is are was were be been being am do does did has have "
    "had having not no yes it its it's i i'm i've me my mine we our us you your yours he she they them their his her user user's users "
    "prefer prefers preferred preference like likes liked love loves want wants wanted use uses used using work works working live lives "
    "living need needs make makes get gets go goes very really just also some any more most than then there here who what when where how "
    "which while about into over under again often usually always never currently lately now "
    "der die das ein eine einen einem und oder ist sind war ich mein meine mir mich wir du sie er es nicht mit von zu im am auf für "
    "mag möchte nutzt benutzt arbeitet wohnt nutzer"
)
"""They carry no fact: two texts that have only these in common say nothing of each other."""


def content_words(text: str) -> list[str]:
    """The words that carry what a text says, in small letters. A character of Chinese, Japanese or Korean is a word."""
    return [word for word in (found.casefold() for found in _WORD.findall(text)) if word not in _IDLE]


class Ground:
    """The words of some texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._words: set[str] = set()
        for text in texts:
            self._words.update(content_words(text))
        self._by_stem: dict[str, list[str]] = {}
        for word in self._words:
            self._by_stem.setdefault(word[:_STEM], []).append(word)

    def has(self, word: str) -> bool:
        """Whether a word, or another form of it, is there."""
        return word in self._words or (len(word) >= _STEM and any(_alike(word, other) for other in self._by_stem.get(word[:_STEM], ())))

    def has_exactly(self, word: str) -> bool:
        """Whether it is there as it is."""
        return word in self._words

    def share(self, wanted: Collection[str]) -> float:
        """Of words, the share that is there; 0 of none."""
        return sum(self.has(word) for word in wanted) / len(wanted) if wanted else 0.0

    def misses_a_name(self, text: str) -> bool:
        """Whether a text has a number, or (but for its first word) a capitalised one, that is not there."""
        for at, found in enumerate(_WORD.findall(text)):
            word = found.casefold()
            if any(char.isdigit() for char in found):
                if not self.has_exactly(word):
                    return True
            elif at and found[:1].isupper() and word not in _IDLE and not self.has(word):
                return True
        return False


def copies(text: str, source: str) -> bool:
    """Whether a text is a long piece of its source, rather than what is to be learnt from it."""
    said, there = _WORD.findall(text.casefold()), set(_WORD.findall(source.casefold()))
    return len(said) >= _LONG_COPY and sum(word in there for word in said) >= _COPIED * len(said)


def _alike(one: str, other: str) -> bool:
    common = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return common >= _STEM and common >= _LIKE * max(len(one), len(other))
