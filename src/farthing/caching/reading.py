"""What the semantic cache knows of a question: its words, how each is meant there, and the facts in it. Read once, stored, compared often.

The words come out of the text itself; what they mean in their place comes out of the embedder's token vectors, pooled to words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from farthing.caching import facts
from farthing.caching.lexicon import ASKS, AUXILIARIES, FIRST_PERSON, FUNCTION_WORDS, NEGATIONS, QUANTIFIERS, ROLES
from farthing.lazily import Lazily
from farthing.ports import Encoded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Lazily("numpy")

MOST_CHARACTERS: Final = 4000
"""A longer text is cut, and so is not compared at all: no model here reads that far."""

CONTENT, NAME, NEGATION, ROLE, QUANTIFIER, FIRST = 1, 2, 4, 8, 16, 32
"""Marks of a word, as bits."""

_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]"  # scripts without spaces between words: each character is one
    r"|\d+(?:[.,:]\d+)+\w*"
    r"|n['\u2019]t\b"
    r"|\w+(?:['\u2019]\w+)*[+#]*"
    r"|!=|[%$€£¥₹+=<>*^&|~\\#@{}\[\]]|(?<=[\d) ])[-/](?=[\d( ])"
    r"|[\U0001F000-\U0010FFFF\u2600-\u27bf]"
)
_SENTENCE_ENDS: Final = frozenset('.?!:;\n"“(`')


FULL: Final = 127.0
"""The length of a word's row."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A question, read.

    `text` ends where the embedder stopped reading; `words` are its words in lower case. `vectors` holds one row of int8 for each word,
    all of the same length, `rarity` and `marks` one byte for each. `quantities`, `codes`, `forms`: see `facts`. `ask` is what is asked
    for (`how`, `why`, …;
    `polar` for yes or no, `tell` for none of them). `cut`: the question goes on after what is here.
    """

    text: str
    words: tuple[str, ...]
    vectors: bytes
    rarity: bytes
    marks: bytes
    quantities: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    ask: str = "tell"
    language: str = "?"
    cut: bool = False


class _Packed(msgspec.Struct, frozen=True, array_like=True, gc=False, omit_defaults=True):
    text: str
    vectors: bytes
    rarity: bytes
    marks: bytes
    ask: str
    language: str
    quantities: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    cut: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def read(text: str, encoded: Encoded) -> Reading:
    """Read a question. `encoded` is what the embedder made of the same text."""
    end = encoded.spans[-1][1] if encoded.cut and encoded.spans else len(text)
    cut = encoded.cut or end > MOST_CHARACTERS
    text = text[: min(end, MOST_CHARACTERS)].encode("utf-8", "replace").decode()  # lone surrogates cannot be stored
    matches = list(_WORD.finditer(text))
    words = tuple(_folded(match.group()) for match in matches)
    vectors, rarity = _pooled(matches, encoded)
    return Reading(
        text=text,
        words=words,
        vectors=vectors,
        rarity=rarity,
        marks=_marks(text, matches, words),
        quantities=facts.quantities(words),
        codes=facts.codes(text),
        forms=facts.forms(words),
        ask=_ask(words),
        language=facts.language(words, text),
        cut=cut,
    )


def pack(reading: Reading) -> bytes:
    """A reading as it is stored. About 430 bytes for twelve words."""
    return _encode(
        _Packed(
            reading.text,
            reading.vectors,
            reading.rarity,
            reading.marks,
            reading.ask,
            reading.language,
            reading.quantities,
            reading.codes,
            reading.forms,
            reading.cut,
        )
    )


def unpack(payload: bytes) -> Reading:
    """The reading that was packed. Raises `msgspec.DecodeError` when it is none."""
    packed = _decode(payload)
    return Reading(
        text=packed.text,
        words=tuple(map(_folded, _WORD.findall(packed.text))),
        vectors=packed.vectors,
        rarity=packed.rarity,
        marks=packed.marks,
        quantities=packed.quantities,
        codes=packed.codes,
        forms=packed.forms,
        ask=packed.ask,
        language=packed.language,
        cut=packed.cut,
    )


def _folded(word: str) -> str:
    return word.lower() if word.isascii() else word.replace("\u2019", "'").casefold()


def _pooled(matches: Sequence[re.Match[str]], encoded: Encoded) -> tuple[bytes, bytes]:
    """One row and one rarity for each word: the sum of its tokens' rows, the rarity of its rarest. Zero where there is no token."""
    if not matches or not encoded.spans:
        return b"", bytes(len(matches))
    owners, tokens = _owners(matches, encoded.spans)
    rows = np.frombuffer(encoded.words, np.int8).reshape(len(encoded.spans), -1)
    rarity = np.zeros(len(matches), np.uint8)
    vectors = np.zeros((len(matches), rows.shape[1] - 1), np.int8)
    if owners:
        rows = rows[tokens]
        first = [index for index, owner in enumerate(owners) if not index or owner != owners[index - 1]]
        filled = [owners[index] for index in first]
        rarity[filled] = np.maximum.reduceat(rows[:, 0].view(np.uint8), first)
        vectors[filled] = _scaled(np.add.reduceat(rows[:, 1:], first, dtype=np.float32))
    return vectors.tobytes(), rarity.tobytes()


