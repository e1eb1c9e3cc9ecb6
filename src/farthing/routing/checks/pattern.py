"""An answer that does not look as it should."""

from __future__ import annotations

from farthing.patterns import LinearPattern
from farthing.routing.checks.check import Answered
from farthing.routing.checks.placed import CannotTell
from farthing.routing.checks.reading import choices_of
from farthing.settings import PatternCheckSettings

_MOST_CHARS = 50_000
_LEAST_CHARS = 1_000


class MatchesPattern:
    """The text of each choice is searched: of a long one so many characters as are worth `work` together with the states of the pattern.

    Choices that call tools and say nothing are left alone. A beginning can only be rejected for what must not be there.
    """

    def __init__(self, settings: PatternCheckSettings, *, work: int = 5_000_000) -> None:
        self._work = work
        self._must = LinearPattern(settings.must_match) if settings.must_match is not None else None
        self._must_not = LinearPattern(settings.must_not_match) if settings.must_not_match is not None else None

    async def judge(self, answered: Answered) -> str | None:
        """See `Check`. Raises `CannotTell` where it is not in the part of a long text that was searched."""
        for said in choices_of(answered.body):
            text = said.text or said.refusal
            if said.calls and not text:
                continue
            if self._must_not is not None and self._found(self._must_not, text):
                return "it matches must_not_match"
            if answered.whole and self._must is not None and not self._found(self._must, text):
                return "it does not match must_match"
        return None

    def _found(self, pattern: LinearPattern, text: str) -> bool:
        most = max(_LEAST_CHARS, min(_MOST_CHARS, self._work // max(1, pattern.cost)))
        if pattern.found(text[:most]):
            return True
        if len(text) > most:
            raise CannotTell(f"the text is longer than the {most} characters that are searched for a pattern of this size")
        return False
