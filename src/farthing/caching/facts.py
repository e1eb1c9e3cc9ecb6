"""Facts in a question that must be the same for an answer to fit: quantities, code, the shape and the language wanted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from farthing.caching.lexicon import CALENDAR, FORMATS, LANGUAGES, NUMBER_WORDS, STOPWORDS_BY_LANGUAGE

_UNITS: Final = {
    "%": "%", "percent": "%", "$": "usd", "usd": "usd", "dollar": "usd", "dollars": "usd", "bucks": "usd", "€": "eur", "eur": "eur",
    "euro": "eur",
    "euros": "eur", "£": "gbp", "gbp": "gbp", "pounds": "lb", "pound": "lb", "lb": "lb", "lbs": "lb", "₹": "inr", "inr": "inr", "rs": "inr",
    "rupees": "inr", "rupee": "inr", "¥": "jpy", "yen": "jpy", "second": "s", "seconds": "s", "sec": "s", "secs": "s", "s": "s",
    "minute": "min",
    "minutes": "min", "min": "min", "mins": "min", "hour": "h", "hours": "h", "hr": "h", "hrs": "h", "h": "h", "day": "day", "days": "day",
    "week": "week", "weeks": "week", "month": "month", "months": "month", "year": "year", "years": "year", "yrs": "year", "yr": "year",
    "am": "am", "pm": "pm", "kg": "kg", "kgs": "kg", "kilos": "kg", "g": "g", "grams": "g", "mg": "mg", "ml": "ml", "l": "l", "litres": "l",
    "liters": "l", "mm": "mm", "cm": "cm", "m": "m", "km": "km", "kms": "km", "miles": "mile", "mile": "mile", "mph": "mph",
    "feet": "ft", "ft": "ft",
    "foot": "ft", "inches": "in", "inch": "in", "kb": "kb", "mb": "mb", "gb": "gb", "tb": "tb", "hz": "hz", "mhz": "mhz", "ghz": "ghz",
    "w": "w",
    "kw": "kw", "v": "v", "volts": "v", "c": "c", "celsius": "c", "f": "f", "fahrenheit": "f", "degrees": "deg", "degree": "deg",
}  # fmt: skip
_SCALES: Final = {
    "k": 1e3,
    "thousand": 1e3,
    "lakh": 1e5,
    "lakhs": 1e5,
    "million": 1e6,
    "mn": 1e6,
    "crore": 1e7,
    "crores": 1e7,
    "billion": 1e9,
    "bn": 1e9,
}
_NAMED_DAYS: Final = CALENDAR - {"today", "tomorrow", "yesterday", "tonight", "morning", "evening", "noon", "midnight"}
_MONEY: Final = frozenset({"usd", "eur", "gbp", "inr", "jpy"})
_NUMBER = re.compile(r"(\d[\d.,:]*)(.*)")
_MIXED = re.compile(r"(?=.*\d)(?=.*[^\W\d_])")
_FENCE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_IDENTIFIER = re.compile(
    r"https?://\S+"
    r"|\b\w+\(\)"
    r"|\b(?:[^\W_]+_)+\w+"  # snake_case
    r"|\b[a-z]+(?:[A-Z][a-z0-9]+)+\b"  # camelCase
    r"|\b\w+(?:::\w+)+"
    r"|(?<!\w)--?[a-z][\w-]+"  # --option
    r"|(?<!\w)(?:/[\w.-]+){2,}"  # /a/path
    r"|\b\w+\.(?:py|js|ts|java|go|rs|c|cpp|h|rb|php|sh|sql|json|ya?ml|xml|csv|txt|md|html|css|ini|toml|cfg|log|exe|dll|pdf|docx?|xlsx?)\b"
    r"|\b0x[0-9a-fA-F]+\b"
    r"|\b[A-Z]+-?\d{2,}\w*\b"  # E1234, ORA-00942
)
_HINT = re.compile(r"[_/\d]|\(\)|::|\.\w|-[a-z]|[a-z][A-Z]")
"""What every identifier has something of; most questions have none of it."""
_IN_WORDS: Final = frozenset({"in", "as", "a", "an", "into", "with", "using", "of", "only", "output", "return", "be"})
_LENGTHS: Final = frozenset(
    {"word", "words", "sentence", "sentences", "paragraph", "paragraphs", "line", "lines", "bullet", "bullets", "page", "pages"}
)
_ALWAYS_FORM: Final = frozenset({"short", "long", "simple"})


def quantities(words: Sequence[str]) -> tuple[str, ...]:
    """Numbers as `value|unit` (the unit may be empty), names of days and months, and what mixes digits with letters; sorted."""
    found = []
    for index, word in enumerate(words):
        if word in CALENDAR:
            found.append(word[:3] if word in _NAMED_DAYS else word)
            continue
        if word in _SCALES and index and words[index - 1][0].isdigit():  # taken with the number before it
            continue
        if not word[0].isdigit():
            if word in NUMBER_WORDS:
                found.append(_quantity(float(NUMBER_WORDS[word]), words, index))
            elif _MIXED.match(word):
                found.append(word)
            continue
        match = _NUMBER.match(word)
        if match is None:  # digits of other scripts
            found.append(word)
            continue
        digits, rest = match.groups()
        value = _value(digits)
        if value is None or (rest and rest not in _UNITS and rest not in _SCALES and rest not in {"st", "nd", "rd", "th"}):
            found.append(word)
        elif rest in _UNITS:
            found.append(f"{value:g}|{_UNITS[rest]}")
        else:
            found.append(_quantity(value * _SCALES.get(rest, 1.0), words, index))
    return tuple(sorted(set(found)))


def _value(digits: str) -> float | None:
    digits = digits.rstrip(".,:")
    if ":" in digits or digits.count(".") > 1:  # a time, a version
        return None
    whole = digits.replace(",", "")
    try:
        return float(whole)
    except ValueError:  # digits of other scripts
        return None


def _quantity(value: float, words: Sequence[str], index: int) -> str:
    after = words[index + 1] if index + 1 < len(words) else ""
    if after in _SCALES:
        value *= _SCALES[after]
        after = words[index + 2] if index + 2 < len(words) else ""
    unit = _UNITS.get(after, "") if after not in {"s", "m", "c", "f", "g", "h", "l", "v", "w"} else ""
    if not unit and index and _UNITS.get(words[index - 1], "") in _MONEY:
        unit = _UNITS[words[index - 1]]
    return f"{value:.12g}|{unit}"


def quantities_agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether each quantity has its like in the other question. A unit that only one of them names is no difference."""
    return all(_has_like(quantity, other) for quantity in one) and all(_has_like(quantity, one) for quantity in other)


