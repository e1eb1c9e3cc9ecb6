"""Words of a text as they are compared: folded, without endings, without those that say nothing. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    return list(_words(text.casefold()))


def _words(text: str) -> Iterator[str]:
    for found in _WORD.findall(text):
        word = found.partition("'")[0]
        if _UNSPACED.search(word):
            yield from (word[at : at + 2] for at in range(max(len(word) - 1, 1)))
        elif word not in _SILENT:
            yield _stem(word)


def _stem(word: str) -> str:
    """A word without the commonest English endings: enough for "painted" and "paintings" to meet."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            word = word[: -len(ending)] + ("y" if ending in {"ied", "ies"} else "")
            if ending in {"ing", "ed"} and len(word) > _SHORTEST_STEM and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > _SHORTEST_STEM else word
