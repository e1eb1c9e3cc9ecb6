"""What one verdict means at once for the entry whose answer it is about."""

from __future__ import annotations

from typing import Literal

from farthing.caching.entries import EntryHistory
from farthing.types import Verdict

Consequence = Literal["none", "strict", "dead"]

_FAULTS = 2


def consequence(verdict: Verdict, history: EntryHistory | None) -> Consequence:
    """`history` is what was known of the entry before. `dead`: the entry goes, and everybody it answered is to be listed.

    A wrong answer was served: is the answer bad, or only the match? Nobody can tell from one verdict, and the two mistakes cost unlike:
    a good entry that is killed costs one call of the model, a bad one that lives costs wrong answers.

    | who says that a served answer is wrong | the entry |
    |---|---|
    | correction | dead: somebody wrote what the answer should have been, and has just read the one that is there |
    | thumb, on an entry that never was right | dead: nothing speaks for the answer |
    | thumb, on an entry that was right for others | strict: the match was bad, or the thumb meant something else |
    | shadow, judge: they compare the two answers, and the cached one was as good as the model's when it came | strict: the match is bad |
    | any of them, the second time, unless it was right `_FAULTS` times as often | dead |

    Strict entries serve only what is nearer to them: the posterior of their shift falls. Verdicts that say "same", and those on pairs that
    were only compared, change what is learnt and nothing else.
    """
    if verdict.same or not verdict.served:
        return "none"
    if verdict.by == "correction":
        return "dead"
    right, faults = (history.right, history.wrong) if history else (0, 0)
    if faults + 1 >= _FAULTS and right < _FAULTS * (faults + 1):
        return "dead"
    return "dead" if verdict.by == "thumb" and right == 0 else "strict"
