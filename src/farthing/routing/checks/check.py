"""What a check is."""

from __future__ import annotations

import math
from typing import Protocol

import msgspec

from farthing.types import Json, Request

HOLD_ALL = math.inf
"""A check that can only speak when the answer is complete, and may reject it: nothing reaches the client before."""

ANNOTATE = 0.0
"""A check that rejects no stream: it goes out as it comes, and what the check says of it at the end is told after it."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to look at. `body` is a `chat.completion` object. `whole`: False while a stream goes on and `body` is its beginning."""

    request: Request
    model: str
    body: Json
    whole: bool


class Check(Protocol):
    """Looks at an answer. Never raises: what goes wrong inside is decided by the check's own setting (`on_error: pass | reject`).

    `hold` is how many tokens of a stream are held back for it: `HOLD_ALL`, a number, or `ANNOTATE`. A whole answer is always looked at
    before it is given, whatever `hold` is. A check that holds a number of tokens sees the beginning once it is that long (or the end came
    before), and the whole answer again at the end, where its word is only told.
    """

    name: str
    hold: float

    async def judge(self, answered: Answered) -> str | None:
        """Why the answer is rejected, in a few words without any of its text; None when it passes."""
