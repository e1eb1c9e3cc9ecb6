"""An answer that does not look as it should."""

from __future__ import annotations

from farthing.patterns import LinearPattern
from farthing.routing.checks.check import Answered
from farthing.routing.checks.reading import choices_of
from farthing.settings import PatternCheckSettings

_MOST_CHARS = 50_000


class MatchesPattern:
    """The text of each choice is searched: the beginning of one that is longer than 50,000 characters.

    Choices that call tools and say nothing are left alone. A beginning can only be rejected for what must not be there.
    """

    def __init__(self, settings: PatternCheckSettings) -> None:
        self._must = LinearPattern(settings.must_match) if settings.must_match is not None else None
        self._must_not = LinearPattern(settings.must_not_match) if settings.must_not_match is not None else None

    async def judge(self, answered: Answered) -> str | None:
        """See `Check`."""
        for said in choices_of(answered.body):
            text = (said.text or said.refusal)[:_MOST_CHARS]
            if said.calls and not text:
                continue
            if self._must_not is not None and self._must_not.found(text):
                return "it matches must_not_match"
            if answered.whole and self._must is not None and not self._must.found(text):
                return "it does not match must_match"
        return None
