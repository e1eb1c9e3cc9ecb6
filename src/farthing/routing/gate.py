"""The gate: nothing that a check may still reject goes to the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial

import msgspec

from farthing.pipeline.tokens import BYTES_PER_TOKEN
from farthing.routing.attempt import Ending, Running
from farthing.routing.checks.check import HOLD_ALL, Answered, Check
from farthing.types import Json, Operation

PASSED = "passed"
FAILED = "failed"
UNCHECKED = "unchecked"
"""The checks could not speak: the answer was too long to hold, or they took too long."""

_log = logging.getLogger("farthing.routing")
_Numbered = tuple[int, Check]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks say of an answer.

    `checks` is as in `types.Answer`. `failed` is the place among the checks of the one that rejected it; None: it may be given.
    `ending`: the stream goes on, and they have yet to speak of all of it.
    """

    checks: str | None = None
    failed: int | None = None
    ending: Ending | None = None


class Gate:
    """Holds an answer until all checks have spoken that may reject it.

    A stream that grows beyond `max_held_bytes` goes out unchecked. Checks of one answer have `timeout_s` together; beyond that, or when
    one raises, which none should, the answer counts as unchecked too, which is as good as passed.
    """

    def __init__(self, *, max_held_bytes: int, timeout_s: float) -> None:
        self._max_held_bytes = max_held_bytes
        self._timeout_s = timeout_s

    async def look(self, checks: Sequence[Check], attempt: Running) -> Verdict:
        """See what the checks say of an attempt that has begun. Raises what the provider raises while the stream is held."""
        if not checks or attempt.request.operation is not Operation.CHAT:
            return Verdict()
        numbered = list(enumerate(checks))
        if attempt.whole:
            return await self._judge(numbered, attempt, whole=True)
        try:
            return await self._hold(numbered, attempt)
        except BaseException:
            await attempt.close()
            raise

    async def _hold(self, checks: list[_Numbered], attempt: Running) -> Verdict:
        rejecting = [one for one in checks if one[1].hold > 0]
        marks = sorted({check.hold for _, check in rejecting}, reverse=True)
        beginning = list(attempt.held)
        attempt.held.clear()
        said = 0
        for chunk in beginning:
            assert not isinstance(chunk, bytes)
            attempt.hold(chunk)
            said += _bytes_said(chunk)
        while marks:
            while marks and said >= marks[-1] * BYTES_PER_TOKEN:
                mark = marks.pop()
                verdict = await self._judge([one for one in rejecting if one[1].hold == mark], attempt, whole=False)
                if verdict.checks != PASSED:
                    return verdict
            if not marks:
                break
            if attempt.held_bytes > self._max_held_bytes:
                return Verdict(checks=UNCHECKED)
            read = await attempt.read()
            if read is None:
                return await self._at_the_end(checks, attempt)
            attempt.hold(read)
            if marks[-1] != HOLD_ALL:
                said += _bytes_said(read)
        return Verdict(ending=partial(self._ending, checks, attempt))

    async def _at_the_end(self, checks: list[_Numbered], attempt: Running) -> Verdict:
        """Of a stream that was held to its end. Those who only annotate are asked when no other rejects it."""
        verdict = await self._judge([one for one in checks if one[1].hold > 0], attempt, whole=True)
        annotating = [one for one in checks if not one[1].hold > 0]
        if verdict.checks != PASSED or not annotating:
            return verdict
        return Verdict(checks=(await self._judge(annotating, attempt, whole=True)).checks)

    async def _ending(self, checks: list[_Numbered], attempt: Running) -> str | None:
        return (await self._judge(checks, attempt, whole=True)).checks

    async def _judge(self, checks: Iterable[_Numbered], attempt: Running, *, whole: bool) -> Verdict:
        """The first rejection counts."""
        answered = Answered(request=attempt.request, model=attempt.deployment.model, body=attempt.body(), whole=whole)
        try:
            async with asyncio.timeout(self._timeout_s):
                for number, check in checks:
                    if await check.judge(answered) is not None:
                        return Verdict(checks=f"{FAILED}:{check.name}", failed=number)
        except TimeoutError:
            _log.warning("the checks of a request to %s were not done within %g s", attempt.deployment.model, self._timeout_s)
            return Verdict(checks=UNCHECKED)
        except Exception:  # noqa: BLE001 - a broken check costs quality, never an answer
            _log.exception("a check raised, which none may")
            return Verdict(checks=UNCHECKED)
        return Verdict(checks=PASSED)


def _bytes_said(chunk: Json) -> int:
    """How much of an answer a chunk brings: its text, of all kinds, in bytes."""
    return sum(_texts(choice.get("delta")) for choice in chunk["choices"])


def _texts(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, list):
        return sum(map(_texts, value))
    if isinstance(value, dict):
        return sum(_texts(item) for name, item in value.items() if name not in {"role", "type", "id"})
    return 0
