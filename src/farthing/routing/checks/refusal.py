"""An answer that declines to answer."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from farthing.routing.checks.check import Answered
from farthing.routing.checks.reading import choices_of
from farthing.settings import RefusalCheckSettings

_FILE: Final = Path(__file__).with_name("refusals.toml")
_HEAD = 320
_SHORT = 500
_APOSTROPHES = "\u2019\u2018\u0060\u00b4"
_STRAIGHT = str.maketrans(dict.fromkeys(_APOSTROPHES, "'") | {"*": None, "\u201c": '"', "\u201d": '"', "\u00a0": " ", "\r": " ", "\n": " "})
_DECORATION = " \t*_#>\"'-\u00ab\u00bb\u2013\u2014\u2022"
"""What Markdown and quotes put before the first word."""


class Refusal:
    """`message.refusal` is set, or the text begins as refusals begin. One that only mentions something refused passes.

    An answer that declines a part and then goes on ("I can't give legal advice, but here is …") passes once it is long enough to be an
    answer; its beginning alone passes too.
    """

    def __init__(self, settings: RefusalCheckSettings) -> None:
        self._phrases = tuple(_plain(phrase) for phrase in settings.phrases)

    async def judge(self, answered: Answered) -> str | None:
        """See `Check`."""
        for said in choices_of(answered.body):
            if said.refusal.strip():
                return "a refusal"
            if said.text and not said.calls and (refuses(said.text, whole=answered.whole) or self._is_phrase(said.text)):
                return "it begins like a refusal"
        return None

    def _is_phrase(self, text: str) -> bool:
        return bool(self._phrases) and _plain(text[:_HEAD]).startswith(self._phrases)


def refuses(text: str, *, whole: bool = True) -> bool:
    """Whether a text begins like a refusal; `whole`: nothing comes after it."""
    words = _words()
    head = _plain(text[:_HEAD])
    if not words.decline(head):
        return False
    return not words.goes_on.search(head) or (whole and len(text) < _SHORT)


class _Words(msgspec.Struct, frozen=True, kw_only=True):
    """The patterns of `refusals.toml`."""

    declines: re.Pattern[str]
    declines_politely: re.Pattern[str]
    greeting: re.Pattern[str]
    goes_on: re.Pattern[str]

    def decline(self, head: str) -> bool:
        """Whether a refusal stands at the beginning, or behind what is polite to say before it."""
        greeting = self.greeting.match(head)
        heads = (head, head[greeting.end() :]) if greeting else (head,)
        return any(self.declines.match(one) or self.declines_politely.match(one) for one in heads)


@cache
def _words() -> _Words:
    tree = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    parts: dict[str, str] = tree["parts"]
    openings: dict[str, str] = tree["openings"]

    def written_out(pattern: str) -> str:
        for name, part in parts.items():
            pattern = pattern.replace(f"<{name}>", part)
        return pattern

    declines = written_out("|".join(pattern for language in tree["declines"].values() for pattern in language))
    after = written_out("|".join(tree["after_apology"]["english"]))
    apology, as_an_ai = openings["apology"], openings["as_an_ai"]
    before = f"(?:{apology}(?:{as_an_ai})?|{as_an_ai}(?:{apology})?)"
    return _Words(
        declines=re.compile(declines),
        declines_politely=re.compile(f"{before}(?:(?!.{{0,30}}\\b{parts['good_news']}\\b)(?:{after})|{declines})"),
        greeting=re.compile(openings["greeting"]),
        goes_on=re.compile(openings["goes_on"]),
    )


def _plain(text: str) -> str:
    return text.translate(_STRAIGHT).lstrip(_DECORATION).casefold()
