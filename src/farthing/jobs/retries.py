"""What becomes of an item that failed: a pure decision."""

from __future__ import annotations

from farthing.errors import FarthingError
from farthing.types import Ending, Lease

LONGEST_PAUSE_S = 3600.0
_MOST_ERROR = 1000
"""Characters that are kept of an error."""


def after(lease: Lease, error: BaseException, dice: float) -> Ending:
    """Tried again, later each time, while there are attempts left and a retry may help.

    Exponential backoff with equal jitter: half of the pause is certain, half is by `dice` (0 to 1). See Brooker, "Exponential backoff and
    jitter", AWS Architecture Blog, 2015. Where the error says how long to wait, it is at least that.
    """
    said = _said(error)
    hopeless = isinstance(error, FarthingError) and error.retry is False
    if hopeless or lease.item.attempt >= lease.attempts:
        return Ending(lease=lease, state="failed", error=said)
    pause = min(lease.backoff_s * 2.0 ** min(lease.item.attempt - 1, 60), LONGEST_PAUSE_S)
    asked = min((isinstance(error, FarthingError) and error.retry_after_s) or 0.0, LONGEST_PAUSE_S)
    return Ending(lease=lease, state="retry", error=said, delay_s=max(pause * (1 + dice) / 2, asked))


def _said(error: BaseException) -> str:
    text = error.message if isinstance(error, FarthingError) else f"{type(error).__name__}: {error}"
    return text[:_MOST_ERROR]
