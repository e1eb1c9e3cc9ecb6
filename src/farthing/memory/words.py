"""Words of a text as they are compared: folded, without endings, without those that say nothing. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?")
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
"""Scripts that put no spaces between words, and Korean, whose endings hang on: read two characters at a time."""
_ENDINGS: Final = ("ingly", "edly", "ings", "ing", "ied", "ies", "ed", "es", "ly", "s")
_SHORTEST_STEM: Final = 3
_SILENT: Final = frozenset(
    re.findall(
        r"\w+",
        """
        a about an and any are as at be been but by can could d did do does don for from had has have he her him his how i in is it its
        just ll m me my of on or our re s she should so some t that the their them there they this to us was we were what when where which
        who why will with would ve you your
        """,
    )
)


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    return words_of_each([text])[0]


def words_of_each(texts: Iterable[str]) -> list[list[str]]:
    """The words of several texts. Each different word is looked at once."""
    known: dict[str, tuple[str, ...]] = {}
    found = []
    for text in texts:
        words: list[str] = []
        for word in _WORD.findall(text.casefold()):
            read = known.get(word)
            if read is None:
                read = known[word] = _read(word.partition("'")[0])
            words += read
        found.append(words)
    return found


def _read(word: str) -> tuple[str, ...]:
    if _UNSPACED.search(word):
        return tuple(word[at : at + 2] for at in range(max(len(word) - 1, 1)))
    return () if word in _SILENT else (_stem(word),)


def _stem(word: str) -> str:
    """A word without the commonest English endings: enough for "painted" and "paintings" to meet."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            word = word[: -len(ending)] + ("y" if ending in {"ied", "ies"} else "")
            if ending in {"ing", "ed"} and len(word) > _SHORTEST_STEM and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > _SHORTEST_STEM else word
