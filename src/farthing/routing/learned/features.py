"""What can be said of a prompt without a model: its length, form and signs. Pure; no words are kept.

Lengths and counts are on a logarithmic scale, `log1p`, so that the hundredth word counts for less than the tenth. Shares are 0 to 1.
"""

from __future__ import annotations

import math
import re
from typing import Final

from farthing.routing.learned.prompt import TEXT_PARTS, text_of_prompt
from farthing.types import Json

VERSION: Final = 1
"""Changes with what the numbers mean. What was learnt from other features cannot be used with these."""

_WORD: Final = re.compile(r"\w+")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_CHOICE: Final = re.compile(r"^[ \t]*\(?(?:[A-Ja-j]|[1-9])[.):][ \t]+(.*)$", re.MULTILINE)
_SENTENCE_END: Final = re.compile(r"[.!?\u3002\uff1f\uff01](?:\s|$)")
_MATHS: Final = "+-*/=^<>\u221a\u2211\u222b\u2264\u2265\u00d7\u00f7%$\\{}|"
_MARKS: Final = ".,;:!?"
_LONG_WORD: Final = 8

_COMMON: Final = frozenset(
    ("a an and are as at be by for from has have he her his in is it of on or that the their they this to was were with").split(" ")  # noqa: SIM905
)
"""English function words: their share says of what kind a text is, and whether it is English at all."""

_SIGNS: Final = {
    "negated": re.compile(r"\bnot\b|\bexcept\b|n't\b"),
    "asks": re.compile(r"[?\uff1f]"),
    "how_many": re.compile(r"\bhow (?:many|much|long|far|old)\b"),
    "which": re.compile(r"\bwhich\b"),
    "what": re.compile(r"\bwhat\b"),
    "why": re.compile(r"\bwhy\b|\bexplain\b"),
    "gap": re.compile(r"_{2,}"),
    "if": re.compile(r"\bif\b"),
    "percent": re.compile(r"\bpercent|%"),
    "money": re.compile(r"\$|€|£"),
    "multiples": re.compile(r"\btwice\b|\bhalf\b|\bthird\b|\btimes\b|\bdouble\b"),
    "rate": re.compile(r"\beach\b|\bevery\b|\bper\b"),
    "code": re.compile(r"`|\bdef\b|\breturn\b|\bint\b|\bcode\b|\bprogram\b|\bfunction\b|\bclass\b|\bselect\b.{1,99}\bfrom\b"),
    "statements": re.compile(r"\bstatement [1i]\b|\bi\. |\bii\."),
    "imperative": re.compile(r"^\s*(?:write|list|give|make|create|translate|summari[sz]e|rewrite|find|compute|solve|prove|describe)\b"),
}

NAMES: Final = (
    "characters", "stem", "words", "choices", "choice_characters", "choice_spread", "numeric_choices", "digit_share", "numbers", "digits",
    "maths_share", "maths", "capitals", "marks", "sentences", "word_length", "distinct", "sentence_length", "lines", "long_words",
    "common_words", "not_ascii", *_SIGNS, "turns", "tools", "schema", "not_text",
)  # fmt: skip
"""What the numbers are, in order."""


def features_of(body: Json) -> tuple[float, ...]:
    """A chat request's features, one for each of `NAMES`. Never raises: what cannot be read counts as absent."""
    messages = body.get("messages")
    turns = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    users = sum(1 for message in turns if message.get("role") == "user")
    form = body.get("response_format")
    return (
        *_of_text(text_of_prompt(body)),
        math.log1p(max(users - 1, 0)),
        float(bool(body.get("tools"))),
        float(isinstance(form, dict) and form.get("type") not in (None, "text")),
        float(any(_not_text(message.get("content")) for message in turns)),
    )


def _not_text(content: object) -> bool:
    return isinstance(content, list) and any(isinstance(part, dict) and part.get("type") not in TEXT_PARTS for part in content)


def _of_text(text: str) -> tuple[float, ...]:
    words = [word.lower() for word in _WORD.findall(text)]
    choices = _CHOICE.findall(text)
    of_choices = [len(choice) for choice in choices]
    digits = sum(map(str.isdigit, text))
    maths = sum(map(text.count, _MATHS))
    sentences = len(_SENTENCE_END.findall(text))
    length, count = max(len(text), 1), max(len(words), 1)
    low = text.lower()
    log = math.log1p
    return (
        log(len(text)),
        log(max(len(text) - sum(of_choices), 0)),
        log(len(words)),
        float(min(len(choices), 10)),
        log(sum(of_choices)),
        log(max(of_choices, default=0) - min(of_choices, default=0)),
        sum(1 for choice in choices if _NUMBER.search(choice)) / max(len(choices), 1),
        digits / length,
        log(len(_NUMBER.findall(text))),
        log(digits),
        maths / length,
        log(maths),
        sum(map(str.isupper, text)) / length,
        sum(map(text.count, _MARKS)) / length,
        log(sentences),
        min(sum(map(len, words)) / count, 20.0),
        len(set(words)) / count,
        log(len(words) / max(sentences, 1)),
        log(text.count("\n")),
        log(sum(1 for word in words if len(word) >= _LONG_WORD)),
        sum(1 for word in words if word in _COMMON) / count,
        (len(text) - len(text.encode("ascii", "ignore"))) / length,
        *(float(sign.search(low) is not None) for sign in _SIGNS.values()),
    )
