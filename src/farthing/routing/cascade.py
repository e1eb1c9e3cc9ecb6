"""The cascade: one model after the other until the answer of one passes the checks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from farthing.errors import FarthingError, RateLimited
from farthing.ports import Meter
from farthing.routing.attempt import Course, Ending, Rejected, Running
from farthing.routing.choice import Choice
from farthing.routing.gate import FAILED, PASSED, UNCHECKED, Gate, Verdict
from farthing.types import Answer, Request

Observed = Callable[[Request, str, str], None]
"""Called for each answer that was checked: the request, the model (catalogue name), what the checks said (see `types.Answer`)."""

_log = logging.getLogger("farthing.routing")

Look = Callable[[Running], Awaitable[Verdict]]


class Ask(Protocol):
    """Asks a model by all its deployments and fallbacks, until an attempt has an answer that was looked at. See `dispatch.Dispatch.ask`."""

    async def __call__(self, course: Course, model: str, route: str, look: Look, *, last: bool, spare: bool) -> tuple[Running, Verdict]:
        """`last`: the request ends in an error when this one fails. `spare`: there is an answer to give instead."""


class Cascade:
    """Gives the first answer that passes, or else the best one: that which came furthest through the checks, of the stronger model.

    When a later model fails altogether, the best answer so far is given instead of an error. A stream that was rejected by its beginning is
    cut off there, so that it cannot be given any more. `said` counts what the checks said.
    """

    def __init__(self, ask: Ask, meter: Meter, gate: Gate, observed: Observed | None) -> None:
        self._ask = ask
        self._meter = meter
        self._gate = gate
        self._observed = observed
        self.said = dict.fromkeys((PASSED, FAILED, UNCHECKED), 0)

    async def __call__(self, course: Course, choice: Choice) -> Answer:
        """Answer a request. Nothing has gone to the client when this raises."""
        look = partial(self._gate.look, choice.checks)
        best: Rejected | None = None
        reach = -1
        for at, model in enumerate(choice.models):
            last = at + 1 == len(choice.models)
            route = choice.route if at == 0 else "cascade"
            try:
                attempt, verdict = await self._ask(course, model, route, look, last=last and best is None, spare=best is not None)
            except FarthingError as error:
                if last or isinstance(error, RateLimited):
                    if best is None:
                        raise
                    break
                continue
            failed = verdict.failed
            if failed is None or verdict.checks is None or (last and failed >= reach):
                return self._give(attempt, verdict)
            self._observe(attempt, verdict.checks)
            rejected = attempt.reject(verdict.checks)
            await attempt.close()
            if attempt.whole and failed >= reach:
                best, reach = rejected, failed
        assert best is not None
        return self._give_after_all(course.request, best)

    def _give(self, attempt: Running, verdict: Verdict) -> Answer:
        if verdict.ending is not None:
            return attempt.give(None, partial(self._ended, attempt, verdict.ending))
        if verdict.checks is not None:
            self._observe(attempt, verdict.checks)
        return attempt.give(verdict.checks)

    async def _ended(self, attempt: Running, ending: Ending) -> str | None:
        checks = await ending()
        if checks is not None:
            self._observe(attempt, checks)
        return checks

    def _give_after_all(self, request: Request, best: Rejected) -> Answer:
        """An earlier answer. All attempts are recorded, and none is final: the request is settled by an entry of its own."""
        answer = best.answer()
        saved = answer.saved_microusd
        answer.saved_microusd = best.worth
        request.recorded = True
        self._meter.outcome(request, answer, None)
        answer.saved_microusd = saved
        return answer

    def _observe(self, attempt: Running, checks: str) -> None:
        self.said[checks.partition(":")[0]] += 1
        if self._observed is None:
            return
        try:
            self._observed(attempt.request, attempt.deployment.model, checks)
        except Exception:  # noqa: BLE001 - the attempt must be recorded whatever an observer makes of it
            _log.exception("what the checks said could not be told")
