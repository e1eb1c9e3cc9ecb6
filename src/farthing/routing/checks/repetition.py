"""An answer that says the same over and over, as small models do that have lost their way. Linear in the length of the text."""

from __future__ import annotations

import zlib

from farthing.routing.checks.check import Answered
from farthing.routing.checks.reading import choices_of
from farthing.settings import RepetitionCheckSettings

_MOST_CHARS = 50_000
_LEAST_LOOP = 160
"""Characters: rules (`-----`), indents and rows of zeros are shorter."""
_PROBE = 24
_LONGEST_UNIT = 2_000
_LEAST_PACKED = 1_000
_LEAST_LINE = 8
"""Characters of a line, without the blanks around it: `}`, `</div>` and `| 0 |` come again for good reasons."""


class Repetition:
    """Looks at the last 50,000 characters of each choice: its text and the arguments of its tool calls."""

    def __init__(self, settings: RepetitionCheckSettings) -> None:
        self._times = settings.times
        self._min_ratio = settings.min_ratio

    async def judge(self, answered: Answered) -> str | None:
        """See `Check`."""
        for said in choices_of(answered.body):
            for text in (said.text, *[arguments for _, arguments in said.calls if isinstance(arguments, str)]):
                why = loop_in(text[-_MOST_CHARS:], times=self._times, min_ratio=self._min_ratio)
                if why is not None:
                    return why
        return None


def loop_in(text: str, *, times: int, min_ratio: float) -> str | None:
    """How a text loops; None when it does not."""
    text = text.rstrip()
    if len(text) < _LEAST_LOOP:
        return None
    if _ends_in_loop(text, times):
        return "it ends in a loop"
    if _same_lines(text, times):
        return "it repeats a line"
    if min_ratio and len(text) >= _LEAST_PACKED and _packs_below(text, min_ratio):
        return "it repeats itself throughout"
    return None


def _ends_in_loop(text: str, times: int) -> bool:
    """Whether the end is the same piece `times` times or more. The last, unfinished one counts as far as it goes.

    The last characters are looked for before themselves: the distance to where they stand is the length of the piece.
    """
    probe = text[-_PROBE:]
    start = max(0, len(text) - _LONGEST_UNIT - _PROBE)
    found = text.rfind(probe, start, len(text) - 1)
    if found < 0:
        return False
    unit = len(text) - _PROBE - found
    looped = max(unit * times, _LEAST_LOOP)
    return looped <= len(text) and text[-looped:-unit] == text[-looped + unit :]


def _same_lines(text: str, times: int) -> bool:
    """Whether one line comes `times` times in a row, blank lines between them aside."""
    before, run = "", 0
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            continue
        run = run + 1 if stripped == before else 1
        before = stripped
        if run >= times and run * len(stripped) >= _LEAST_LOOP and len(stripped) >= _LEAST_LINE:
            return True
    return False


def _packs_below(text: str, ratio: float) -> bool:
    raw = text.encode("utf-8", "surrogatepass")
    return len(zlib.compress(raw, 1)) < ratio * len(raw)
