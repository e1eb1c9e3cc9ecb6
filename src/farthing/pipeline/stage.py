"""A stage is one small async callable: it answers, or enriches the request and calls the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from farthing.types import Answer, Request

Next = Callable[[Request], Awaitable[Answer]]
Stage = Callable[[Request, Next], Awaitable[Answer]]


def compose(stages: Sequence[Stage], last: Next) -> Next:
    """One callable out of stages, the first one outermost, and what ends the chain."""
    for stage in reversed(stages):
        last = partial(_call, stage, last)
    return last


async def _call(stage: Stage, following: Next, request: Request) -> Answer:
    return await stage(request, following)
