"""A check in its place in a cascade: for which models it is, what it is called, and what happens when it cannot tell."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from farthing.routing.checks.check import Answered, Check

_log = logging.getLogger("farthing.routing")
_SAY_AGAIN_S = 600.0


class CannotTell(Exception):
    """A check has no opinion: what it needs is missing, broken or too slow. The message is for the log, without any text of the answer."""


class Kind(Protocol):
    """The work of one kind of check. May raise anything; `CannotTell` where it was foreseen."""

    async def judge(self, answered: Answered) -> str | None:
        """Why the answer is rejected; None when it passes."""


class Undecided:
    """Counts by kind how often checks could not tell, and says so in the log, each check at most every ten minutes."""

    def __init__(self, kinds: tuple[str, ...], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = dict.fromkeys(kinds, 0)
        self._clock = clock
        self._quiet_until: dict[str, float] = {}  # by names of the settings, and kinds: as many as there are

    def note(self, check: Placed, why: str) -> None:
        """One more."""
        self.counts[check.kind] += 1
        now = self._clock()
        if now >= self._quiet_until.get(check.name, now):
            self._quiet_until[check.name] = now + _SAY_AGAIN_S
            _log.warning("the check %s could not tell (its answers %s): %s", check.name, "pass" if check.passes else "are rejected", why)


class Placed:
    """See `Check`. `models`: only their answers are looked at; none: all are. `passes`: what becomes of an answer it cannot tell of.

    `wants_logprobs`: it tells by log-probabilities, which its models are to be asked for.
    """

    def __init__(
        self,
        work: Kind,
        *,
        kind: str,
        name: str | None = None,
        hold: float,
        models: tuple[str, ...] = (),
        passes: bool = True,
        wants_logprobs: bool = False,
        undecided: Undecided,
    ) -> None:
        self.kind = kind
        self.name = name or kind
        self.hold = hold
        self.passes = passes
        self._models = frozenset(models)
        self._wants_logprobs = wants_logprobs
        self._work = work
        self._undecided = undecided

    def wants_logprobs_of(self, model: str) -> bool:
        """Whether a model is to be asked for the log-probabilities of its answer."""
        return self._wants_logprobs and model in self._models

    async def judge(self, answered: Answered) -> str | None:
        """See `Check.judge`."""
        if self._models and answered.model not in self._models:
            return None
        try:
            return await self._work.judge(answered)
        except CannotTell as why:
            self._undecided.note(self, str(why))
        except Exception as error:  # noqa: BLE001 - a check may be wrong; the answer was paid for all the same
            self._undecided.note(self, f"it failed: {type(error).__name__}")
        return None if self.passes else "the check could not tell"


def logprobs_wanted(checks: Iterable[Check], model: str) -> bool:
    """Whether one of the checks wants a model to be asked for log-probabilities."""
    return any(isinstance(check, Placed) and check.wants_logprobs_of(model) for check in checks)