def _owners(matches: Sequence[re.Match[str]], spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Which word each token is in, and the places of these tokens; tokens outside of words (punctuation) are left out."""
    owners: list[int] = []
    tokens: list[int] = []
    word = 0
    end = matches[0].end()
    for token, (start, _) in enumerate(spans):
        while start >= end:
            word += 1
            if word == len(matches):
                return owners, tokens
            end = matches[word].end()
        if start >= matches[word].start():
            owners.append(word)
            tokens.append(token)
    return owners, tokens


def _scaled(rows: NDArray[np.float32]) -> NDArray[np.int8]:
    """All rows of the same length, `FULL`: then cosines are plain products."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    scaled: NDArray[np.int8] = np.rint(rows * (FULL / np.maximum(lengths, 1e-9))[:, None]).astype(np.int8)
    return scaled


def _marks(text: str, matches: Sequence[re.Match[str]], words: Sequence[str]) -> bytes:
    marks = bytearray(len(words))
    capitals = [index for index, match in enumerate(matches) if text[match.start()].isupper()]
    headline = len(words) >= _HEADLINE and 2 * len(capitals) > len(words) + 1
    for index, word in enumerate(words):
        marks[index] = (
            (CONTENT if word not in FUNCTION_WORDS else 0)
            | (NEGATION if word in NEGATIONS or word.endswith("n't") else 0)
            | (ROLE if word in ROLES else 0)
            | (QUANTIFIER if word in QUANTIFIERS else 0)
            | (FIRST if word in FIRST_PERSON else 0)
        )
    if not headline:
        for index in capitals:
            if marks[index] & CONTENT and not _opens_sentence(text, matches[index].start()):
                marks[index] |= NAME
    return bytes(marks)


_HEADLINE: Final = 4
"""From so many words on, capitals on most of them are a style and mark no names."""


def _opens_sentence(text: str, start: int) -> bool:
    before = text[:start].rstrip(" ")
    return not before or before[-1] in _SENTENCE_ENDS


def _ask(words: Sequence[str]) -> str:
    """The first question word decides; else it is `polar` when an auxiliary opens the question."""
    for index, word in enumerate(words):
        if word in ASKS:
            after = words[index + 1] if index + 1 < len(words) else ""
            return f"how {after}" if ASKS[word] == "how" and after in _MEASURES else ASKS[word]
    return "polar" if words and words[0] in AUXILIARIES else "tell"


_MEASURES: Final = frozenset({"many", "much", "long", "old", "far", "often", "big", "fast", "tall", "high", "soon", "late"})
