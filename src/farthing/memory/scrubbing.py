"""What must not be remembered: secrets, and by setting what is personal. Pure.

Each pattern takes time in proportion to the text: no repetition stands inside another one, and each is bounded.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Final, Literal

import msgspec

from farthing.memory.grounding import words

Sort = Literal["secret", "personal"]

_KEY_NAMES: Final = (
    r"(?:api|access|auth|secret|private|encryption|signing)[ _\-]?(?:key|token)|token|client[ _\-]?secret|secret|"
    r"pass(?:word|wd|phrase|code)?|pwd|kennwort|passwort|pin(?:[ _\-]?(?:code|number))?|cvv|cvc|otp"
)
_SECRETS: Final = (
    re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----[^-]{0,20000}(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"),
    re.compile(r"\b(?:fk|sk|pk|rk)[-_][A-Za-z0-9_\-]{8,512}"),  # ours, OpenAI's, Anthropic's, Stripe's
    re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,64}\b"),  # AWS
    re.compile(r"\bAIza[A-Za-z0-9_\-]{20,128}"),  # Google
    re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255}|glpat-[A-Za-z0-9_\-]{16,128})"),
    re.compile(r"\bxox[abeoprs]-[A-Za-z0-9\-]{8,255}"),  # Slack
    re.compile(r"\b(?:hf|npm|pypi|dop_v1|SG)[_\-.][A-Za-z0-9_\-.]{16,255}"),
    re.compile(r"\beyJ[A-Za-z0-9_\-]{8,4096}\.[A-Za-z0-9_\-]{0,4096}(?:\.[A-Za-z0-9_\-]{0,4096})?"),  # JWT
    re.compile(r"\b(?:Bearer|Basic)[ ]{1,3}[A-Za-z0-9._~+/=\-]{8,2048}", re.IGNORECASE),
    re.compile(r"\b[a-z][a-z0-9+.\-]{0,20}://[^\s/:@]{0,64}:[^\s/@]{1,256}@", re.IGNORECASE),
)
_SAID: Final = re.compile(
    rf"\b(?:{_KEY_NAMES})\b[\"']?\s{{0,3}}(?:[:=]|\bis\b|\bist\b|\bwas\b)\s{{0,3}}[\"'`]?(?P<said>[^\s\"'`,;]{{3,256}})", re.IGNORECASE
)
"""A password that somebody tells in words."""
_NOT_SAID: Final = words(
    "not now the a an too very so wrong right old new invalid expired missing required correct incorrect lost stolen gone weak strong "
    "long short reset changed broken needed used stored safe secure unsafe nicht falsch richtig alt neu weg"
)
_CARD: Final = re.compile(r"(?<![\d.])\d(?:[ \-]?\d){12,18}(?![\d.])")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9+/_\-=.])[A-Za-z0-9+/_\-]{20,512}={0,2}(?![A-Za-z0-9+/_\-=])")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_RANDOM_BITS: Final = 3.6
"""Shannon entropy by character from which a long token of letters and digits is taken for a key; words in a path have less."""
_VERY_RANDOM_BITS: Final = 4.3
"""The same of a token that has hardly a digit."""

_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63}){1,5}")
_PHONE: Final = re.compile(r"(?<![\w.\-/:])(?:\+|00|\()?\d(?:[ \-./()]{0,2}\d){6,14}(?![\w\-/:])")
_DATE: Final = re.compile(r"\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}")
_IDS: Final = (
    re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)"),  # US social security
    re.compile(r"\b(?:passport|id card|identity card|social security|insurance|tax id|ssn|driver'?s licen[cs]e|personalausweis)"
               r"(?: (?:number|no|nr|num))?\.?\s{0,2}(?:is|:|#|=)?\s{0,2}[A-Z0-9][A-Z0-9\- ]{4,20}\d\b", re.IGNORECASE),
)  # fmt: skip
_ADDRESS: Final = (
    re.compile(
        r"\b\d{1,5}[A-Za-z]? (?:[A-Z][\w'.]{0,30} ){1,4}"
        r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Square|Sq|Way|Place|Pl|Terrace)\b\.?"
    ),
    re.compile(r"\b[A-ZÄÖÜ][\wäöüß\-]{1,40}(?:straße|strasse|str\.|weg|gasse|platz|allee|ufer|damm) \d{1,4}[a-z]?\b"),
    re.compile(r"\b\d{1,4} (?:rue|avenue|boulevard|place|chemin) (?:[\w'\-]{1,30} ?){1,5}", re.IGNORECASE),
)


class Scrubbed(msgspec.Struct, frozen=True, gc=False):
    """A text with marks such as `[secret]` where something was, and what sorts of things were there."""

    text: str
    found: frozenset[Sort]


class Scrubber:
    """Takes secrets out of texts, and with `personal` mail addresses, telephone numbers, street addresses and numbers of documents."""

    def __init__(self, *, personal: bool) -> None:
        self._personal = personal

    def __call__(self, text: str) -> Scrubbed:
        """The text without them. What was scrubbed before stays as it is."""
        found: set[Sort] = set()
        text = _without_secrets(text, found)
        if self._personal:
            text = _without_personal(text, found)
        return Scrubbed(text, frozenset(found))


def _without_secrets(text: str, found: set[Sort]) -> str:
    cut = _Cutter(found, "secret", "[secret]")
    for pattern in _SECRETS:
        text = pattern.sub(cut, text)
    text = _SAID.sub(cut.only("said", lambda said: said.lower().strip(".!?") not in _NOT_SAID and not said.startswith("[")), text)
    text = _CARD.sub(cut.where(_is_card), text)
    text = _IBAN.sub(cut.where(_is_iban), text)
    return _TOKEN.sub(cut.where(_is_random), text)


def _without_personal(text: str, found: set[Sort]) -> str:
    text = _EMAIL.sub(_Cutter(found, "personal", "[email]"), text)
    for pattern in _IDS:
        text = pattern.sub(_Cutter(found, "personal", "[number]"), text)
    for pattern in _ADDRESS:
        text = pattern.sub(_Cutter(found, "personal", "[address]"), text)
    return _PHONE.sub(_Cutter(found, "personal", "[phone]").where(_is_phone), text)


class _Cutter:
    """Puts a mark in place of a match, and notes it."""

    def __init__(self, found: set[Sort], sort: Sort, mark: str) -> None:
        self._found = found
        self._sort = sort
        self._mark = mark

    def __call__(self, _: re.Match[str]) -> str:
        self._found.add(self._sort)
        return self._mark

    def where(self, holds: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
        """Only matches for which this holds."""
        return lambda match: self(match) if holds(match[0]) else match[0]

    def only(self, group: str, holds: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
        """Only this group of a match."""
        return lambda match: match[0][: match.start(group) - match.start()] + self(match) if holds(match[group]) else match[0]


def _is_card(text: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1), which one number in ten passes by chance, and a first digit that card networks use."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [digit if at % 2 == 0 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(reversed(digits))]  # noqa: PLR2004  # 5 doubled has two digits
    return digits[0] in {2, 3, 4, 5, 6} and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 13616: letters as numbers, the first four characters at the end, remainder 1 modulo 97."""
    packed = text.replace(" ", "")
    return int("".join(str(int(char, 36)) for char in packed[4:] + packed[:4])) % 97 == 1


def _is_random(text: str) -> bool:
    """Whether it looks drawn at random: letters and digits mixed, and no character much more often than others."""
    if _UUID.fullmatch(text):
        return False  # names things, opens none
    digits, letters = sum(char.isdigit() for char in text), sum(char.isalpha() for char in text)
    bits = -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
    if digits >= 3 and letters >= 3:  # noqa: PLR2004  # fewer are a version, or a date in a path
        return digits + letters >= 0.8 * len(text) and bits >= _RANDOM_BITS  # the rest are slashes and dashes
    mixed = sum(one.islower() and other.isupper() for one, other in pairwise(text))
    return digits >= 1 and mixed >= 5 and bits >= _VERY_RANDOM_BITS  # noqa: PLR2004  # names in camel case have fewer humps


def _is_phone(text: str) -> bool:
    return not _DATE.fullmatch(text) and sum(char.isdigit() for char in text) <= 15  # noqa: PLR2004  # E.164