def _has_like(quantity: str, others: Sequence[str]) -> bool:
    if quantity in others:
        return True
    value, bar, unit = quantity.partition("|")
    return bool(bar) and any(v == value and b and (not u or not unit) for v, b, u in (other.partition("|") for other in others))


def codes(text: str) -> tuple[str, ...]:
    """Code blocks and identifiers, as they are written; sorted."""
    found = {block.strip("`").strip() for block in _FENCE.findall(text)} if "`" in text else set()
    if _HINT.search(text):
        found.update(_IDENTIFIER.findall(text))
    return tuple(sorted(found))


def forms(words: Sequence[str]) -> tuple[str, ...]:
    """The shape, the length and the language that the answer is wanted in; sorted."""
    found = set()
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        after = words[index + 1] if index + 1 < len(words) else ""
        if word in FORMATS:
            form = FORMATS[word]
            if form in _ALWAYS_FORM or before in _IN_WORDS or after in {"format", "form"}:
                found.add(form)
        elif word in LANGUAGES and before in {"in", "into", "using", "to"}:
            found.add(f"in {word}")
        if word in _LENGTHS and before and (before[0].isdigit() or before in NUMBER_WORDS or before == "one"):
            found.add(f"{NUMBER_WORDS.get(before, before)} {word.rstrip('s')}")
    return tuple(sorted(found))


def language(words: Sequence[str], text: str) -> str:
    """The language, roughly: `en` or another of those in the lexicon, `?` for Latin script that gives no sign, or the name of a script."""
    if not text.isascii():
        letters = [character for character in text if character.isalpha()]
        foreign = [character for character in letters if ord(character) > _LATIN_ENDS]
        if 3 * len(foreign) > len(letters):
            return _script(foreign[0])
    counts = {name: sum(word in common for word in words) for name, common in STOPWORDS_BY_LANGUAGE.items()}
    best = max(counts, key=counts.__getitem__)  # the first of equals: English
    if not counts[best]:
        return "?"
    return best if best == "en" or counts[best] >= counts["en"] + _FOREIGN_LEAD else "en"


_LATIN_ENDS: Final = 0x24F
_FOREIGN_LEAD: Final = 2


def _script(character: str) -> str:
    code = ord(character)
    for end, name in _SCRIPTS:
        if code < end:
            return name
    return "other"


_SCRIPTS: Final = (
    (0x370, "phonetic"), (0x400, "greek"), (0x530, "cyrillic"), (0x590, "armenian"), (0x600, "hebrew"), (0x780, "arabic"), (0x900, "other"),
    (0xE00, "indic"), (0xE80, "thai"), (0x1100, "other"), (0x1200, "hangul"), (0x3040, "other"), (0x3100, "japanese"), (0x3400, "other"),
    (0xA000, "chinese"), (0xAC00, "other"), (0xD7B0, "hangul"),
)  # fmt: skip
