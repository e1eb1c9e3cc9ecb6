"""An answer that says nothing."""

from __future__ import annotations

from farthing.routing.checks.check import Answered
from farthing.routing.checks.reading import choices_of
from farthing.settings import EmptyCheckSettings

_BLANK = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff" + "".join(
    chr(code) for code in range(0x2000, 0x200B)
)
"""What shows nothing: white space, and characters without width, which `str.strip` leaves in place."""


class Empty:
    """No text, or less than `min_chars`, and nothing else either (a tool call, audio, the words of a refusal)."""

    def __init__(self, settings: EmptyCheckSettings) -> None:
        self._min_chars = settings.min_chars

    async def judge(self, answered: Answered) -> str | None:
        """See `Check`. Of a beginning it says nothing: more may come."""
        if not answered.whole:
            return None
        choices = choices_of(answered.body)
        if not choices:
            return "there is no choice"
        for said in choices:
            if said.calls or said.content or said.refusal.strip(_BLANK):
                continue
            shown = len(said.text.strip(_BLANK))
            if shown < self._min_chars:
                return f"fewer than {self._min_chars} characters" if shown else "no text"
        return None
