"""A stage is one small async callable: it answers, or enriches the request and calls the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from farthing.types import Answer, Request

Next = Callable[[Request], Awaitable[Answer]]
Stage = Callable[[Request, Next], Awaitable[Answer]]


def compose(stages: Sequence[Stage], last: Next) -> Next:
    """One callable out of stages, the first one outermost, and what ends the chain."""
    for stage in reversed(stages):
        last = _before(last, stage)
    return last


def _before(following: Next, stage: Stage) -> Next:
    """Not a coroutine of its own: each one on the way is gone through again whenever the request waits."""
    return lambda request: stage(request, following)
